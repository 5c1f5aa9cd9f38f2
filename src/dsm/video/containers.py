"""Reads what the header and tables of an mp4, avi or Matroska file say, without FFmpeg.

FFmpeg allocates memory for every sample that a file lists, and some tables list any number of them in a few
bytes: a size shared by all samples (``stsz``), samples of a chunk (``stsc``), a fragment whose samples all
have the default size (``trun``). Boxes are as in ISO/IEC 14496-12.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

from dsm.limits import MOST_SAMPLES_A_BYTE
from dsm.storage.objects import at_hand

_HOLDING = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf")
_FIRST = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"moof", b"sidx", b"uuid")
_DEEPEST = 8


class Tables(NamedTuple):
    """The result of reading the boxes of an mp4."""

    too_many: bool
    """Whether it lists more samples than fit into a file of its size."""
    whole: bool
    """Whether its boxes follow one another to the end, and none is a fragment, which has its own tables."""
    indexed: bool = True
    """Whether it says anywhere where its pictures lie; cameras write that last."""


def tables_of(path: Path) -> Tables | None:
    """Read the boxes of an mp4; None for other files."""
    try:
        facts = path.stat()
    except OSError:  # FFmpeg will report what is wrong
        return None
    return _tables_of(path, facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=4096)  # a recording of an hour may have thousands of fragments
def _tables_of(path: Path, size: int, _changed: int) -> Tables | None:
    counts: Counter[bytes] = Counter()
    with suppress(OSError, struct.error), path.open("rb") as file:
        if file.read(8)[4:] not in _FIRST:
            return None
        for kind, count in _listed(file, 0, size, 0):
            counts[kind] += count
            if counts[kind] > size * MOST_SAMPLES_A_BYTE:
                return Tables(too_many=True, whole=False)
        indexed, end = False, 0
        for kind, _, end in _boxes(file, 0, size):  # noqa: B007
            if kind == b"moof":
                return Tables(too_many=False, whole=False)
            indexed = indexed or kind == b"moov"
        return Tables(too_many=False, whole=end == size, indexed=indexed)
    return Tables(too_many=False, whole=False)


def _listed(file: BinaryIO, begin: int, end: int, depth: int) -> Iterator[tuple[bytes, int]]:
    """Kind and count of each table between two positions that lists samples without a field for each."""
    chunks, runs = 0, b""
    for kind, first, last in _boxes(file, begin, end):
        last = min(last, end)
        file.seek(first)
        if kind in _HOLDING and depth < _DEEPEST:
            yield from _listed(file, first, last, depth + 1)
        elif kind == b"stsz":
            _, shared, count = struct.unpack(">III", file.read(12))
            if shared:
                yield kind, count
        elif kind == b"trun":
            flags, count = struct.unpack(">II", file.read(8))
            if not flags & 0xF00:
                yield kind, count
        elif kind in (b"stco", b"co64"):
            chunks = struct.unpack(">II", file.read(8))[1]
        elif kind == b"stsc":
            count = struct.unpack(">II", file.read(8))[1]
            runs = file.read(min(12 * count, last - first))
    table = list(struct.iter_unpack(">III", runs[: len(runs) // 12 * 12]))
    stops = [*(start for start, _, _ in table[1:]), chunks + 1]
    for (start, each, _), stop in zip(table, stops, strict=bool(table)):
        yield b"stsc", max(stop - start, 0) * each


def _boxes(file: BinaryIO, begin: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The boxes between two positions: the kind of each, and the start and end of its content."""
    while begin + 8 <= end:
        file.seek(begin)
        size, kind = struct.unpack(">I4s", file.read(8))
        head = 8
        if size == 1:
            (size,) = struct.unpack(">Q", file.read(8))
            head = 16
        last = end if size == 0 else begin + size
        if last < begin + head:
            return
        yield kind, begin + head, last
        begin = last


def is_one_riff(path: Path, size: int) -> bool:
    """Whether the first part of an avi reaches to its end: the table of an old avi lists only that part."""
    with path.open("rb") as file:
        return 8 + int.from_bytes(file.read(8)[4:], "little") in (size - 1, size)


def format_of(file: Path) -> str | None:
    """The format of an mp4, Matroska or avi file; its header names all streams and the sizes of pictures."""
    try:
        with file.open("rb") as content:
            head = content.read(12)
    except OSError:  # FFmpeg says what is wrong
        return None
    if head[4:8] == b"ftyp":
        return "mp4"
    if int.from_bytes(head[:4], "big") == _EBML:
        return "matroska"
    return "avi" if head[:4] + head[8:] == b"RIFFAVI " else None


_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067
_HEAD = 4096
"""The segment, which contains the rest of the file, must start within this many bytes."""


def bytes_missing(path: Path) -> int:
    """How many bytes of a Matroska or WebM file are missing according to its header; 0 for all other files.

    FFmpeg reads an interrupted download or copy to its last whole packet and then reports a regular end. A
    live recording whose header gives no length counts as complete.
    """
    try:
        with at_hand(path) as local, local.open("rb") as file:
            head = file.read(_HEAD)
            size = local.stat().st_size
    except OSError:
        return 0
    if int.from_bytes(head[:4], "big") != _EBML:
        return 0
    at = 0
    while at < len(head):
        name, at, _ = _number(head, at)
        length, at, known = _number(head, at, marked=False)
        if name == _SEGMENT:
            return max(at + length - size, 0) if known else 0
        at += length
    return 0


def _number(head: bytes, at: int, *, marked: bool = True) -> tuple[int, int, bool]:
    """A number in EBML (RFC 8794, 4): the leading zero bits of its first byte say how many bytes follow.

    Args:
        marked: keep the bit after these zeros, as element IDs do.

    Returns:
        The number, the position after it, and whether it is valid: all bits set mean an unknown size.
    """
    more = 8 - head[at].bit_length() if at < len(head) else 8
    number = int.from_bytes(head[at : at + more + 1], "big")
    bits = 7 * (more + 1)
    known = number & ((1 << bits) - 1) != (1 << bits) - 1
    return (number if marked else number & ((1 << bits) - 1)), at + more + 1, known
