"""Writing files so that they are complete or absent, and the names of files and folders."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import shutil
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dsm.untrusted import read_json


@contextmanager
def written_aside(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder, and rename it to ``path`` at the end.

    After an error or an interruption ``path`` is as it was before, and the temporary file is gone.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield aside
        os.replace(aside, path)
    except OSError as error:
        _name(error, aside, path)
        raise
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def written_aside_folder(folder: Path) -> Iterator[Path]:
    """Like :func:`written_aside`, for a folder that does not exist yet."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        yield aside
        os.replace(aside, folder)
    except OSError as error:
        _name(error, aside, folder)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _name(error: OSError, aside: Path, meant: Path) -> None:
    """Put the real name into an error: a full disk gives none, and users do not know the temporary one."""
    if error.filename in (None, str(aside)):
        error.filename = str(meant)


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file, completely or not at all."""
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def read_object(file: Path) -> dict[str, Any] | None:
    """Read a JSON object from a file; None if the file is missing or holds something else."""
    try:
        found = read_json(file)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def json_text(value: Any, *, indent: int | None = None) -> str:
    """JSON that every reader accepts: NaN and infinity, which JSON does not have, become null."""
    try:
        return json.dumps(value, indent=indent, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def csv_text(lines: Sequence[Sequence[str]], delimiter: str = ",") -> str:
    """Rows of cells as comma-separated values, quoted where necessary."""
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(lines)
    return text.getvalue()


def is_dir(path: str | Path) -> bool:
    """Whether the folder exists; False (not an error) if access is denied or the name is too long."""
    return os.path.isdir(path)  # noqa: PTH112


def is_file(path: str | Path) -> bool:
    """Like :func:`is_dir`, for a file."""
    return os.path.isfile(path)  # noqa: PTH113


_SYSTEM = frozenset(
    ("__macosx", "$recycle.bin", "system volume information", "lost+found", "@eadir", "#recycle", "#snapshot",
     "@recycle", "@recently-snapshot", "thumbs.db", "ehthumbs.db", "desktop.ini", "recycler",
     "found.000", "__pycache__", "icon\r")
)  # fmt: skip
"""Names, in lower case, that operating systems, network drives and tools leave in folders."""


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is never data; names that begin with a dot never are."""
    return name.startswith(".") or name.lower() in _SYSTEM


def one_spelling(name: str) -> str:
    """A name with composed accents: one letter é rather than e and an accent, which look the same."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def as_spelled(path: Path) -> Path:
    """A path as the disk spells it: some systems store é as one character, others as e and an accent.

    A path that exists in neither spelling is returned unchanged.
    """
    if str(path).isascii() or os.path.lexists(path):
        return path
    found = Path(path.anchor)
    for part in path.parts[1:] if path.anchor else path.parts:
        spellings = (part, *(unicodedata.normalize(form, part) for form in ("NFC", "NFD")))
        there = next((one for one in spellings if os.path.lexists(found / one)), None)
        if there is None:
            return path
        found /= there
    return found


def printable(name: str) -> str:
    """A file name that any terminal can show, even if it is not valid UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def empty_folder(folder: Path) -> None:
    """Remove everything in a folder but keep the folder itself, which may be a link to another disk."""
    for child in folder.iterdir():
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        else:
            child.unlink()
