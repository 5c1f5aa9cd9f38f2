"""Reads the rows of lists that other tools wrote: videos, labels, frame counts and segments.

``list_forms.py`` detects their format.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsm.data.classes import CLASSES, Named
from dsm.data.list_columns import Disk, seconds_of, shown
from dsm.data.list_format import UNKNOWN, UNLABELLED
from dsm.data.list_forms import Form, rows_of
from dsm.data.list_lines import Names
from dsm.errors import UserError, has_control
from dsm.files import one_spelling
from dsm.terminal import many, note, some
from dsm.video.sampling import evenly
from dsm.video.segments import segment_name

if TYPE_CHECKING:
    from dsm.data.lists import VideoList


class Rows(NamedTuple):
    """The contents of a list's rows."""

    numbers: list[int]
    """Line numbers, from 1."""
    paths: Names
    labels: NDArray[np.int64]
    frames: NDArray[np.int64]
    classes: list[str]
    """Class names by label, if the list has names instead of labels."""


def read_rows(text: str, form: Form, disk: Disk, source: str, known: Named) -> Rows:
    """Read a list that is not in dsm's own format.

    Args:
        known: classes; if it has no names, those of the list are used, sorted.

    Raises:
        UserError: a line does not fit; the message gives its number.
    """
    rows = list(rows_of(text, form, source))
    if not rows:
        raise UserError(f"{source}: the list names no videos.")
    at = {meaning: place for place, meaning in enumerate(form.columns) if meaning}
    paths = [cells[at["path"]] for _, cells in rows]
    if "start" in at:
        paths = [_segment(cells, number, at, source) for number, cells in rows]
    for (number, _), path in zip(rows, paths, strict=True):
        if not path or has_control(path) or "\n" in path:
            problem = f"the path contains a control character: {path!r}" if path else "has no path"
            raise UserError(f"{source}, line {number}: {problem}.")
    numbers = [number for number, _ in rows]
    frames = np.full(len(rows), UNKNOWN)
    if "frames" in at:
        frames = np.array(list(_whole(rows, at["frames"], "frame count", source)), np.int64)
    labels, classes = np.full(len(rows), UNLABELLED), list[str]()
    column = next((at[name] for name in ("label", "label1", "class") if name in at), None)
    if column is not None:
        words = [cells[column] for _, cells in rows]
        if "class" in at or not any(_number(word) is not None for word in words if word):
            labels, classes = _numbered(words, numbers, source, known)
        else:
            labels = np.array(list(_whole(rows, column, "label", source)), np.int64)
            if "label1" in at:
                if zeros := np.flatnonzero(labels == 0).tolist():  # would become the mark of no label
                    raise UserError(
                        f"{source}, line {numbers[zeros[0]]}: the label is 0, so labels do not count from 1; "
                        "name the column label instead of label1."
                    )
                labels[labels != UNLABELLED] -= 1
    return Rows(numbers, slashed(Names.of(paths), disk, source), labels, frames, classes)


def _segment(cells: list[str], number: int, at: dict[str, int], source: str) -> str:
    path, start, end = (cells[at[name]] for name in ("path", "start", "end"))
    if not start and not end:
        return path
    begins, ends = seconds_of(start), seconds_of(end)
    if begins is None or ends is None or not 0 <= begins < ends < 1e9:
        raise UserError(f"{source}, line {number}: a segment cannot go from {start!r} to {end!r} seconds.")
    return segment_name(path, begins, ends)


def _number(word: str) -> int | None:
    try:  # pandas writes 1.0 where a column has gaps
        return int(float(word)) if float(word).is_integer() and abs(float(word)) < 1e15 else None
    except ValueError:
        return None


def _whole(rows: list[tuple[int, list[str]]], column: int, what: str, source: str) -> Iterator[int]:
    for number, cells in rows:
        value = _number(cells[column]) if cells[column] else UNKNOWN
        if value is None:
            raise UserError(f"{source}, line {number}: the {what} {cells[column]!r} is not an integer.")
        yield value


def _numbered(
    words: list[str], numbers: list[int], source: str, known: Named
) -> tuple[NDArray[np.int64], list[str]]:
    """Labels and names of classes: numbered as in ``known``, otherwise in alphabetical order."""
    words = [one_spelling(word) for word in words]
    names = [one_spelling(name) for name in known.names] or sorted({word for word in words if word})
    place = {name: label for label, name in enumerate(names)}
    if other := [where for where, word in enumerate(words) if word and word not in place]:
        own = known.of == CLASSES
        renumber = f", or remove {CLASSES} to number the classes again" if own else ""
        raise UserError(
            f"{source}, line {numbers[other[0]]}: '{words[other[0]]}' is not one of the "
            f"{many(len(names), 'class', 'classes')} in "
            f"{known.of}; correct one of them{renumber}."
        )
    if names:
        numbering = some([f"{label} {name}" for name, label in place.items()], 8)
        how = f"as in {known.of}" if known.names else "in alphabetical order"
        note(f"{source}: classes are numbered {how}: {numbering}")
    return np.array([place.get(word, UNLABELLED) for word in words], np.int64), names


def slashed(paths: Names, disk: Disk, source: str) -> Names:
    """Paths with Windows backslashes turned into slashes, unless files have backslashes in their names."""
    odd = [place for place in paths.holding("\\") if "\\" in paths[place]]
    if not odd or any(disk.has(paths[odd[place]]) for place in evenly(len(odd), 8)):
        return paths
    note(f"{source}: {many(len(odd), 'path has', 'paths have')} backslashes, read as slashes")
    return Names.of([path.replace("\\", "/") for path in paths])


def tell_odd(videos: VideoList, disk: Disk, names: int, form: Form | None) -> None:
    """Note likely mistakes in a list: frame counts that differ from the files', labels that count from 1."""
    paths, source = videos.paths, videos.source
    opened = {place: disk.known(paths[place]) for place in disk.places(len(paths))}
    counts = {place: (int(videos.frames[place]), actual) for place, actual in opened.items() if actual}
    wrong = {place: pair for place, pair in counts.items() if pair[0] >= 0 and abs(pair[0] - pair[1]) > 1}
    if wrong:
        place, (listed, actual) = next(iter(wrong.items()))
        note(
            f"{source}: of {many(len(counts), 'video')} opened, "
            f"{many(len(wrong), 'has', 'have')} a different number of frames than "
            f"the list says: {paths[place]} has {actual}, not {listed}; "
            f"`dsm data check {source} --clean NEW.txt` counts them again",
            about=f"frames of {source}",
        )
    labels = videos.labels[videos.labels >= 0]
    if videos.classes or not len(labels) or labels.min() != 1:  # class names are always numbered from 0
        return
    most = int(labels.max())
    if 1 < most == len(np.unique(labels)) and names <= most:
        shape = ["path", "label", *(["frames"] if (videos.frames >= 0).any() else [])]
        columns = list(form.columns) if form else shape
        corrected = shown("label1" if name == "label" else name for name in columns)
        note(
            f"{source}: its labels go from 1 to {most}, so class 0 has no video; if they "
            f"count from 1: `dsm data convert {source} --columns {corrected} --out NEW.txt`"
        )
