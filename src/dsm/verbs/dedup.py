"""``dsm data dedup``: a list without near-duplicates; one video of each group is kept."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dsm.data.classes import carry_classes
from dsm.data.lists import VideoList, read_list, write_list
from dsm.errors import UserError
from dsm.evaluate.duplicates import Kept, all_pairs, keep_one
from dsm.evaluate.feature_files import load_features
from dsm.evaluate.features import Features
from dsm.evaluate.footage import footage_of, worth
from dsm.files import csv_text, write_text
from dsm.runs.claims import claim_files
from dsm.settings import takes_settings
from dsm.terminal import many, progress, some, warn
from dsm.verbs.result import ListResult
from dsm.verbs.settings.data import DedupConfig

TABLE = ".left-out.tsv"
"""Suffix of the table's name, after the name of the list."""


@dataclass(frozen=True)
class DedupResult(ListResult):
    """The list, and the groups of near-duplicates; rows are positions in the list that was read."""

    groups: Sequence[Kept] = ()


@takes_settings(DedupConfig)
def dedup(config: DedupConfig) -> DedupResult:
    """Write a list that keeps one video of each group of near-duplicates, and a table of those left out."""
    table = config.out.with_name(config.out.name + TABLE)
    claim_files(config.out, table, overwrite=False)
    videos = read_list(config.videos, config.root)
    features = load_features(config.features)
    features.need_videos(config.features, "dedup compares videos")
    rows = _rows_of(videos, features, config)
    again = _listed_again(rows)
    known = np.array([place for place in np.flatnonzero(rows >= 0).tolist() if place not in again], np.int64)
    pairs = all_pairs(features.part(rows[known]), config.threshold)
    pairs = [(int(known[one]), int(known[two]), cosine) for one, two, cosine in pairs]
    order = _by_worth(videos, features, rows, sorted({row for pair in pairs for row in pair[:2]}))
    groups = [_with_repeats(group, again) for group in keep_one(pairs, order)]
    left_out = {row for group in groups for row, _ in group.left_out}
    kept = np.array([place for place in range(len(videos)) if place not in left_out], np.int64)
    carry_classes(videos, config.out.parent)
    part = write_list(config.out, videos.part(kept, config.out.parent))
    write_text(table, _table(videos, groups))
    _tell_labels(videos, groups)
    line = (
        f"{config.out}: {len(part)} of {many(len(videos), 'video')}; {len(left_out)} left out of "
        f"{many(len(groups), 'group')} with a cosine of {config.threshold:g} or more, named in {table}"
    )
    return DedupResult(files=[config.out, table], lines=[line], lists=[part], groups=groups)


def _rows_of(videos: VideoList, features: Features, config: DedupConfig) -> np.ndarray:
    """(n,), the row of each video's features; -1 if it has none.

    Videos are matched by absolute path; if none matches, as after a move, by path as written.

    Raises:
        UserError: no video has one.
    """
    root, places = str(features.meta.get("root", "")), range(len(videos))
    lie = [os.path.abspath(os.path.join(root, path)) for path in features.paths]  # noqa: PTH118
    for ours, theirs in (
        ([os.path.abspath(videos.file(place)) for place in places], lie),
        (list(videos.paths), features.paths),
    ):
        row_of = {path: row for row, path in enumerate(theirs)}
        rows = np.array([row_of.get(path, -1) for path in ours], np.int64)
        if (rows >= 0).any():
            break
    if (rows < 0).all():
        raise UserError(
            f"{config.features}: has features of no video of {config.videos}; extract features of that list, "
            "or say with --root where its paths start."
        )
    if lacking := [videos.paths[place] for place in places if rows[place] < 0]:
        warn(f"{many(len(lacking), 'video has', 'videos have')} no features; kept: {some(lacking)}.")
    return rows


def _listed_again(rows: np.ndarray) -> dict[int, int]:
    """Positions of videos that the list has named before, and where: none is its own duplicate."""
    first: dict[int, int] = {}
    known = ((place, row) for place, row in enumerate(rows.tolist()) if row >= 0)
    return {place: first[row] for place, row in known if first.setdefault(row, place) != place}


def _with_repeats(group: Kept, again: dict[int, int]) -> Kept:
    """A group in which a video that is left out is so wherever the list names it."""
    left_out = [
        (place, cosine)
        for row, cosine in group.left_out
        for place in (row, *(place for place, first in again.items() if first == row))
    ]
    return Kept(group.row, left_out)


def _by_worth(videos: VideoList, features: Features, rows: np.ndarray, places: Sequence[int]) -> list[int]:
    """Positions of videos in pairs, best to keep first: labelled ones, then by :func:`worth`."""
    if not places:
        return []
    with progress("files", len(places)) as bar:
        footage = footage_of(features.part(rows[list(places)]), on_progress=bar.update)
    order = sorted(range(len(places)), key=lambda one: (videos.labels[places[one]] < 0, *worth(one, footage)))
    return [places[one] for one in order]


def _table(videos: VideoList, groups: Sequence[Kept]) -> str:
    lines = [["group", "keep", "path", "label", "cosine"]]
    for number, group in enumerate(groups, start=1):
        kept = ["yes", videos.paths[group.row], str(videos.labels[group.row]), ""]
        rest = [
            ["no", videos.paths[row], str(videos.labels[row]), f"{cosine:.4f}"]
            for row, cosine in group.left_out
        ]
        lines += [[str(number), *cells] for cells in (kept, *rest)]
    return csv_text(lines, delimiter="\t")


def _tell_labels(videos: VideoList, groups: Sequence[Kept]) -> None:
    """Warn of near-duplicates with different labels: one label is wrong, or they are not duplicates."""
    labels = videos.labels
    differ = [
        f"{videos.paths[row]} ({labels[row]}, kept {labels[group.row]})"
        for group in groups
        for row, _ in group.left_out
        if labels[row] >= 0 and labels[row] != labels[group.row]
    ]
    if differ:
        warn(f"left out, although the label differs from that of the video kept: {some(differ)}.")
