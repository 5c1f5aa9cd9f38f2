"""Writes files so that they are complete or absent, and handles names of files and folders."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import re
import shutil
import socket
import threading
import time
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from dsm.untrusted import read_json, read_text


@contextmanager
def written_aside(path: str | Path, *, lasting: bool = False) -> Iterator[Path]:
    """Yield a temporary path in the same folder, and rename it to ``path`` at the end.

    With ``lasting``, the file is on the disk at the end, even if the power fails then, and the files that it
    replaces may be removed.

    After an error or an interruption, ``path`` is unchanged and the temporary file is gone. A temporary file
    that a killed process left behind is removed at the next write to the folder.
    """
    path = Path(path)
    aside = _aside(path)
    try:
        yield aside
        if lasting:
            _to_disk(aside)
        os.replace(aside, path)
        if lasting:
            with suppress(OSError):  # not all file systems can do this for a folder
                _to_disk(path.parent)
    except OSError as error:
        raise _with_real_name(error, aside, path) from None
    finally:
        with suppress(OSError):  # an unwritable disk fails here again, for the temporary file
            aside.unlink()


def _to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk, not only in the system's memory."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


@contextmanager
def written_aside_folder(folder: Path) -> Iterator[Path]:
    """Like :func:`written_aside`, for a folder that does not exist yet."""
    aside = _aside(folder)
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir()
        yield aside
        os.replace(aside, folder)
    except OSError as error:
        raise _with_real_name(error, aside, folder) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


PART = ".dsm-part"
"""Suffix of dsm's temporary files; those of other programs are never removed."""
_PART = re.compile(rf"\..+\.(?P<machine>[^.]+)\.(?P<process>\d+){PART}", re.DOTALL)
ABANDONED = 3600
"""A temporary file of another machine counts as abandoned after this many seconds without a change."""
_swept: set[tuple[int, Path]] = set()
"""Folders in which this process has already looked for abandoned files."""


def _aside(path: Path) -> Path:
    """The temporary name of a path, which includes its owner; creates the folder, and sweeps it once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if (os.getpid(), path.parent) not in _swept:
        _swept.add((os.getpid(), path.parent))
        sweep(path.parent)
    name = path.name
    if len(os.fsencode(name)) > 150:  # file systems allow 255 bytes
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    if threading.current_thread() is not threading.main_thread():  # two threads may write the same file
        name = f"{name}-{threading.get_ident()}"
    return path.with_name(f".{name}.{_machine()}.{os.getpid()}{PART}")


@cache
def _machine() -> str:
    """An id of this machine or container, within which process numbers are unique."""
    name = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:40]
    try:
        return f"{name}-{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:  # not Linux
        return name


def sweep(folder: Path) -> None:
    """Remove the temporary files and folders whose owners were killed."""
    try:
        with os.scandir(folder) as entries:
            parts = [(entry, match) for entry in entries if (match := _PART.fullmatch(entry.name))]
        for entry, match in parts:
            if not _is_owned(match["machine"], int(match["process"]), entry):
                path = Path(entry.path)
                shutil.rmtree(path) if entry.is_dir(follow_symlinks=False) else path.unlink()
    except OSError:  # unreadable or unwritable: the caller's write reports that
        return


def _is_owned(machine: str, process: int, entry: os.DirEntry[str]) -> bool:
    if machine != _machine():
        return time.time() - entry.stat(follow_symlinks=False).st_mtime < ABANDONED
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's
        return True
    return True


def remove(path: Path) -> None:
    """Remove a file or a whole folder; a link, but not what it leads to.

    A folder vanishes at once: even if killed, this never leaves a folder with only some of its files.
    """
    if path.is_dir() and not path.is_symlink():
        aside = _aside(path)
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(path, aside)
        shutil.rmtree(aside)
    else:
        path.unlink(missing_ok=True)


def _with_real_name(error: OSError, aside: Path, meant: Path) -> OSError:
    """The error with the real file name, instead of no name (a full disk) or the temporary one."""
    if not error.errno:
        return error
    if error.filename is None:
        return OSError(error.errno, error.strerror, str(meant))
    named = Path(os.fsdecode(error.filename)) if isinstance(error.filename, (str, bytes)) else error.filename
    for one in (aside, aside.absolute()):
        if isinstance(named, Path) and named.is_relative_to(one):
            return OSError(error.errno, error.strerror, str(meant / named.relative_to(one)))
    return error


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file, completely or not at all."""
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file, completely or not at all.

    Not all libraries that write pictures notice if a full disk takes only a part of them.
    """
    with written_aside(path) as aside:
        aside.write_bytes(content)


def read_object(file: Path) -> dict[str, Any] | None:
    """Read a JSON object from a file; None if the file is missing or contains something else."""
    try:
        value = read_json(file)
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


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


def csv_rows(file: Path) -> list[dict[str, str]]:
    """The rows of a comma-separated table whose first line names the columns; missing cells are empty.

    Raises:
        ValueError: it is not such a table.
    """
    text = read_text(file, encoding="utf-8-sig", newline="")
    try:
        return list(csv.DictReader(io.StringIO(text, newline=""), restval=""))
    except csv.Error as error:
        raise ValueError(f"not a table ({error})") from None


def is_dir(path: str | Path) -> bool:
    """Whether the folder exists; False (not an error) if access is denied or the name is too long."""
    return os.path.isdir(path)  # noqa: PTH112


def is_file(path: str | Path) -> bool:
    """Like :func:`is_dir`, for a file."""
    return os.path.isfile(path)  # noqa: PTH113


_SYSTEM = frozenset(
    ("__macosx", "$recycle.bin", "system volume information", "lost+found", "@eadir", "#recycle", "#snapshot",
     "@recycle", "@recently-snapshot", "@tmp", "thumbs.db", "thumbs.db:encryptable", "ehthumbs.db",
     "desktop.ini", "recycler", "found.000", "lost.dir", "network trash folder", "temporary items",
     "__pycache__", "icon\r")
)  # fmt: skip
"""Names, in lower case, of files and folders left by operating systems, network drives and tools."""
_UNFINISHED = (
    ".part", ".partial", ".crdownload", ".download", ".opdownload", ".aria2", ".ytdl", ".tmp", ".bak", "~",
)  # fmt: skip
"""File endings of incomplete downloads and copies, and of backups."""


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is never data; names that begin with a dot never are."""
    lower = name.lower()
    return name.startswith((".", "~$")) or lower in _SYSTEM or lower.endswith(_UNFINISHED)


def one_spelling(name: str) -> str:
    """A name with composed accents: one character é rather than e and an accent, which look the same."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def as_spelled(path: Path) -> Path:
    """A path as spelled on disk: some systems store é as one character, others as e and an accent.

    A path that exists in neither spelling is returned unchanged.
    """
    if str(path).isascii() or os.path.lexists(path):
        return path
    spelled = Path(path.anchor)
    for part in path.parts[1:] if path.anchor else path.parts:
        spellings = (part, *(unicodedata.normalize(form, part) for form in ("NFC", "NFD")))
        existing = next((one for one in spellings if os.path.lexists(spelled / one)), None)
        if existing is None:
            return path
        spelled /= existing
    return spelled


def printable(name: str) -> str:
    """A file name that any terminal can show, even if it is not valid UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def empty_folder(folder: Path, marker: str = "") -> None:
    """Remove everything in a folder but keep the folder itself, which may be a link to another disk.

    Args:
        marker: the file that identifies the folder's owner, removed last.
    """
    for child in sorted(folder.iterdir(), key=lambda child: child.name == marker):
        remove(child)
