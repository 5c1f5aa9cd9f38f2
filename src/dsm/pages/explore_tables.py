"""The tables beside the page of `dsm explore`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dsm.data.cameras import clock
from dsm.evaluate.explore import NOISE, Explored
from dsm.evaluate.footage import Footage
from dsm.evaluate.novelty import Novelty
from dsm.files import csv_text
from dsm.pages.explore import Exploration

PLACE = ("path", "begin", "end", "camera", "time")


def place_of(footage: Footage, row: int) -> list[str]:
    """A row's path, start, end, camera and time, as cells of a table."""
    times = footage.features.times_of(row)
    begin, end = (f"{one:.2f}" for one in times) if times else ("", "")
    return [footage.features.paths[row], begin, end, footage.cameras[row], clock(float(footage.times[row]))]


def clusters_csv(footage: Footage, explored: Explored) -> str:
    """One line per clip: its cluster, from 1 (empty if none), and how rare it is."""
    lines = [[*PLACE, "cluster", "distance"]]
    for row, cluster in enumerate(explored.clusters.tolist()):
        name = "" if cluster == NOISE else str(cluster + 1)
        lines.append([*place_of(footage, row), name, f"{explored.oddness[row]:.4f}"])
    return csv_text(lines)


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
