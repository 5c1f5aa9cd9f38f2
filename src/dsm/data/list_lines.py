"""Parses all lines of a list at once: a million in less than a second, with all names in one buffer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from dsm.data.list_format import MAX_NUMBER

Places = NDArray[np.int64]
Bytes = NDArray[np.uint8]

_NEWLINE, _HASH, _MINUS, _ZERO = b"\n#-0"
_BETWEEN = b" \t"
_ENDS = b" \t\r"
_DIGITS = 11


class Names(Sequence[str]):
    """Many strings in one buffer, which processes share because nothing writes to it.

    A list of a million Python strings would gradually be copied into each loader worker, because counting
    references writes to memory.
    """

    def __init__(self, content: Bytes, starts: Places, stops: Places) -> None:
        self._content, self._starts, self._stops = content, starts, stops

    @classmethod
    def of(cls, strings: Sequence[str]) -> Names:
        """Put strings into one buffer."""
        texts = [string.encode() for string in strings]
        stops = np.cumsum([len(text) for text in texts], dtype=np.int64)
        content = np.frombuffer(b"".join(texts), np.uint8)
        return cls(content, np.concatenate([[0], stops[:-1]]).astype(np.int64), stops)

    def holding(self, character: str) -> list[int]:
        """Positions of the only strings that may contain an ASCII character."""
        positions = np.flatnonzero(self._content == ord(character))
        if not len(positions):
            return []
        places = np.searchsorted(self._starts, positions, side="right") - 1
        return np.unique(places[places >= 0]).tolist()

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Names: ...
    def __getitem__(self, index: int | slice) -> str | Names:
        if isinstance(index, slice):
            return Names(self._content, self._starts[index], self._stops[index])
        return self._content[self._starts[index] : self._stops[index]].tobytes().decode()

    def __iter__(self) -> Iterator[str]:
        return (self[index] for index in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(str.__eq__, self, other))

    def __repr__(self) -> str:
        return f"Names({list(self[:3])}{', …' if len(self) > 3 else ''})"


class Lines(NamedTuple):
    """The positions of a text's lines, without blank lines, comments, and white space at either end."""

    numbers: Places
    """(n,), from 1."""
    starts: Places
    stops: Places


def find_lines(content: Bytes) -> Lines:
    """The lines of a text."""
    newlines = np.flatnonzero(content == _NEWLINE)
    starts = np.concatenate([[0], newlines + 1])
    stops = np.concatenate([newlines, [len(content)]])
    while (blank := (starts < stops) & _is_one_of(content, starts, _ENDS)).any():
        starts[blank] += 1
    stops = _trimmed(content, starts, stops, _ENDS)
    kept = starts < stops
    kept[kept] = content[starts[kept]] != _HASH
    return Lines(np.flatnonzero(kept) + 1, starts[kept], stops[kept])


def _trimmed(content: Bytes, starts: Places, stops: Places, characters: bytes) -> Places:
    """``stops``, moved left past trailing ``characters``."""
    stops = stops.copy()
    while (blank := (starts < stops) & _is_one_of(content, stops - 1, characters)).any():
        stops[blank] -= 1
    return stops


def _is_one_of(content: Bytes, places: Places, characters: bytes) -> NDArray[np.bool_]:
    if not len(content):
        return np.zeros(len(places), bool)
    values = content[np.clip(places, 0, len(content) - 1)]
    matches = values == characters[0]
    for character in characters[1:]:
        matches |= values == character
    return matches


class Integers(NamedTuple):
    """The last field of each of many texts, read as an integer."""

    plain: NDArray[np.bool_]
    """(n,), whether the field is a short integer, with white space and another field before it."""
    values: Places
    before: Places
    """Where the field before it ends."""


def last_integers(content: Bytes, starts: Places, stops: Places) -> Integers:
    """Read the last field of each text, digit by digit from the right, all texts at once."""
    places = stops.copy()
    values = np.zeros(len(stops), np.int64)
    going = np.ones(len(stops), bool)
    for power in range(_DIGITS):
        digits = content[np.maximum(places - 1, 0)]
        going &= (places > starts) & (digits >= _ZERO) & (digits < _ZERO + 10)
        if not going.any():
            break
        values[going] += (digits[going].astype(np.int64) - _ZERO) * 10**power
        places[going] -= 1
    plain = places < stops
    negative = (places > starts) & (content[np.maximum(places - 1, 0)] == _MINUS)
    values[negative] *= -1
    places[negative] -= 1
    plain &= (places > starts) & _is_one_of(content, places - 1, _BETWEEN)
    before = _trimmed(content, starts, places, _BETWEEN)
    return Integers(plain & (before > starts), values, before)


def _last_number(text: str, *, signed: bool) -> tuple[str, int] | None:
    """The integer in a text's last field, and the text before it; None if there is no such field."""
    before = text.rstrip("0123456789")
    digits = text[len(before) :]
    minus = "-" if signed and before.endswith("-") else ""
    field = before.removesuffix(minus) if minus else before
    name = field.rstrip(" \t")
    if not digits or not name or name == field:
        return None
    return name, int(minus + digits) if len(digits) < 20 else MAX_NUMBER + 1


def full(line: str) -> tuple[str, int, int] | None:
    """`path label frames` of a line; None if it does not have these fields."""
    if (last := _last_number(line, signed=False)) and (label := _last_number(last[0], signed=True)):
        return (*label, last[1])
    return None


def labelled(line: str) -> tuple[str, int] | None:
    """`path label` of a line; None if it does not end in a number. Of several numbers, the last counts."""
    return _last_number(line, signed=True)
