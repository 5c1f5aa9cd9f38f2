"""Files that are whole or not there at all, and folders that are emptied with care."""

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


@contextmanager
def written_aside(path: str | Path) -> Iterator[Path]:
    """A path to write to, in the same folder, that is renamed to ``path`` at the end.

    An error or a stop in the middle leaves ``path`` as it was, and nothing else behind.
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
    """As :func:`written_aside`, for a folder that is not there yet."""
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
    """Of a full disk an error does not say where; and nobody knows the name aside."""
    if error.filename in (None, str(aside)):
        error.filename = str(meant)


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file whole or not at all."""
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def read_object(file: Path) -> dict[str, Any] | None:
    """What a JSON file holds by name; None where there is no such file, or something else has its place."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def json_text(value: Any, *, indent: int | None = None) -> str:
    """JSON that every reader takes: numbers that are not finite, which it does not have, are null."""
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
    """Lines of cells as comma-separated values, quoted where they must be."""
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(lines)
    return text.getvalue()


def is_dir(path: str | Path) -> bool:
    """Whether there is a folder; no, where one may not look or the name is too long (Path.is_dir raises)."""
    return os.path.isdir(path)  # noqa: PTH112


def is_file(path: str | Path) -> bool:
    """As :func:`is_dir`, of a file."""
    return os.path.isfile(path)  # noqa: PTH113


_SYSTEM = frozenset(
    ("__macosx", "$recycle.bin", "system volume information", "lost+found", "@eadir", "#recycle", "#snapshot",
     "@recycle", "@recently-snapshot", "thumbs.db", "ehthumbs.db", "desktop.ini", "recycler",
     "found.000", "__pycache__", "icon\r")
)  # fmt: skip
"""What systems, shared disks and tools leave in folders, in lower case; and whatever begins with a dot."""


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is never data."""
    return name.startswith(".") or name.lower() in _SYSTEM


def one_spelling(name: str) -> str:
    """A name with its accents composed: e and an accent, or one letter, is the same to who reads it."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def as_spelled(path: Path) -> Path:
    """A path as the disk spells it: é is one letter on one system, and e with an accent on another.

    What is not there in any spelling comes back as it is.
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
    """A file's name as any terminal can show it, also one that is no UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def empty_folder(folder: Path) -> None:
    """Remove what is in a folder; the folder stays, as it may be a link to another disk."""
    for child in folder.iterdir():
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        else:
            child.unlink()
