"""A timeline per camera: the number of clips per cluster that start in each hour, as bars in SVG."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsm.data.cameras import clock
from dsm.evaluate.footage import Footage
from dsm.pages.embedding import LOOKS

STEPS = (60, 300, 900, 3600, 6 * 3600, 86400, 7 * 86400, 30 * 86400)
"""Possible lengths of a bar in seconds; the shortest with at most :data:`BARS` bars is used."""
NAMES = ("a minute", "5 minutes", "15 minutes", "an hour", "6 hours", "a day", "a week", "30 days")
BARS, CAMERAS, CLUSTERS = 60, 24, 6
"""Most bars and cameras; number of clusters with their own colour, the others being grey."""
WIDTH, HEIGHT = 600, 40
GREY = "#8a949c"


@dataclass(frozen=True)
class Block:
    """A rectangle of one cluster in one step."""

    x: float
    y: float
    width: float
    height: float
    colour: str
    title: str


@dataclass(frozen=True)
class Timelines:
    """The bars of each camera, on a common time axis."""

    cameras: list[tuple[str, list[Block]]]
    step: str
    """The length of a bar, as text."""
    begin: str
    end: str
    known: int
    """Number of clips whose time is known."""
    left_out: int
    """Cameras without a timeline."""


def timelines(footage: Footage, clusters: NDArray[np.int64]) -> Timelines | None:
    """The timelines of the cameras with the most clips; None if no time is known."""
    known = np.flatnonzero(np.isfinite(footage.times))
    if not len(known):
        return None
    times = footage.times[known]
    span = times.max() - times.min()
    which = next((place for place, step in enumerate(STEPS) if span / step < BARS - 1), len(STEPS) - 1)
    step = STEPS[which]
    first = np.floor(times.min() / step) * step
    bins = ((times - first) // step).astype(int)
    count = int(bins.max()) + 1
    colours = np.where((clusters < 0) | (clusters >= CLUSTERS), CLUSTERS, clusters)[known]
    tall = Counter(zip((footage.cameras[row] for row in known), bins.tolist(), strict=True))
    highest = max(tall.values())
    sizes = Counter(footage.cameras[row] for row in known)
    wide = WIDTH / count
    result = []
    for camera, _ in sizes.most_common(CAMERAS):
        own = np.array([footage.cameras[row] == camera for row in known])
        bars = []
        for at in np.unique(bins[own]).tolist():
            top = float(HEIGHT)
            here = Counter(colours[own & (bins == at)].tolist())
            for cluster, number in sorted(here.items()):
                high = HEIGHT * number / highest
                top -= high
                name = "other" if cluster == CLUSTERS else f"cluster {cluster + 1}"
                colour = GREY if cluster == CLUSTERS else LOOKS[cluster][0]
                when = clock(first + at * step)
                bars.append(Block(round(at * wide, 2), round(top, 2), round(wide * 0.9, 2), round(high, 2),
                                colour, f"{when}: {number} of {name}"))  # fmt: skip
        result.append((camera, bars))
    return Timelines(
        result,
        NAMES[which],
        clock(first),
        clock(first + count * step),
        len(known),
        max(len(sizes) - CAMERAS, 0),
    )
