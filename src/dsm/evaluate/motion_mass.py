"""How much of an activation map's mass lies where things move, compared with chance.

Chance is the share of the clip that moves, which is the score of a uniform map. A map that only prefers the
middle of the picture, where people point cameras, scores better than that on every video. So the map of
*another* video of the list is also scored on this video's motion (as Tatler et al. 2005 control for the
centre bias of gaze).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from dsm.evaluate.settings import MotionKind
from dsm.video.flow import compute_flow
from dsm.views import LUMA

Frames = NDArray[np.uint8]
Area = NDArray[np.bool_]
Maps = NDArray[np.float32]

# A location moves if it is faster than this share of the clip's fast motion (its 98th percentile). So a
# shaking camera and sensor noise do not count beside an actor's motion, and slow videos work like fast ones.
SHARE_OF_FAST, FAST = 0.25, 98.0
# Slower locations do not count as moving: lightness in [0, 1], flow in pixels.
LEAST = {"difference": 0.02, "flow": 0.25}
# Sigma for smoothing frame differences, as a share of the shorter side: a moving plain surface differs
# only at its edges.
SMOOTH = 1 / 40
# Smaller pictures are enlarged before their flow is computed, because its patches have a fixed size.
FLOW_SIDE = 192


def speed_of(frames: Frames, kind: MotionKind = "difference") -> NDArray[np.float32]:
    """How fast each location moves in each frame.

    ``difference``: change of a location's lightness from the frame before or to the frame after, whichever is
    larger, so that a location counts when something leaves or enters it. ``flow``: pixels to the next frame
    (for the last frame, to the one before), minus the median flow, which is the motion of the camera.

    Args:
        frames: (T, H, W, 3) with T >= 2.

    Returns:
        (T, H, W), lightness in [0, 1] or pixels.

    Raises:
        UserError: ``kind`` is flow, and OpenCV is not installed.
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
    """Which locations move: (T, H, W); all False if nothing does.

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
    """How much a map prefers what moves to a still rival: 1 for only what moves, 0 for only the rival.

    The map's mean on what moves, divided by the sum of its means on both, so that their sizes do not matter;
    0.5 means no preference. NaN if one is missing or the map is 0 on both. All are (T, H, W).
    """
    if not moving.any() or not still.any():
        return float("nan")
    one, two = float(maps[moving].mean()), float(maps[still].mean())
    return one / (one + two) if one + two > 0 else float("nan")


@dataclass(frozen=True)
class Measured:
    """The numbers of one video, means over its clips."""

    path: str
    mass: float
    """Share of the map's mass where things move; if NaN, see ``reason``."""
    area: float
    """Share of the clip that moves, which is the score of a uniform map."""
    other: float = float("nan")
    """The mass of another video's map on this video's motion."""
    prefers: float = float("nan")
    """With a pasted still actor, the :func:`preference` for what moves."""
    reason: str = ""
    """Why the video is left out; empty if it is not."""


class MassMeter:
    """Measures one video after another; also scores each video's motion with the maps of the one before."""

    def __init__(self) -> None:
        self.found: list[Measured] = []
        self._first: tuple[int, list[Area]] | None = None
        self._before: list[Maps] | None = None

    def leave_out(self, path: str, reason: str) -> None:
        nan = float("nan")
        self.found.append(Measured(path, nan, nan, reason=reason))

    def add(self, path: str, maps: list[Maps], areas: list[Area], still: list[Area] | None = None) -> None:
        """Measure a video from each clip's map and moving area, (T, H, W) each.

        ``still``: the areas of a pasted still actor.
        """
        moving = [place for place, area in enumerate(areas) if area.any()]
        if not moving:
            return self.leave_out(path, "nothing moves in it")
        masses = [mass_on(maps[place], areas[place]) for place in moving]
        if not np.isfinite(masses).any():
            return self.leave_out(path, "nothing in it raises the score, so its map is empty")
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
        """The results of all videos in order; the first video's ``other`` comes from the last one's maps."""
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
    """The mean of the finite values; NaN if there are none."""
    return float(np.mean([value for value in values if np.isfinite(value)] or [float("nan")]))
