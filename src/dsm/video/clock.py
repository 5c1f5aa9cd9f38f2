"""When frames are shown: packet times as increasing seconds, and gaps where the clock jumps.

The clock of a file jumps, by seconds or hours, when a camera waits for motion, a film is joined from pieces
or a recorder loses its stream. Such a jump is a gap. The frames between two gaps are a part;
no sampled clip lies in a gap or crosses one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]
Part = tuple[int, int]
"""The first frame of a part, and the frame after its last."""

GAP_SECONDS = 1.0
GAP_STEPS = 10.0
"""A step between two frames is a gap if it is longer than a second and than ten median steps, so slow cameras
and files with a variable rate have no gaps."""


def seconds_of(packets: Sequence[int | None], tick: float, rate: float) -> Times | None:
    """Compute when frames are shown from the times of their packets.

    Args:
        packets: times in file order, in ticks; None for a packet without a time.
        tick: seconds per tick.
        rate: frames per second, used where the times are unusable.

    Returns:
        (frames,) seconds from the first frame, in display order, rising; None without usable times and
        without a rate. A clock that jumps back is taken to continue after a gap.
    """
    seconds = np.array([time for time in packets if time is not None], np.float64) * tick
    if len(seconds) == len(packets) and tick:
        rising = _rising(seconds)
        if len(np.unique(rising)) > len(rising) // 2:
            return rising
    return np.arange(len(packets)) / rate if rate else None


def _rising(seconds: Times) -> Times:
    """Sort times from file order into display order."""
    gap = _gap(np.abs(np.diff(seconds)))
    # Frames are decoded a few steps before they are shown. A time further back comes from another clock.
    cuts = [0]
    latest = seconds[0]
    if (np.maximum.accumulate(seconds) - seconds).max() > gap:
        for place in range(1, len(seconds)):
            if latest - seconds[place] > gap:
                cuts.append(place)
                latest = seconds[place]
            latest = max(latest, seconds[place])
    pieces = []
    end = 0.0
    for begin, stop in zip(cuts, [*cuts[1:], len(seconds)], strict=True):
        piece = np.sort(seconds[begin:stop])
        piece += (end + 2 * gap if begin else 0.0) - piece[0]
        pieces.append(piece)
        end = piece[-1]
    return np.concatenate(pieces)


def parts_of(times: Times) -> list[Part]:
    """The parts of a video between gaps in time: at least one.

    Args:
        times: (frames,) in seconds, rising.
    """
    steps = np.diff(times)
    cuts = (np.flatnonzero(steps > _gap(steps)) + 1).tolist() if len(steps) else []
    return list(zip([0, *cuts], [*cuts, len(times)], strict=True))


def _gap(steps: Times) -> float:
    usual = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
    return max(GAP_SECONDS, GAP_STEPS * usual)
