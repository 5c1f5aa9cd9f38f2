"""Detects files that are shorter than their header says, such as an interrupted download or copy.

FFmpeg reads such a Matroska file to its last whole packet and then reports a regular end.
"""

from __future__ import annotations

from pathlib import Path

from dsm.storage.objects import at_hand

_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067
_HEAD = 4096
"""The segment, which contains the rest of the file, must start within this many bytes."""


def bytes_missing(path: Path) -> int:
    """How many bytes of a Matroska or WebM file are missing according to its header; 0 for all other files.

    A live recording whose header gives no length counts as complete.
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
