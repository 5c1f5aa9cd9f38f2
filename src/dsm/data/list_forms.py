"""Detects the format of lists that other tools wrote, and splits them into rows of cells.

Cells are separated by commas, semicolons, tabs, bars or spaces, with or without a header and quotes; or the
list is JSON. Column meanings come from the header, otherwise from the cells and the files. If two readings
fit, an error gives the commands that choose between them. ``list_rows.py`` reads the cells.
"""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

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
    several,
    shown,
)
from dsm.data.list_json import JSON, json_columns, lines_of, objects_of
from dsm.data.list_lines import full, labelled
from dsm.errors import UserError
from dsm.terminal import many, note
from dsm.video.sampling import evenly
from dsm.video.source import EXTENSIONS

MARK = "# dsm list"
"""A first line that marks a list as dsm's own format, whatever its paths look like."""
HEAD = 2**16
"""Bytes at the start of a list that are used to detect its format."""
SEPARATORS = {
    ",": " between commas", ";": " between semicolons", "\t": " between tabs", "|": " between bars",
    " ": "", JSON: " in JSON",
}  # fmt: skip
_ENDING = re.compile(rf".*(?:{'|'.join(map(re.escape, sorted(EXTENSIONS)))})(?=\s|$)", re.IGNORECASE)
_QUOTED = re.compile(r"""(["'])(.*?)\1\s*(.*)""")


@dataclass(frozen=True)
class Form:
    """The format of a list."""

    split: str
    columns: tuple[str, ...]
    """What each column means; '' for an unused one."""
    header: bool = False
    rest: bool = False
    """Whether the last column is the rest of the line, possibly empty, whatever its separators."""

    def __str__(self) -> str:
        header = " with a header" if self.header and self.split != JSON else ""
        return f"{shown(self.columns)}{SEPARATORS[self.split]}{header}"


def cells_of(line: str, split: str, columns: Sequence[str] | None = None, *, rest: bool = False) -> list[str]:
    """The fields of one line; if spaces separate them, ``columns`` locate the path, which may have spaces.

    Args:
        rest: whether a varying number of fields follows.
    """
    if split != " ":
        try:
            cells = next(csv.reader([line], delimiter=split, skipinitialspace=True), [])
        except csv.Error:  # a control character or a huge field: not a table
            return [line]
        return [cell.strip() for cell in cells]
    at = list(columns).index("path") if columns else 0
    before = line.split(None, at)
    line, front = (before[-1], before[:-1]) if len(before) > at else (line, [])
    if quoted := _QUOTED.match(line):
        path, after = quoted[2], quoted[3]
    elif ended := _ENDING.match(line):
        path, after = ended[0], line[ended.end() :]
    else:
        cut = line.split if rest else line.rsplit
        parts = cut(None, len(columns) - at - 1) if columns else [line]
        return [*front, *parts]
    # A class name may have several words.
    name = after.strip().strip("\"'")
    if columns and len(columns) - at == 2 and name:
        return [*front, path, name]
    return [*front, path, *after.split()]


def rows_of(text: str, form: Form, source: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a list, each with its line number.

    Raises:
        UserError: a line has too many or too few fields.
    """
    if form.split == JSON:
        yield from objects_of(text, form.columns, source)
        return
    first = form.header
    for number, line in lines_of(text):
        if first:
            first = False
            continue
        cells = cells_of(line, form.split, form.columns, rest=form.rest)
        if form.rest:
            head = len(form.columns) - 1
            cells = [*cells[:head], " ".join(cells[head:])] if len(cells) >= head else cells
        if len(cells) != len(form.columns):
            raise UserError(
                f"{source}, line {number}: expected `{shown(form.columns)}`, found `{line[:200]}`."
            )
        yield number, cells


def by_columns(lines: list[str], columns: Sequence[str], disk: Disk) -> Form:
    """The form of a text whose columns the user named; a last column to ignore is the rest of the line."""
    rest = len(columns) > 1 and not columns[-1]

    def fits(cells: list[str]) -> bool:
        path = cells[columns.index("path")] if len(cells) >= len(columns) - 1 else ""
        return names_video(path) or disk.has(path)

    for split in (",", ";", "\t", "|") if len(columns) > 1 else ():
        cells = [cells_of(line, split) for line in lines]
        header = is_header(cells[0], disk)
        same = all(len(row) == len(columns) for row in cells)
        if same or (rest and all(map(fits, cells[header:]))):
            return Form(split, tuple(columns), header, rest)
    return Form(" ", tuple(columns), is_header(lines[0].split(), disk), rest)


def other_form(lines: list[str], disk: Disk, source: str, *, on_disk: bool) -> Form | None:
    """The form of a text that is not in dsm's own format; None if nothing fits.

    Args:
        lines: the first ones. on_disk: accept a path column only if its files exist.
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
        sample = [rows[place] for place in evenly(len(rows), LOOKED_AT)]
        fits = [sum(good(row[at].replace("\\", "/")) for row in sample) for at in range(width)]
        if max(fits):
            at = fits.index(max(fits))
            # A first line without a path, above lines that all have one, is a header with unknown names.
            header = max(fits) == len(sample) - 1 > 0 and not any(map(names_video, rows[0]))
            rows = rows[1:] if header else rows
            return Form(split, meanings(rows, at, disk, source, body[-1]), header)
    return None


def _blank_rows(lines: list[str], rows: list[list[str]], good: Callable[[str], bool]) -> list[list[str]]:
    tails = [row[1:] for row in rows]
    widths = {len(tail) for tail in tails}
    if 0 in widths:  # a line without a known ending: split by which files exist
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
    """The form of a text; None if it is in dsm's own format.

    Raises:
        UserError: two readings fit.
    """
    part = text[:HEAD] if len(text) <= HEAD else text[: text.rfind(b"\n", 0, HEAD) + 1]
    start = part.decode(errors="ignore")
    lines = [line.strip(" \t") for _, line in itertools.islice(lines_of(start), 200)]
    if columns and lines:
        return _noted(by_columns(lines, columns, disk), source, unused=False)
    if not lines or start.startswith(MARK):
        return None
    first = lines[0]
    if len(lines) > 1 and first.lower() in HEADERS["path"].split() and not disk.has(first):
        return _noted(Form(" ", ("path",), header=True), source)
    _refuse_frames(first, source)
    _refuse_several(lines, disk, source)
    count = 3 if full(first) else 2 if labelled(first) else 1
    cut = [(full(line) if count == 3 else labelled(line) if count == 2 else (line,)) for line in lines]
    rows = [[str(cell) for cell in row] for row in cut if row]
    exists = any(disk.has(rows[place][0]) for place in evenly(len(rows), LOOKED_AT))
    like_video = names_video(rows[0][0]) and not ODD & set(rows[0][0])
    if disk.has(rows[0][0]) or (exists and like_video):
        return _in_order(rows, first, disk, source)
    if fields := json_columns(text.decode(), source):
        return _noted(Form(JSON, fields, header=True), source)
    if form := other_form(lines, disk, source, on_disk=True):
        return _noted(form, source)
    plain = not any(ODD & set(row[0]) for row in rows)
    if exists or like_video or (plain and count > 1 and len(rows) == len(lines)):
        return _in_order(rows, first, disk, source)
    return _noted(other_form(lines, disk, source, on_disk=False), source)


def _refuse_frames(header: str, source: str) -> None:
    """Refuse a list of single frames, as for AVA and Charades: it would be read as a list of videos."""
    words = set(re.split(r"[\s,]+", header.lower()))
    if {"frame_id", "path"} <= words:
        raise UserError(
            f"{source}: lists single frames, as SlowFast does for AVA and Charades; list the folders of "
            "frames instead: `dsm data index FOLDER --unlabelled --out NEW.txt`."
        )


def _numbers_after(line: str) -> tuple[str, list[str]] | None:
    """A line without the integers at its end, and these integers; None if there are none."""
    words = line.split()
    count = len(list(itertools.takewhile(str.isdecimal, reversed(words[1:]))))
    return (line.rsplit(None, count)[0], words[-count:]) if count else None


def _refuse_several(lines: list[str], disk: Disk, source: str) -> None:
    """Refuse lines of a path and integers if the count of integers varies and exceeds two."""
    tails, before = [], "path"
    for place, line in enumerate(lines):
        if ended := _ENDING.match(line):
            tails.append(line[ended.end() :].split())
        elif (cut := _numbers_after(line)) and (place >= LOOKED_AT or disk.has(cut[0])):  # a folder
            tails.append(cut[1])
            before = "path,frames"
    widths = {len(tail) for tail in tails}
    whole = all(cell.isdigit() for tail in tails for cell in tail)
    if len(tails) == len(lines) and len(widths) > 1 and max(widths) > 2 and whole:
        several(source, max(lines, key=lambda line: len(line.split())), before)


def _noted(form: Form | None, source: str, *, unused: bool = True) -> Form | None:
    if form:
        note(f"{source}: read as {form}{_unused(form, source) if unused else ''}")
    return form


def _unused(form: Form, source: str) -> str:
    """A hint about unused columns, which may be labels or the times of segments."""
    count = form.columns.count("")
    if not count or {"label", "class", "start"} & set(form.columns):
        return ""
    what = many(count, "column is", "columns are")
    return (
        f"; {what} not used; name the columns (`_` for one to ignore): "
        f"`dsm data convert {source} --columns {shown(form.columns)} --out NEW.txt`"
    )


def _in_order(rows: list[list[str]], line: str, disk: Disk, source: str) -> Form | None:
    """None for `path label frames` and shorter; the form if the files show it to be `path frames label`."""
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
                "its number may be the frame count or the label",
            )
        return None
    if far[0] is not None and far[1] is not None and far[0] < NEAR <= far[1]:
        return _noted(Form(" ", ("path", "frames", "label")), source)
    # A zero cannot be a frame count.
    if far[1] is None and any(row[1] == "0" for row in numbers) and all(int(row[0]) > 0 for row in numbers):
        two = [("path", "frames", "label"), ("path", "label", "frames")]
        ask(source, line, two, "has two numbers per line, and the last is sometimes 0")
    return None
