"""Choosing the frames of a video that form a clip."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsm.video.clock import Part, Times, parts_of
from dsm.video.source import VideoError

Indices = NDArray[np.int64]
Video = int | Sequence[Part]
"""A video as sampling sees it: its number of frames, or its parts between gaps in time."""
MAX_FRAMES = 20_000_000
"""Most frames of a resampled video: four days at 60 frames per second."""


def span(frames: int, stride: int) -> int:
    """How many frames of a video a clip spans."""
    return (frames - 1) * stride + 1


class Resampled(NamedTuple):
    """A video at another frame rate."""

    numbers: Indices
    """(new frames,): the frame number in the file."""
    times: Times
    """(new frames,): when each is shown, in seconds."""
    parts: list[Part]
    """Its parts between gaps in time, in new frame numbers."""


def at_rate(times: Times, fps: float, known: Sequence[Part] | None = None) -> Resampled:
    """A video at another frame rate: at each moment, the frame that is on screen.

    Args:
        times: (frames,) when each frame is shown, in seconds, rising from 0.
        known: the parts between gaps in time, if already known.

    Returns:
        At least one frame; none lies in a gap.

    Raises:
        VideoError: there would be more frames than in any real video.
    """
    pieces: list[Indices] = []
    moments: list[Times] = []
    parts: list[Part] = []
    done = 0
    for begin, stop in known or parts_of(times):
        shown = times[begin:stop] - times[begin]
        # The last frame lasts as long as the average frame.
        length = shown[-1] * len(shown) / max(len(shown) - 1, 1)
        count = length * fps
        if not done + count < MAX_FRAMES:  # a broken file may claim any length
            raise VideoError(
                f"claims to be {length:.3g} seconds long, which is too many frames at {fps:g} per second."
            )
        new = np.arange(max(int(count + 1e-6), 1)) / fps
        pieces.append(begin + np.maximum(np.searchsorted(shown, new + 1e-6, side="right") - 1, 0))
        moments.append(times[begin] + new)
        parts.append((done, done + len(new)))
        done += len(new)
    return Resampled(np.concatenate(pieces), np.concatenate(moments), parts)


def random_part(video: Video, frames: int, stride: int, rng: np.random.Generator) -> Part:
    """Draw the part of a video to take a random clip from, weighted by the number of clips that fit.

    Parts too short for a clip are used only if all are. For a video without gaps nothing is drawn.
    """
    parts, room = _room(video, frames, stride)
    if len(parts) == 1:
        return parts[0]
    return parts[int(rng.choice(len(parts), p=room / room.sum()))]


def random_window(video: Video, frames: int, stride: int, rng: np.random.Generator) -> Indices:
    """A clip at a random place: (frames,) indices.

    A video, or part, that is shorter than the clip is looped: indices wrap around at its end.
    """
    begin, stop = random_part(video, frames, stride, rng)
    last_start = stop - begin - span(frames, stride)
    start = int(rng.integers(0, last_start + 1)) if last_start > 0 else 0
    return clips_from(np.array([begin + start]), [(begin, stop)], frames, stride)[0]


def clips_from(starts: NDArray[Any], video: Video, frames: int, stride: int) -> Indices:
    """Clips that start at these frame numbers: (clips, frames) indices, wrapped at the end of their part."""
    parts = np.array(_parts(video), np.int64)
    starts = starts.astype(np.int64)
    of = np.maximum(np.searchsorted(parts[:, 0], starts, side="right") - 1, 0)
    begin, length = parts[of, 0], parts[of, 1] - parts[of, 0]
    steps = (starts - begin)[:, None] + stride * np.arange(frames)
    return begin[:, None] + steps % length[:, None]


def evenly(count: int, most: int) -> Indices:
    """At most ``most`` of ``count`` positions, evenly spread, with the first and the last."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)


def uniform_windows(video: Video, frames: int, stride: int, windows: int) -> Indices:
    """Clips spread evenly over a video, the first at its start, the last at its end, none across a gap.

    Returns:
        (windows, frames) indices; short videos are looped as in :func:`random_window`.
    """
    parts, room = _room(video, frames, stride)
    last = int(room.sum()) - 1  # of all positions where a clip can start
    places = np.linspace(0, last, windows) if windows > 1 else np.array([last / 2])
    ends = np.cumsum(room)
    chosen = np.rint(places).astype(np.int64)
    of = np.searchsorted(ends, chosen, side="right")
    starts = np.array([begin for begin, _ in parts], np.int64)[of] + chosen - (ends - room)[of]
    return clips_from(starts, parts, frames, stride)


def timed_windows(video: Video, frames: int, stride: int, times: Times, every: float) -> Indices:
    """Clips that start every ``every`` seconds; one that would end after its part is moved to end with it.

    No two clips of a part start with the same frame.

    Args:
        times: (total,) when each frame is shown, in seconds from the first.

    Returns:
        (windows, frames) indices; short parts are looped as in :func:`random_window`.
    """
    starts = []
    for begin, stop in _parts(video):
        shown = times[begin:stop] - times[begin]
        begins = np.arange(max(math.ceil(shown[-1] / every), 1)) * every
        last = max(stop - begin - span(frames, stride), 0)
        starts.append(begin + np.unique(np.minimum(np.searchsorted(shown, begins - 1e-6), last)))
    return clips_from(np.concatenate(starts), video, frames, stride)


def shown_seconds(video: Video, times: Times) -> float:
    """The length of a video without its gaps, in seconds."""
    return float(sum(times[stop - 1] - times[begin] for begin, stop in _parts(video)))


def _parts(video: Video) -> list[Part]:
    return [(0, max(video, 1))] if isinstance(video, (int, np.integer)) else list(video)


def _room(video: Video, frames: int, stride: int) -> tuple[list[Part], Indices]:
    """The parts that clips are taken from, and in how many positions a clip can start in each."""
    parts = _parts(video)
    reach = span(frames, stride)
    long = [part for part in parts if part[1] - part[0] >= reach]
    return (long or parts), np.array([max(stop - begin - reach, 0) + 1 for begin, stop in long or parts])
