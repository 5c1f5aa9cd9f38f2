"""When frames are shown: what the packets of a file say, as seconds that rise; and where time makes a jump.

A camera that waits for motion, a film joined of pieces, a recorder that lost its stream: their clocks
jump, by seconds or by hours. Such a jump is a gap. The frames between two gaps are a part,
and nothing that is sampled lies in a gap or reaches over one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]
Part = tuple[int, int]
"""The first frame of a part, and the one after its last."""

GAP_SECONDS = 1.0
GAP_STEPS = 10.0
"""A step between two frames is a gap where it is longer than a second and than so many usual steps (the
median): a slow camera has no gaps, nor has a file of varying rate."""


def seconds_of(packets: Sequence[int | None], tick: float, rate: float) -> Times | None:
    """When frames are shown, of their packets' times.

    Args:
        packets: times in the order of the file, in ticks; None where one has none.
        tick: seconds a tick.
        rate: frames a second, where the times say nothing.

    Returns:
        (frames,) seconds from the first, in the order in which they are shown, rising; None where nothing is
        said. A clock that jumps back is taken to go on after a gap.
    """
    told = np.array([time for time in packets if time is not None], np.float64) * tick
    if len(told) == len(packets) and tick:
        rising = _rising(told)
        if len(np.unique(rising)) > len(rising) // 2:
            return rising
    return np.arange(len(packets)) / rate if rate else None


def _rising(told: Times) -> Times:
    """Times in the order of the file to those in the order in which frames are shown."""
    gap = _gap(np.abs(np.diff(told)))
    # Frames are decoded a few steps before they are shown. What lies further back was another clock.
    cuts = [0]
    latest = told[0]
    if (np.maximum.accumulate(told) - told).max() > gap:
        for place in range(1, len(told)):
            if latest - told[place] > gap:
                cuts.append(place)
                latest = told[place]
            latest = max(latest, told[place])
    found = []
    end = 0.0
    for begin, stop in zip(cuts, [*cuts[1:], len(told)], strict=True):
        piece = np.sort(told[begin:stop])
        piece += (end + 2 * gap if begin else 0.0) - piece[0]
        found.append(piece)
        end = piece[-1]
    return np.concatenate(found)


def parts_of(times: Times) -> list[Part]:
    """The parts of a video between the gaps in its time: at least one.

    Args:
        times: (frames,) in seconds, rising.
    """
    steps = np.diff(times)
    cuts = (np.flatnonzero(steps > _gap(steps)) + 1).tolist() if len(steps) else []
    return list(zip([0, *cuts], [*cuts, len(times)], strict=True))


def _gap(steps: Times) -> float:
    usual = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
    return max(GAP_SECONDS, GAP_STEPS * usual)
