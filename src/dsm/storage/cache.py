"""The object cache on the local disk: files are complete or absent, and the least recently used are removed.

Several processes and several runs share the folder. A file is written under another name and renamed. Its
name is a hash of the URL, the version and the size, so a URL cannot name a file elsewhere, and a changed
object becomes another file. A file in use is locked (``flock``) or open, and stays readable.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from dsm.errors import UserError
from dsm.files import PART, written_aside
from dsm.locks import CAN_LOCK
from dsm.storage.client import Facts, StorageError

if CAN_LOCK:
    import fcntl

FOLDER, GB = "DSM_CACHE_FOLDER", "DSM_CACHE_GB"
"""Environment variables, so that worker processes use the same cache."""
OWN = "DSM_CACHE_OWN"
"""The same for a number drawn at random, which stands for the version of objects without one."""
DEFAULT_GB = 20.0
ENDING = ".object"
FRESH = 60.0
"""Seconds within which a file's last use is not updated again."""
_SLACK = 0.05
"""Share of the cache that a process writes before it checks the whole folder again."""


def set_cache(folder: Path | None, gigabytes: float | None) -> None:
    """Set the folder and size of the cache, for this process and its children; None keeps them."""
    if folder is not None:
        os.environ[FOLDER] = str(folder.absolute())
    if gigabytes is not None:
        os.environ[GB] = repr(float(gigabytes))


def cache_folder() -> Path:
    if given := os.environ.get(FOLDER):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dsm" / "objects"


def forget_own() -> None:
    """Fetch objects without a version again."""
    os.environ[OWN] = secrets.token_hex()


def cache_bytes() -> int:
    """The maximum size of the cache in bytes."""
    given = os.environ.get(GB) or DEFAULT_GB
    try:
        size = int(float(given) * 1e9)
    except (ValueError, OverflowError):
        size = 0
    if size < 1:
        raise UserError(f"{GB}={given}: must be the size of the object cache in GB, such as {GB}=20.")
    return size


def place_of(url: str, facts: Facts, part: int | None = None) -> Path:
    """The file of an object, or of a part of it.

    If the store tells no version, the file is of this process and its children: later the object may be
    another of the same size.
    """
    version = facts.version or os.environ.setdefault(OWN, secrets.token_hex())
    identity = f"{url}\n{version}\n{facts.size}"
    name = hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()
    return cache_folder() / f"{name}{'' if part is None else f'.{part:08d}'}{ENDING}"


def write(file: Path, size: int, fill: Callable[[BinaryIO], None]) -> None:
    """Write a file of ``size`` bytes, completely or not at all; make room for it first.

    Raises:
        StorageError: it cannot be written. Also whatever ``fill`` raises.
    """
    try:
        _write(file, size, fill)
    except FileNotFoundError as error:
        if error.errno is None:  # there is no such object
            raise
        raise _unusable(file, error) from None
    except OSError as error:  # a fault of the disk, not of the object
        raise _unusable(file, error) from None


def _unusable(file: Path, error: OSError) -> StorageError:
    return StorageError(
        f"{file.parent}: the object cache cannot be used ({error.strerror}); free some space, or choose "
        f"another folder with --data.cache-folder or {FOLDER}."
    )


def _write(file: Path, size: int, fill: Callable[[BinaryIO], None]) -> None:
    folder = file.parent
    folder.mkdir(0o700, parents=True, exist_ok=True)  # objects may be private
    _make_room(folder, size)
    with written_aside(file) as aside, aside.open("wb") as opened:
        fill(opened)
        opened.flush()
        if opened.tell() != size:
            raise StorageError(f"{file}: {opened.tell()} bytes were written instead of {size}.")
        os.fsync(opened.fileno())  # a crash of the machine must not leave a renamed file without content


def used(file: Path) -> None:
    """Note that a file was used."""
    with suppress(OSError):
        if time.time() - file.stat().st_mtime > FRESH:
            os.utime(file)


@contextmanager
def held(file: Path, size: int) -> Iterator[bool]:
    """Keep a file from being removed while the block runs; False if it is missing or incomplete."""
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except OSError:
        yield False
        return
    try:
        if CAN_LOCK:
            with suppress(OSError):  # a disk without locks
                fcntl.flock(descriptor, fcntl.LOCK_SH)
        facts = os.fstat(descriptor)
        complete = facts.st_size == size and facts.st_nlink > 0
        if complete:
            used(file)
        yield complete
    finally:
        os.close(descriptor)


_written: dict[tuple[int, Path], int] = {}
"""Bytes that this process has written to a folder since it last checked the whole folder."""


def _make_room(folder: Path, size: int) -> None:
    most = cache_bytes()
    if size > most:
        raise StorageError(
            f"an object of {size / 1e9:.3g} GB does not fit into the cache of {most / 1e9:.3g} GB; raise "
            f"--data.cache-gb, or {GB}."
        )
    key = (os.getpid(), folder)
    written = _written.get(key, most) + size
    if written <= most * _SLACK:
        _written[key] = written
        return
    _written[key] = 0
    files = []
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith((ENDING, PART)):
                with suppress(OSError):
                    facts = entry.stat(follow_symlinks=False)
                    files.append((facts.st_mtime, facts.st_size, entry.path))
    total = sum(one for _, one, _ in files) + size
    room = most * (1 - 2 * _SLACK)
    for _, one, path in sorted(files):
        if total <= room:
            break
        if path.endswith(ENDING) and _removed(path):
            total -= one


def _removed(path: str) -> bool:
    """Remove a file, unless it is in use."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        if CAN_LOCK:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            except OSError:  # a disk without locks
                pass
        os.unlink(path)  # noqa: PTH108
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
