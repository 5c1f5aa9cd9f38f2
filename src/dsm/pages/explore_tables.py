"""The tables beside the page of `dsm explore`."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dsm.data.cameras import clock
from dsm.data.list_format import UNKNOWN
from dsm.data.lists import VideoList, listable
from dsm.errors import UserError
from dsm.evaluate.explore import NOISE, Explored
from dsm.evaluate.footage import Footage
from dsm.evaluate.novelty import Novelty
from dsm.files import csv_rows, csv_text
from dsm.pages.explore import Exploration

CLUSTERS = "clusters.csv"

PLACE = ("path", "begin", "end", "camera", "time")


def place_of(footage: Footage, row: int) -> list[str]:
    """A row's path, start, end, camera and time, as cells of a table."""
    times = footage.features.times_of(row)
    begin, end = (f"{one:.3f}" for one in times) if times else ("", "")
    return [footage.features.paths[row], begin, end, footage.cameras[row], clock(float(footage.times[row]))]


def clusters_csv(footage: Footage, explored: Explored) -> str:
    """One line per clip: its cluster, from 1 (empty if none), and how rare it is."""
    lines = [[*PLACE, "cluster", "distance"]]
    for row, cluster in enumerate(explored.clusters.tolist()):
        name = "" if cluster == NOISE else str(cluster + 1)
        lines.append([*place_of(footage, row), name, f"{explored.oddness[row]:.4f}"])
    return csv_text(lines)


_NAMES = ["path", "cluster", "clips", "label"]


def names_clusters(file: Path) -> bool:
    """Whether a list is a page's ``names.csv``, which names clusters by their numbers in ``clusters.csv``."""
    with file.open("rb") as opened:
        return opened.readline(64).removeprefix(BOM_UTF8).strip() == ",".join(_NAMES).encode()


def read_names(file: Path, footage: Footage) -> VideoList:
    """The list of clips that ``names.csv`` stands for; a clip's own name comes before its cluster's.

    Raises:
        UserError: ``clusters.csv`` is not beside it, or is of another page, or of other footage.
    """
    clusters = file.with_name(CLUSTERS)
    if not clusters.is_file():
        raise UserError(f"{file}: names clusters by number; put it beside the {CLUSTERS} of its page.")
    given, members = _rows(file, _NAMES), _rows(clusters, [*PLACE, "cluster"])
    sizes = Counter(row["cluster"] for row in members)
    of_cluster = {row["cluster"]: row["label"] for row in given if row["cluster"]}
    if any(str(sizes[row["cluster"]]) != row["clips"] for row in given if row["cluster"]):
        raise UserError(f"{clusters}: has other clusters than the page of {file}; name the clusters again.")
    own = {row["path"]: row["label"] for row in given if not row["cluster"]}
    cluster_of = {(row["path"], row["begin"], row["end"]): row["cluster"] for row in members}
    labels: dict[str, str] = {}
    found = 0
    for place, path in enumerate(footage.features.paths):
        name = footage.name(place)
        _, begin, end, *_ = place_of(footage, place)
        by_cluster = of_cluster.get(cluster_of.get((path, begin, end), ""), "")
        found += bool(by_cluster)
        if label := own.get(name, by_cluster):
            labels[name] = label
    missing = sum(sizes[cluster] for cluster in of_cluster) - found
    if missing or own.keys() - labels.keys():
        raise UserError(f"{file}: names clips that these features lack; explore the features of its page.")
    classes = sorted(set(labels.values()))
    numbers = np.array([classes.index(label) for label in labels.values()], np.int64)
    unknown = np.full(len(labels), UNKNOWN)
    return VideoList(list(labels), numbers, unknown, Path(), str(file), tuple(classes))


def _rows(file: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a table of the page.

    Raises:
        UserError: it is not such a table.
    """
    try:
        return [{name: row[name] for name in columns} for row in csv_rows(file)]
    except (KeyError, ValueError):
        raise UserError(f"{file}: is not a table of {', '.join(columns)} from `dsm explore`.") from None


def labels_csv(labels: VideoList) -> str:
    """One line per labelled clip."""
    pairs = zip(labels.paths, labels.labels.tolist(), strict=True)
    return csv_text([["path", "label"], *([listable(path), labels.classes[label]] for path, label in pairs)])


def rarest_csv(footage: Footage, found: Exploration) -> str:
    """The rarest clips, overall and of each camera."""
    lines = [["among", "rank", *PLACE, "distance"]]
    for among, rows in {"all": found.rare, **found.rare_by_camera}.items():
        for rank, row in enumerate(rows, start=1):
            lines.append([among, str(rank), *place_of(footage, row), f"{found.explored.oddness[row]:.4f}"])
    return csv_text(lines)


def duplicates_csv(footage: Footage, found: Exploration) -> str:
    """One line per clip in a group of near-duplicates, the one to keep first."""
    lines = [["group", "keep", *PLACE, "width", "height", "seconds"]]
    for number, group in enumerate(found.groups, start=1):
        for place, row in enumerate(group):
            width, height = (str(one) if one else "" for one in footage.pixels[row])
            seconds = f"{footage.seconds[row]:.2f}" if np.isfinite(footage.seconds[row]) else ""
            keep = "yes" if place == 0 else "no"
            lines.append([str(number), keep, *place_of(footage, row), width, height, seconds])
    return csv_text(lines)


def alerts_csv(footage: Footage, new: Novelty, archive: Footage, order: Sequence[int]) -> str:
    """One line per alarm, the most unlike the archive first, with the archive's nearest clip.

    Args:
        order: the rows of the alarms.
    """
    lines = [[*PLACE, "distance", "threshold", "p", "nearest"]]
    for row in order:
        near = archive.name(int(new.nearest[row]))
        numbers = (f"{new.scores[row]:.4f}", f"{new.threshold:.4f}", f"{new.p_values[row]:.4f}")
        lines.append([*place_of(footage, row), *numbers, near])
    return csv_text(lines)


def suggestions_csv(footage: Footage, suggested: Sequence[tuple[int, float]]) -> str:
    """One line per clip to label next, with the margin of the probe's two most probable labels."""
    lines = [[*PLACE, "margin"]]
    return csv_text([*lines, *([*place_of(footage, row), f"{margin:.4f}"] for row, margin in suggested)])
