"""Turns paths into bytes: files are read directly, objects through the cache.

:func:`at_hand` provides a whole object as a local file, for FFmpeg and for lists. :func:`read_pieces` reads
parts, for packs: objects are fetched in blocks of 4 MiB, so a clip costs one or two requests, and its block
also has the next clips of that video. Either way, all bytes come from one version, and as many as the store
promised.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

from dsm.files import is_file
from dsm.limits import OBJECT_BYTES
from dsm.storage import cache
from dsm.storage.client import (
    AccessError,
    ChangedError,
    Facts,
    StorageError,
    check_unchanged,
    get_bytes,
    get_facts,
    most_seconds,
)
from dsm.urls import is_url, shown, url_of

BLOCK = 2**22
"""Bytes of a block, and of a request."""
_CHANGES = 3
"""How often an object may change while it is read."""

_known: dict[str, Facts] = {}
"""Facts of objects, requested once per process: a run reads one version of its data."""


def facts_of(path: str | Path) -> Facts:
    """Size and version of a file or object.

    Raises:
        OSError: there is no such file. StorageError: the store failed.
    """
    url = url_of(path)
    if url is None:
        status = Path(path).stat()
        return Facts(status.st_size, status.st_mtime_ns)
    if url not in _known:
        _known[url] = get_facts(url)
    return _known[url]


def exists(path: str | Path) -> bool:
    """Whether there is such a file or object. Raises StorageError if the store failed."""
    if not is_url(path):
        return is_file(path)
    try:
        facts_of(path)
    except FileNotFoundError:
        return False
    return True


def forget(*paths: str | Path) -> None:
    """Request the facts and content of objects again when they are next read."""
    for url in filter(None, map(url_of, paths)):
        if facts := _known.pop(url, None):
            for part in range(-(-facts.size // BLOCK)):
                cache.place_of(url, facts, part).unlink(missing_ok=True)
            cache.place_of(url, facts).unlink(missing_ok=True)


def forget_all() -> None:
    """Request the facts of all objects again, and the content of those without a version."""
    _known.clear()
    cache.forget_own()


def seconds_to_fetch(path: str | Path) -> float:
    """Seconds within which a whole object has been fetched or has failed; 0 for a file."""
    if not is_url(path):
        return 0.0
    size = facts_of(path).size
    return (2 + size // BLOCK) * most_seconds(0) + most_seconds(size)


@contextmanager
def at_hand(path: str | Path, most: int = OBJECT_BYTES) -> Iterator[Path]:
    """A local file with the content of a file or object; it is kept while the block runs.

    Args:
        most: largest size of an object in bytes.

    Raises:
        FileNotFoundError: there is no such object; files are not checked.
        StorageError: it cannot be read, or is too large.
    """
    url = url_of(path)
    if url is None:
        yield Path(path)
        return
    for _ in range(_CHANGES + 1):
        facts = facts_of(url)
        _check_size(url, facts, most)
        file = cache.place_of(url, facts)
        with cache.held(file, facts.size) as there:
            if there:
                yield file
                return
        try:
            cache.write(file, facts.size, partial(_copy, url, facts))
        except ChangedError:
            _known.pop(url, None)
    raise _unsteady(url)


def fetch(url: str, file: Path) -> None:
    """Write an object to a file, bypassing the cache.

    Raises:
        FileNotFoundError: there is no such object. StorageError: it cannot be read, or is too large.
    """
    for _ in range(_CHANGES + 1):
        facts = get_facts(url)
        _check_size(url, facts, OBJECT_BYTES)
        with suppress(ChangedError), file.open("wb") as out:
            _copy(url, facts, out)
            return
    raise _unsteady(url)


def _check_size(url: str, facts: Facts, most: int) -> None:
    if facts.size > most:
        raise StorageError(f"{url}: has {facts.size} bytes, but dsm reads at most {most} here.")


def _unsteady(url: str) -> StorageError:
    return StorageError(f"{url}: keeps changing while it is read; wait until it is complete.")


def _copy(url: str, facts: Facts, out: BinaryIO) -> None:
    for begin in range(0, facts.size, BLOCK):
        out.write(get_bytes(url, begin, min(begin + BLOCK, facts.size), facts))
    check_unchanged(url, facts)


def _put(content: bytes, out: BinaryIO) -> None:
    out.write(content)


def read_bytes(path: str | Path, most: int = OBJECT_BYTES) -> bytes:
    """The whole content. Raises as :func:`at_hand`, and OSError."""
    with at_hand(path, most) as file:
        size = file.stat().st_size
        if size > most:
            raise StorageError(f"{shown(path)}: has {size} bytes, but dsm reads at most {most} here.")
        return file.read_bytes()


def read_optional(path: str | Path, most: int) -> bytes | None:
    """The content of an optional file; None if it does not exist.

    Some stores deny access to missing objects, so denied access counts as missing too; required files have
    already been read from the same place.
    """
    try:
        return read_bytes(path, most) if exists(path) else None
    except AccessError:
        return None


def read_pieces(path: str | Path, pieces: Sequence[tuple[int, memoryview]]) -> None:
    """Fill each buffer with the bytes from its position on.

    Raises:
        OSError: there is no such file or object. EOFError: it is shorter.
        StorageError: it cannot be read. ChangedError: an object is no longer what :func:`facts_of` says.
    """
    url = url_of(path)
    if url is None:
        with Path(path).open("rb") as file, _mapped(file) as content:
            for begin, into in pieces:
                _copy_part(content, begin, into)
        return
    facts = facts_of(url)
    if any(begin + len(into) > facts.size for begin, into in pieces):
        raise EOFError
    numbers = sorted(
        {
            number
            for begin, into in pieces
            for number in range(begin // BLOCK, (begin + max(len(into), 1) - 1) // BLOCK + 1)
        }
    )
    with closing(_Blocks()) as blocks:
        blocks.open(url, facts, numbers)
        for begin, into in pieces:
            done = 0
            while done < len(into):
                number, offset = divmod(begin + done, BLOCK)
                size = min(BLOCK - offset, len(into) - done)
                blocks.fill(number, offset, into[done : done + size])
                done += size


@contextmanager
def _mapped(file: BinaryIO) -> Iterator[memoryview]:
    """The content of an open file, memory-mapped: copying from a map takes fewer system calls than reading.

    It is mapped for one read only: pages of a lasting map would count as memory of the process.
    """
    if not os.fstat(file.fileno()).st_size:
        yield memoryview(b"")
        return
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as content:
        yield content


def _copy_part(content: memoryview, begin: int, into: memoryview) -> None:
    if begin + len(into) > len(content):
        raise EOFError
    into[:] = content[begin : begin + len(into)]


class _Blocks:
    """Some blocks of an object: maps of files in the cache, or blocks in memory that were just fetched."""

    def __init__(self) -> None:
        self._content: dict[int, memoryview] = {}
        self._open = ExitStack()

    def open(self, url: str, facts: Facts, numbers: Sequence[int]) -> None:
        """Open the blocks with these numbers, and fetch those that the cache lacks."""
        fetched: dict[int, bytes] = {}
        for number in numbers:
            begin, end = number * BLOCK, min((number + 1) * BLOCK, facts.size)
            place = cache.place_of(url, facts, number)
            with suppress(OSError):  # then it is fetched
                file = self._open.enter_context(place.open("rb"))
                content = self._open.enter_context(_mapped(file))
                if len(content) == end - begin:
                    self._content[number] = content
                    cache.used(place)
                    continue
            fetched[number] = get_bytes(url, begin, end, facts)
        if fetched:
            check_unchanged(url, facts)
        for number, some in fetched.items():
            cache.write(cache.place_of(url, facts, number), len(some), partial(_put, some))
            self._content[number] = memoryview(some)

    def fill(self, number: int, offset: int, into: memoryview) -> None:
        _copy_part(self._content[number], offset, into)

    def close(self) -> None:
        self._open.close()
