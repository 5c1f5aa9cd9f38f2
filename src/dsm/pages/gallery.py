"""Queries and their neighbours as playing clips, marked right or wrong; and the page of one retrieval."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsm.errors import UserError
from dsm.evaluate.features import Features, label_names
from dsm.evaluate.footage import file_of
from dsm.evaluate.retrieval import Retrieval, retrieve
from dsm.pages.tables import Bar
from dsm.pages.template import clip_uri, write_page
from dsm.video.decode import probe, read_frames
from dsm.video.source import VideoError
from dsm.video.times import frame_times

FRAMES, SHORT_SIDE, SECONDS = 16, 112, 20.0
"""For a shown clip: number of frames, their shorter side in pixels, and the time limit for reading it."""


def clip_frames(features: Features, row: int) -> NDArray[np.uint8]:
    """Frames of a row's clip, or of its whole video: uint8 (T, H, W, 3).

    Raises:
        UserError: it cannot be read.
    """
    file = file_of(features, row)
    info = probe(file)
    first, last = 0, max(info.frames - 1, 0)
    if times := features.times_of(row):
        with suppress(VideoError):  # the video has no frame times after all
            first, last = (int(i) for i in np.searchsorted(frame_times(file), np.array(times) - 1e-3))
    numbers = np.linspace(first, max(first, last), FRAMES).round().astype(np.int64)
    return read_frames(file, numbers, SHORT_SIDE, SECONDS)


def clips_of(features: Features, rows: Iterable[int], *, room: float = math.inf) -> dict[int, str]:
    """Clips of some rows as data URIs, in the given order; unreadable ones are left out.

    Args:
        room: most characters in total.
    """
    clips: dict[int, str] = {}
    for row in rows:
        try:
            uri = clip_uri(clip_frames(features, row))
        except UserError:
            continue
        room -= len(uri)
        if room < 0:
            break
        clips[row] = uri
    return clips


def end_of(path: str) -> str:
    """A path's last folder and name, for a caption; paths of packs and archives are long."""
    *folders, folder, name = ("", *path.split("/"))
    return f"…/{folder}/{name}" if any(folders) else path


def row_text(features: Features, row: int, *, short: bool = False) -> str:
    """The path of a row, or if ``short`` its end, with its times if it is a clip."""
    path = end_of(features.paths[row]) if short else features.paths[row]
    times = features.times_of(row)
    return f"{path} {times[0]:.1f}–{times[1]:.1f} s" if times else path


NEIGHBOURS = 5


@dataclass(frozen=True)
class ShownClip:
    """A playing clip and its caption; ``right`` is None if it is not a neighbour."""

    uri: str
    caption: str
    text: str = ""
    right: bool | None = None


@dataclass(frozen=True)
class ShownQuery:
    """A query clip, and its neighbours by run."""

    title: str
    query: ShownClip
    runs: list[tuple[str, list[ShownClip]]]


def neighbours(
    retrieval: Retrieval,
    query: int,
    uri: Callable[[int], str],
    caption: Callable[[int, float], str],
    text: Callable[[int], str] = lambda _: "",
    *,
    most: int = NEIGHBOURS,
    judged: bool = True,
) -> list[ShownClip]:
    """One query's nearest neighbours; ``uri``, ``caption`` and ``text`` describe a row of the gallery.

    ``judged``: whether right and wrong are marked, which needs labels.
    """
    return [
        ShownClip(
            uri(int(place)),
            caption(int(place), float(retrieval.similarities[query, rank])),
            text(int(place)),
            bool(retrieval.right[query, rank]) if judged else None,
        )
        for rank, place in enumerate(retrieval.neighbours[query, :most])
        if place >= 0
    ]


def write_gallery(
    path: Path,
    gallery: Features,
    queries: Features,
    retrieval: Retrieval,
    shown: int,
    *,
    recall: Bar | None = None,
    chance: float | None = None,
) -> None:
    """Write the page of ``shown`` queries, drawn at random but the same every time.

    Args:
        recall: R@1, and ``chance`` its value for random neighbours; None without labels.

    Raises:
        UserError: a video cannot be read.
    """

    @lru_cache(maxsize=256)
    def uri(row: int) -> str:
        return clip_uri(clip_frames(gallery, row))

    rows = []
    names = label_names(gallery), label_names(queries)
    judged = gallery.labelled and queries.labelled
    for query in drawn(len(queries), shown):
        near = neighbours(
            retrieval, query, uri,
            lambda place, cosine: _caption(gallery, place, cosine, names[0]),
            lambda place: row_text(gallery, place, short=True),
            judged=judged,
        )  # fmt: skip
        own = clip_uri(clip_frames(queries, query))
        itself = ShownClip(
            own,
            f"query: {_class_words(queries, query, names[1])}".rstrip(": ,"),
            row_text(queries, query, short=True),
        )
        rows.append(ShownQuery("", itself, [("", near)]))
    write_page(
        path, "gallery.html", title=_title(queries), rows=rows,
        count=len(gallery), queries=len(queries), recall=recall if judged else None,
        chance=None if chance is None else 100 * chance,
        right=int(retrieval.recall(1).sum()) if judged else None,
    )  # fmt: skip


def _title(queries: Features) -> str:
    words = [
        f"{word} {name}" for word, key in (("of", "list"), ("by", "run")) if (name := queries.meta.get(key))
    ]
    return " ".join(["Nearest neighbours", *words])


def _caption(gallery: Features, place: int, cosine: float, names: Sequence[str]) -> str:
    return f"{_class_words(gallery, place, names)}cosine\N{NO-BREAK SPACE}{cosine:.2f}"


def _class_words(features: Features, row: int, names: Sequence[str] = ()) -> str:
    """The name of a row's class, with a comma; empty if it has no label."""
    label = int(features.labels[row])
    if label < 0:
        return ""
    name = names[label] if label < len(names) else str(label)
    return f"class {label}, " if name == str(label) else f"{name}, "


def compared(
    runs: Mapping[str, tuple[Features, Features]], names: Sequence[str], shown: int, room: float
) -> list[ShownQuery]:
    """The same queries and their neighbours in the features of several runs.

    Args:
        runs: run name -> features of the gallery and of the queries; the same lists for all runs.
        names: the names of the classes.
        shown: number of queries, drawn at random but the same every time.
        room: most characters of all clips together; queries beyond that, and queries with an unreadable
            clip, are left out.
    """
    queries = next(iter(runs.values()))[1]
    retrievals = {run: retrieve(*pair, NEIGHBOURS) for run, pair in runs.items()}
    clips: dict[str, str] = {}

    def near(run: str, path: str) -> list[ShownClip]:
        gallery, own = runs[run]
        if path not in own.paths:  # it could not be read
            return []

        def uri(place: int) -> str:
            name = gallery.paths[place]
            if name not in clips:
                clips[name] = clip_uri(clip_frames(gallery, place))
            return clips[name]

        return neighbours(
            retrievals[run], own.paths.index(path), uri,
            lambda place, cosine: _caption(gallery, place, cosine, names),
            judged=gallery.labelled and own.labelled,
        )  # fmt: skip

    rows: list[ShownQuery] = []
    for query in drawn(len(queries), shown):
        path, name = queries.paths[query], _class_words(queries, query, names).rstrip(", ")
        try:
            itself = ShownClip(clip_uri(clip_frames(queries, query)), f"query: {name}" if name else "query")
            one = ShownQuery(
                f"{name}: {end_of(path)}" if name else end_of(path),
                itself,
                [(run, near(run, path)) for run in runs],
            )
        except UserError:  # one unreadable clip must not cost the whole page
            continue
        room -= sum(len(clip.uri) for _, some in one.runs for clip in (itself, *some))
        if room < 0:
            break
        rows.append(one)
    return rows


def drawn(count: int, shown: int) -> list[int]:
    """Up to ``shown`` of ``count`` positions, drawn at random but the same every time."""
    places: list[int] = np.random.default_rng(0).permutation(count)[:shown].tolist()
    return sorted(places)
