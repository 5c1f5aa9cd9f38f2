"""How much of a map's mass lies where things move, against chance.

An encoder that reads the scene may look anywhere; one that reads the motion must look at what moves.
Chance is the share of the clip that moves: what a map that is the same everywhere has there. A map that
only prefers the middle of the picture, where people point cameras, does better than that on every video;
so it is also told what a map of *another* video of the list has on this video's motion (the control of
Tatler et al. 2005 for the centre bias of gaze).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from dsm.augment import LUMA
from dsm.video.flow import compute_flow

MotionKind = Literal["difference", "flow"]
Frames = NDArray[np.uint8]
Area = NDArray[np.bool_]
Maps = NDArray[np.float32]

# What moves is faster than this share of the clip's fast motion (its 98th percentile): so a shaking
# camera and the noise of a sensor are no motion beside an actor's, and slow videos are as good as quick.
SHARE_OF_FAST, FAST = 0.25, 98.0
# Below these nothing moves: lightness in [0, 1], pixels of flow.
LEAST = {"difference": 0.02, "flow": 0.25}
# Spread of the smoothing of frame differences, as a share of the shorter side: a plain coat differs at its
# edges alone.
SMOOTH = 1 / 40
# Smaller pictures are enlarged before their flow is computed: its patches are of a fixed size.
FLOW_SIDE = 192


def speed_of(frames: Frames, kind: MotionKind = "difference") -> NDArray[np.float32]:
    """How fast each place moves in each frame.

    ``difference``: how much the lightness of a place changes, to the frame before or after, whichever is
    more, so that a place counts that is left or entered. ``flow``: pixels to the next frame (of the last, to
    the one before), less the picture's median, which is the camera's.

    Args:
        frames: (T, H, W, 3) with T >= 2.

    Returns:
        (T, H, W), lightness in [0, 1] or pixels.

    Raises:
        UserError: flow is wanted, and OpenCV is not installed.
    """
    if kind == "flow":
        return _flow_speed(frames)
    light = (frames / np.float32(255)) @ np.array(LUMA, np.float32)
    change = np.abs(np.diff(light, axis=0))
    change = np.maximum(np.concatenate([change[:1], change]), np.concatenate([change, change[-1:]]))
    spread = SMOOTH * min(light.shape[1:])
    return np.asarray(gaussian_filter(change, (0, spread, spread)), np.float32)


def _flow_speed(frames: Frames) -> NDArray[np.float32]:
    count, height, width = frames.shape[:3]
    times = max(-(-FLOW_SIDE // min(height, width)), 1)
    large = frames
    if times > 1:
        size = width * times, height * times
        large = np.stack(
            [np.asarray(Image.fromarray(one).resize(size, Image.Resampling.BICUBIC)) for one in frames]
        )
    flow = np.concatenate([compute_flow(large), compute_flow(large[:-3:-1])])
    flow -= np.median(flow, axis=(2, 3), keepdims=True)
    speed = np.linalg.norm(flow, axis=1) / times
    return np.asarray(speed.reshape(count, height, times, width, times).mean((2, 4)), np.float32)


def moving_area(frames: Frames, kind: MotionKind = "difference") -> Area:
    """Which places move: (T, H, W); all False where nothing does.

    Args:
        frames: (T, H, W, 3) with T >= 2.
    """
    speed = speed_of(frames, kind)
    return np.asarray(speed > max(LEAST[kind], SHARE_OF_FAST * float(np.percentile(speed, FAST))))


def mass_on(maps: Maps, area: Area) -> float:
    """The share of a map's mass on an area, both (T, H, W); NaN for a map without mass."""
    total = float(maps.sum(dtype=np.float64))
    return float(maps[area].sum(dtype=np.float64)) / total if total > 0 else float("nan")


def preference(maps: Maps, moving: Area, still: Area) -> float:
    """How much a map prefers what moves to a still rival: 1 wholly, 0.5 not at all, 0 the rival wholly.

    The mean of the map on the one, as a share of its means on both, so that their sizes do not matter; NaN
    where one is missing or both are dark. All are (T, H, W).
    """
    if not moving.any() or not still.any():
        return float("nan")
    one, two = float(maps[moving].mean()), float(maps[still].mean())
    return one / (one + two) if one + two > 0 else float("nan")


@dataclass(frozen=True)
class Measured:
    """Of one video, means over its clips."""

    path: str
    mass: float
    """Share of the map's mass where things move; NaN: see ``reason``."""
    area: float
    """Share of the clip that moves: the mass of a map that is the same everywhere."""
    other: float = float("nan")
    """What the map of another video of the list has there."""
    prefers: float = float("nan")
    """Where a still actor was pasted in: see :func:`preference`."""
    reason: str = ""
    """Why it is left out, where it is."""


class MassMeter:
    """Measures video after video; each one's area also under the maps of the video before it."""

    def __init__(self) -> None:
        self.found: list[Measured] = []
        self._first: tuple[int, list[Area]] | None = None
        self._before: list[Maps] | None = None

    def leave_out(self, path: str, reason: str) -> None:
        nan = float("nan")
        self.found.append(Measured(path, nan, nan, reason=reason))

    def add(self, path: str, maps: list[Maps], areas: list[Area], still: list[Area] | None = None) -> None:
        """Measure a video: for each of its clips a map and what moves, (T, H, W) each.

        ``still``: where a still actor was pasted in.
        """
        moving = [place for place, area in enumerate(areas) if area.any()]
        if not moving:
            return self.leave_out(path, "nothing moves in it")
        masses = [mass_on(maps[place], areas[place]) for place in moving]
        if not np.isfinite(masses).any():
            return self.leave_out(path, "nothing in it raises the score: its map is empty")
        kept = [areas[place] for place in moving]
        area = float(np.mean([one.mean() for one in kept]))
        other = float("nan") if self._before is None else _crossed(self._before, kept)
        if self._before is None:
            self._first = len(self.found), kept
        liked = [preference(maps[place], areas[place], still[place]) for place in moving] if still else []
        prefers = _mean_of(liked)
        self.found.append(Measured(path, float(np.nanmean(masses)), area, other, prefers))
        self._before = maps
        return None

    def finish(self) -> list[Measured]:
        """All videos in order; the first is compared with the last one's maps."""
        if self._first and self._before is not None and sum(not one.reason for one in self.found) > 1:
            place, areas = self._first
            one = self.found[place]
            self.found[place] = replace(one, other=_crossed(self._before, areas))
        return self.found


def _crossed(maps: list[Maps], areas: list[Area]) -> float:
    """The mean mass of one video's maps on another's areas."""
    masses = [mass_on(maps[place % len(maps)], area) for place, area in enumerate(areas)]
    return _mean_of(masses)


def _mean_of(values: list[float]) -> float:
    """Of those that are numbers; NaN where none is."""
    return float(np.mean([value for value in values if np.isfinite(value)] or [float("nan")]))
