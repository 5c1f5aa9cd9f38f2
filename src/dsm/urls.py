"""Names of objects in storage: URLs such as ``s3://bucket/folder/clip.mp4``.

A URL is passed around as a ``Path``, like a file name; ``Path`` writes it with one slash,
``s3:/bucket/folder/clip.mp4``. Only ``dsm.storage`` opens URLs.
"""

from __future__ import annotations

import re
from pathlib import Path

from dsm.errors import UserError

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)  # C:/ is a drive


def is_url(path: str | Path) -> bool:
    """Whether a path names an object in storage rather than a file."""
    return _URL.match(str(path)) is not None


def url_of(path: str | Path) -> str | None:
    """The URL that a path stands for, with both slashes; None for the path of a file."""
    match = _URL.match(str(path))
    return f"{match[1].lower()}://{match[2]}" if match else None


def shown(path: str | Path) -> str:
    """A path or URL for messages."""
    return url_of(path) or str(path)


def absolute(path: str | Path) -> str:
    """An absolute path; URLs are unchanged."""
    return url_of(path) or str(Path(path).absolute())


def named(root: str, path: str) -> str:
    """The name of a file: ``path``, if it is relative, within ``root``; either may be a URL."""
    alone = not root or path.startswith("/") or is_url(path) or Path(path).is_absolute()
    return path if alone else f"{root}/{path}"


def joined(folder: Path, name: str) -> Path:
    """The path of ``name``, relative to ``folder``; either may be a URL.

    Raises:
        UserError: the folder is a URL, and the name is a file on this machine, or above its host or bucket.
    """
    if is_url(name):
        return Path(name)
    if not is_url(folder):
        return folder / name
    if Path(name).is_absolute() or name.startswith("~"):
        raise UserError(
            f"{shown(folder)}: a list there names {name}, a file on this machine; a list read by URL may "
            "name only URLs and paths relative to it."
        )
    scheme, *parts = (folder / name).parts
    kept: list[str] = []
    for part in parts:
        if part != "..":
            kept.append(part)
        elif len(kept) > 1:
            kept.pop()
        else:
            raise UserError(f"{shown(folder)}: a list there names {name}, which is above its host or bucket.")
    return Path(scheme, *kept)
