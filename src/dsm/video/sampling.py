"""Which frames of a video make a clip."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsm.video.source import VideoError

Indices = NDArray[np.int64]
MOST = 20_000_000
"""Frames at a rate that is asked for: four days at 60 a second."""


def span(frames: int, stride: int) -> int:
    """How many frames of a video a clip reaches over."""
    return (frames - 1) * stride + 1


def resample(times: NDArray[np.float64], fps: float) -> Indices:
    """Frame numbers of a video shown at another rate: at each moment the frame that is on screen.

    Args:
        times: (frames,) when each frame is shown, in seconds, rising from 0.

    Returns:
        (new frames,), at least one.

    Raises:
        VideoError: they are more than any video has.
    """
    # The last frame stays as long as the mean one.
    length = times[-1] * len(times) / max(len(times) - 1, 1)
    count = length * fps
    if not count < MOST:  # a broken file may say anything
        raise VideoError(f"says that it is {length:.3g} seconds long: too many frames at {fps:g} a second.")
    moments = np.arange(max(int(count + 1e-6), 1)) / fps
    return np.maximum(np.searchsorted(times, moments + 1e-6, side="right") - 1, 0)


def random_window(total: int, frames: int, stride: int, rng: np.random.Generator) -> Indices:
    """A clip at a random place: (frames,) indices.

    A video shorter than the clip is looped: indices run past its end and are wrapped.
    """
    last_start = total - span(frames, stride)
    start = int(rng.integers(0, last_start + 1)) if last_start > 0 else 0
    return clips_from(np.array([start]), total, frames, stride)[0]


def clips_from(starts: NDArray[Any], total: int, frames: int, stride: int) -> Indices:
    """Clips by the numbers of their first frames: (clips, frames) indices, wrapped at the video's end."""
    return (starts.astype(np.int64)[:, None] + stride * np.arange(frames)) % total


def uniform_windows(total: int, frames: int, stride: int, windows: int) -> Indices:
    """Clips spread evenly over a video, the first at its start, the last at its end.

    Returns:
        (windows, frames) indices; short videos are looped as in :func:`random_window`.
    """
    last_start = max(total - span(frames, stride), 0)
    starts = np.linspace(0, last_start, windows) if windows > 1 else np.array([last_start / 2])
    return clips_from(np.rint(starts), total, frames, stride)


def timed_windows(total: int, frames: int, stride: int, times: NDArray[np.float64], every: float) -> Indices:
    """Clips that begin every so many seconds; those that would end after the video end with it.

    Args:
        times: (total,) when each frame is shown, in seconds from the first.

    Returns:
        (windows, frames) indices; short videos are looped as in :func:`random_window`.
    """
    begins = np.arange(max(math.ceil(times[-1] / every), 1)) * every
    starts = np.minimum(np.searchsorted(times, begins - 1e-6), max(total - span(frames, stride), 0))
    return clips_from(starts, total, frames, stride)
