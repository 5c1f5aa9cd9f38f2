"""The rows of lists that other tools wrote: videos, labels, frames, segments; and what is odd about them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsm.datasets.columns import Names
from dsm.datasets.list_columns import seconds_of, shown
from dsm.datasets.list_disk import Disk, spread
from dsm.datasets.list_forms import Form, rows_of
from dsm.errors import UserError, has_control
from dsm.files import one_spelling
from dsm.notes import many, note, some
from dsm.video.segments import segment_name

if TYPE_CHECKING:
    from dsm.datasets.lists import VideoList

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
