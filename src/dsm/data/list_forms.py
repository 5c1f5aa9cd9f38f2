"""Lists as other tools write them: which format a text is in, and the rows in it.

Cells are separated by commas, semicolons, tabs, bars or blanks, with or without a header and quotes; or the
list is JSON. A header says what each column means, or else the cells and the files do. If two readings fit,
neither is taken: the error names the command that says which one is meant. Rows hold videos, labels, frame
counts and segments.
"""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsm.data.list_columns import (
    HEADERS,
    LOOKED_AT,
    NEAR,
    ODD,
    Disk,
    ask,
    by_header,
    is_header,
    kind_of,
    meanings,
    names_video,
    seconds_of,
    several,
    shown,
    spread,
)
from dsm.data.list_lines import Names, full, labelled
from dsm.errors import UserError, has_control
from dsm.files import one_spelling
from dsm.terminal import many, note, some
from dsm.video.segments import segment_name
from dsm.video.source import EXTENSIONS

if TYPE_CHECKING:
    from dsm.data.lists import VideoList


MARK = "# dsm list"
"""A first line that says that a list is of our own form, whatever its paths look like."""
HEAD = 2**16
"""Bytes of a text by which it is judged."""
SEPARATORS = {
    ",": " between commas", ";": " between semicolons", "\t": " between tabs", "|": " between bars",
    " ": "", "json": " in JSON",
}  # fmt: skip
_ENDING = re.compile(rf".*(?:{'|'.join(map(re.escape, sorted(EXTENSIONS)))})(?=\s|$)", re.IGNORECASE)
_QUOTED = re.compile(r"""(["'])(.*?)\1\s*(.*)""")


@dataclass(frozen=True)
class Form:
    """How a list is written."""

    split: str
    columns: tuple[str, ...]
    """What each means; '' for one that is not used."""
    header: bool = False

    def __str__(self) -> str:
        header = " with a header" if self.header and self.split != "json" else ""
        return f"{shown(self.columns)}{SEPARATORS[self.split]}{header}"


def cells_of(line: str, split: str, columns: Sequence[str] | None = None) -> list[str]:
    """The fields of one line; ``columns`` say where among blanks the path is, which may hold some itself."""
    if split != " ":
        try:
            cells = next(csv.reader([line], delimiter=split, skipinitialspace=True), [])
        except csv.Error:  # a control character, or a field of megabytes: no table
            return [line]
        return [cell.strip() for cell in cells]
    at = list(columns).index("path") if columns else 0
    before = line.split(None, at)
    line, front = (before[-1], before[:-1]) if len(before) > at else (line, [])
    if quoted := _QUOTED.match(line):
        path, rest = quoted[2], quoted[3]
    elif ended := _ENDING.match(line):
        path, rest = ended[0], line[ended.end() :]
    else:
        parts = line.rsplit(None, len(columns) - at - 1) if columns else [line]
        return [*front, *parts]
    # A class may be called by several words.
    one = rest.strip().strip("\"'")
    if columns and len(columns) - at == 2 and one:
        return [*front, path, one]
    return [*front, path, *rest.split()]


def rows_of(text: str, form: Form, source: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a list, each with the number of its line.

    Raises:
        UserError: a line has more or fewer fields.
    """
    if form.split == "json":
        yield from _objects(text, source)
        return
    first = form.header
    for number, line in _lines(text):
        if first:
            first = False
            continue
        cells = cells_of(line, form.split, form.columns)
        if len(cells) != len(form.columns):
            raise UserError(
                f"{source}, line {number}: expected `{shown(form.columns)}`, found `{line[:200]}`."
            )
        yield number, cells


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.strip(" \r")
        if line.strip() and not line.startswith("#"):
            yield number, line


def _objects(text: str, source: str) -> Iterator[tuple[int, list[str]]]:
    """The objects of a JSON list, or of lines of JSON: what they hold, by the names that the first has."""
    names: list[str] = []
    try:
        whole = json.loads(text) if text.lstrip().startswith("[") else None
        found = enumerate(whole, start=1) if whole is not None else (
            (number, json.loads(line)) for number, line in _lines(text)
        )  # fmt: skip
        for number, one in found:
            # Another key more is no matter; one less is.
            if not isinstance(one, dict) or (names and not set(names) <= set(one)):
                raise UserError(f"{source}, line {number}: expected a JSON object with {', '.join(names)}.")
            names = names or list(one)
            yield number, [_plain(one[name], source) for name in names]
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source}: is no JSON, a video a line ({error}).") from None


def _plain(value: Any, source: str) -> str:
    if isinstance(value, list):
        if len(value) != 1:
            several(source, str(value))
        value = value[0]
    return "" if value is None else str(value)


def json_form(text: str, source: str) -> Form | None:
    """A list of JSON objects."""
    start = text.lstrip()[:1]
    if start not in ("{", "["):
        return None
    first = text.lstrip().split("\n", 1)[0].strip()
    try:
        one = json.loads(text)[0] if start == "[" else json.loads(first)
        names = list(one) if isinstance(one, dict) else []
    except (ValueError, LookupError, RecursionError):
        return None
    return Form("json", by_header(names, source, first), header=True) if names else None


def by_columns(lines: list[str], columns: Sequence[str], disk: Disk) -> Form:
    """The form of a text whose columns are said."""
    for split in (",", ";", "\t", "|"):
        if all(len(cells_of(line, split)) == len(columns) for line in lines) and len(columns) > 1:
            return Form(split, tuple(columns), is_header(cells_of(lines[0], split), disk))
    return Form(" ", tuple(columns), is_header(lines[0].split(), disk))


def other_form(lines: list[str], disk: Disk, source: str, *, on_disk: bool) -> Form | None:
    """What else than a list of ours a text is; None where nothing fits.

    Args:
        lines: the first ones. on_disk: take only what names files that are there.
    """
    good: Callable[[str], bool] = disk.has if on_disk else names_video
    for split in (",", ";", "\t", "|", " "):
        words = lines[0].split() if split == " " else cells_of(lines[0], split)
        header = len(lines) > 1 and is_header(words, disk) and (split == " " or len(words) > 1)
        body = lines[1:] if header else lines
        if header:
            columns = by_header(words, source, lines[0])
            rows = [cells_of(line, split, columns) for line in body]
            at = columns.index("path")
            if any(len(row) > at and good(row[at].replace("\\", "/")) for row in rows[:LOOKED_AT]):
                return Form(split, columns, header=True)
            continue
        rows = [cells_of(line, split) for line in body]
        if split == " ":
            rows = _blank_rows(body, rows, good)
        width = len(rows[0]) if rows else 0
        if width < 2 or any(len(row) != width for row in rows):
            continue
        some = [rows[place] for place in spread(len(rows), LOOKED_AT)]
        fits = [sum(good(row[at].replace("\\", "/")) for row in some) for at in range(width)]
        if max(fits):
            at = fits.index(max(fits))
            # A first line whose path is none, above others that are, is a header that says nothing.
            header = max(fits) == len(some) - 1 > 0 and not any(map(names_video, rows[0]))
            rows = rows[1:] if header else rows
            return Form(split, meanings(rows, at, disk, source, body[-1]), header)
    return None


def _blank_rows(lines: list[str], rows: list[list[str]], good: Callable[[str], bool]) -> list[list[str]]:
    tails = [row[1:] for row in rows]
    widths = {len(tail) for tail in tails}
    if 0 in widths:  # no known ending in some line: by what is there
        for after in range(1, 5):
            cut = [line.rsplit(None, after) for line in lines]
            if all(len(row) == after + 1 for row in cut) and all(good(row[0]) for row in cut[:LOOKED_AT]):
                return cut
        cut = [line.split(None, 1) for line in lines]
        return cut if all(len(row) == 2 and good(row[1]) for row in cut[:LOOKED_AT]) else []
    if not any(kind_of([cell]) != "t" for tail in tails for cell in tail):
        return [[row[0], " ".join(tail)] for row, tail in zip(rows, tails, strict=True)]
    return rows


def find_form(text: bytes, columns: Sequence[str], disk: Disk, source: str) -> Form | None:
    """What a text is taken for; None where it is of our own form.

    Raises:
        UserError: two readings fit.
    """
    part = text[:HEAD] if len(text) <= HEAD else text[: text.rfind(b"\n", 0, HEAD) + 1]
    start = part.decode(errors="ignore")
    lines = [line.strip(" \t") for _, line in itertools.islice(_lines(start), 200)]
    if columns and lines:
        return _told(by_columns(lines, columns, disk), source, unused=False)
    if not lines or start.startswith(MARK):
        return None
    first = lines[0]
    if len(lines) > 1 and first.lower() in HEADERS["path"].split() and not disk.has(first):
        return _told(Form(" ", ("path",), header=True), source)
    _refuse_several(lines, source)
    count = 3 if full(first) else 2 if labelled(first) else 1
    cut = [(full(line) if count == 3 else labelled(line) if count == 2 else (line,)) for line in lines]
    rows = [[str(cell) for cell in row] for row in cut if row]
    there = any(disk.has(rows[place][0]) for place in spread(len(rows), LOOKED_AT))
    looks = names_video(rows[0][0]) and not ODD & set(rows[0][0])
    if disk.has(rows[0][0]) or (there and looks):
        return _in_order(rows, first, disk, source)
    found = json_form(text.decode(), source) or other_form(lines, disk, source, on_disk=True)
    if found:
        return _told(found, source)
    plain = not any(ODD & set(row[0]) for row in rows)
    if there or looks or (plain and count > 1 and len(rows) == len(lines)):
        return _in_order(rows, first, disk, source)
    return _told(other_form(lines, disk, source, on_disk=False), source)


def _refuse_several(lines: list[str], source: str) -> None:
    """Refuse lines of a path and whole numbers, more of them than two and not always as many."""
    found = [_ENDING.match(line) for line in lines]
    tails = [line[one.end() :].split() for line, one in zip(lines, found, strict=True) if one]
    widths = {len(tail) for tail in tails}
    whole = all(cell.isdigit() for tail in tails for cell in tail)
    if len(tails) == len(lines) and len(widths) > 1 and max(widths) > 2 and whole:
        several(source, max(lines, key=lambda line: len(line.split())))


def _told(form: Form | None, source: str, *, unused: bool = True) -> Form | None:
    if form:
        note(f"{source}: taken for {form}{_unused(form, source) if unused else ''}")
    return form


def _unused(form: Form, source: str) -> str:
    """What to do about columns that are passed by, which may be the labels or the seconds of segments."""
    count = form.columns.count("")
    if not count or {"label", "class", "start"} & set(form.columns):
        return ""
    what = many(count, "column is", "columns are")
    return (
        f"; {what} not used; say what they are (`_`: of no use): "
        f"`dsm data convert {source} --columns {shown(form.columns)} --out NEW.txt`"
    )


def _in_order(rows: list[list[str]], line: str, disk: Disk, source: str) -> Form | None:
    """None for `path label frames` and shorter; of `path frames label` the form, told by the files."""
    if len(rows[0]) < 2:
        return None
    paths, numbers = [row[0] for row in rows], [row[1:] for row in rows]
    far = [disk.distance(paths, column) for column in zip(*numbers, strict=True)]
    if len(far) == 1:
        alike = len(rows) > 1 and far[0] is not None and far[0] < 0.03
        if alike and min(int(one) for (one,) in numbers) >= LOOKED_AT:
            ask(
                source,
                line,
                [("path", "frames"), ("path", "label")],
                "its number may be the frames or the label",
            )
        return None
    if far[0] is not None and far[1] is not None and far[0] < NEAR <= far[1]:
        return _told(Form(" ", ("path", "frames", "label")), source)
    # What no frame is of cannot be a number of frames.
    if far[1] is None and any(row[1] == "0" for row in numbers) and all(int(row[0]) > 0 for row in numbers):
        two = [("path", "frames", "label"), ("path", "label", "frames")]
        ask(source, line, two, "has two numbers a line, the last of them 0")
    return None


NOTHING = -1
"""For a label or a number of frames that is not said."""


class Named(NamedTuple):
    """Classes by name."""

    names: tuple[str, ...]
    """In the order in which they count; none where they are not known."""
    of: str
    """Where they stand."""


class Rows(NamedTuple):
    """What the rows say."""

    numbers: list[int]
    """Of their lines, from 1."""
    paths: Names
    labels: NDArray[np.int64]
    frames: NDArray[np.int64]
    classes: list[str]
    """What the labels are called, where the list has names in their place."""


def read_rows(text: str, form: Form, disk: Disk, source: str, known: Named) -> Rows:
    """Read a list of another form.

    Args:
        known: classes; without names those of the list are taken, sorted.

    Raises:
        UserError: a line that does not fit, by number.
    """
    rows = list(rows_of(text, form, source))
    if not rows:
        raise UserError(f"{source}: the list names no video.")
    at = {meaning: place for place, meaning in enumerate(form.columns) if meaning}
    paths = [cells[at["path"]] for _, cells in rows]
    if "start" in at:
        paths = [_segment(cells, number, at, source) for number, cells in rows]
    for (number, _), path in zip(rows, paths, strict=True):
        if not path or has_control(path) or "\n" in path:
            raise UserError(
                f"{source}, line {number}: {'holds no path' if not path else f'odd path {path!r}'}."
            )
    numbers = [number for number, _ in rows]
    frames = np.full(len(rows), NOTHING)
    if "frames" in at:
        frames = np.array(list(_whole(rows, at["frames"], "frames", source)), np.int64)
    labels, classes = np.full(len(rows), NOTHING), list[str]()
    column = next((at[name] for name in ("label", "label1", "class") if name in at), None)
    if column is not None:
        words = [cells[column] for _, cells in rows]
        if "class" in at or not any(_number(word) is not None for word in words if word):
            labels, classes = _numbered(words, numbers, source, known)
        else:
            labels = np.array(list(_whole(rows, column, "label", source)), np.int64)
            labels[labels != NOTHING] -= "label1" in at
    return Rows(numbers, slashed(Names.of(paths), disk, source), labels, frames, classes)


def _segment(cells: list[str], number: int, at: dict[str, int], source: str) -> str:
    path, start, end = (cells[at[name]] for name in ("path", "start", "end"))
    if not start and not end:
        return path
    begins, ends = seconds_of(start), seconds_of(end)
    if begins is None or ends is None or not 0 <= begins < ends < 1e9:
        raise UserError(f"{source}, line {number}: no segment goes from {start!r} to {end!r} seconds.")
    return segment_name(path, begins, ends)


def _number(word: str) -> int | None:
    try:  # pandas writes 1.0 where a column has gaps
        return int(float(word)) if float(word).is_integer() and abs(float(word)) < 1e15 else None
    except ValueError:
        return None


def _whole(rows: list[tuple[int, list[str]]], column: int, what: str, source: str) -> Iterator[int]:
    for number, cells in rows:
        value = _number(cells[column]) if cells[column] else NOTHING
        if value is None:
            raise UserError(f"{source}, line {number}: the {what} {cells[column]!r} is no whole number.")
        yield value


def _numbered(
    words: list[str], numbers: list[int], source: str, known: Named
) -> tuple[NDArray[np.int64], list[str]]:
    """Classes by name: numbered as known, or in the order of their names."""
    words = [one_spelling(word) for word in words]
    names = [one_spelling(name) for name in known.names] or sorted({word for word in words if word})
    place = {name: label for label, name in enumerate(names)}
    if other := [where for where, word in enumerate(words) if word and word not in place]:
        own = known.of == "classes.txt"
        anew = ", or remove classes.txt to have the classes numbered anew" if own else ""
        raise UserError(
            f"{source}, line {numbers[other[0]]}: '{words[other[0]]}' is none of the "
            f"{many(len(names), 'class', 'classes')} in "
            f"{known.of}; mend either{anew}."
        )
    if names:
        told = some([f"{label} {name}" for name, label in place.items()], 8)
        how = f"as in {known.of}" if known.names else "in the order of their names"
        note(f"{source}: classes are numbered {how}: {told}")
    return np.array([place.get(word, NOTHING) for word in words], np.int64), names


def slashed(paths: Names, disk: Disk, source: str) -> Names:
    """Paths with a slash for each backslash, as Windows writes them; not where a file is called so."""
    odd = [place for place in paths.holding("\\") if "\\" in paths[place]]
    if not odd or any(disk.has(paths[odd[place]]) for place in spread(len(odd), 8)):
        return paths
    note(f"{source}: {many(len(odd), 'path has', 'paths have')} backslashes, which are read as slashes")
    return Names.of([path.replace("\\", "/") for path in paths])


def tell_odd(videos: VideoList, disk: Disk, names: int, form: Form | None) -> None:
    """Say what may not be known of a list: counts that are not its files', labels that count from 1."""
    paths, source = videos.paths, videos.source
    looked = {place: disk.known(paths[place]) for place in disk.places(len(paths))}
    counts = {place: (int(videos.frames[place]), there) for place, there in looked.items() if there}
    wrong = {place: pair for place, pair in counts.items() if pair[0] >= 0 and abs(pair[0] - pair[1]) > 1}
    if wrong:
        place, (said, there) = next(iter(wrong.items()))
        note(
            f"{source}: of {many(len(counts), 'video')} looked into, "
            f"{many(len(wrong), 'has', 'have')} another number of frames than "
            f"the list says: {paths[place]} has {there}, not {said}; "
            f"`dsm data check {source} --clean NEW.txt` counts them anew",
            about=f"frames of {source}",
        )
    labels = videos.labels[videos.labels >= 0]
    if videos.classes or not len(labels) or labels.min() != 1:  # what has names was not numbered by the list
        return
    most = int(labels.max())
    if 1 < most == len(np.unique(labels)) and names <= most:
        shape = ["path", "label", *(["frames"] if (videos.frames >= 0).any() else [])]
        columns = list(form.columns) if form else shape
        told = shown("label1" if one == "label" else one for one in columns)
        note(
            f"{source}: its labels go from 1 to {most}, so class 0 has no video; if they "
            f"count from 1: `dsm data convert {source} --columns {told} --out NEW.txt`"
        )
