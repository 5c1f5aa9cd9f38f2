"""Temporal Local Disturbance (TLD): keep the scene, break the motion (DSM, section 3.3).

Most kinds take the frame indices of an anchor clip and return the indices of another clip of the same video
and length, with the same scene but a different motion. Because they work on indices, only the frames that are
needed get decoded.

:class:`MotionScale` works on pixels (``motion_scale.py``). This module imports torch only to disturb clips,
because the mix of kinds is also the settings of ``--dsm.tld``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dsm.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

FACTORS = (0.01, 10.0)
"""Smallest and largest factor, as in the paper's code; drawn uniformly on a logarithmic scale."""
NEAR_ONE = 1.6
"""Factors from 1/1.6 to 1.6 are not drawn: they would hardly change the motion."""


@dataclass(frozen=True)
class MotionScale:
    """A change of pace in a clip from frame ``start`` to frame ``stop``, the last frame changed."""

    factor: float
    start: int
    stop: int


def draw_motion_scale(frames: int, rng: np.random.Generator) -> MotionScale:
    """Draw a factor and an interval of at least half the clip.

    Args:
        frames: length of the clip, at least 3.
    """
    while True:
        factor = float(np.exp(rng.uniform(*np.log(FACTORS))))
        if not 1 / NEAR_ONE < factor < NEAR_ONE:
            break
    steps = int(rng.integers(frames // 2, frames))
    start = int(rng.integers(0, frames - steps))
    return MotionScale(factor, start, start + steps)


Indices = NDArray[np.int64]


def _looped(indices: Indices) -> bool:
    """Whether the clip wraps around because the video is too short."""
    return bool((np.diff(indices) < 0).any())


def shift(indices: Indices, total: int, rng: np.random.Generator) -> Indices | None:
    """Another window of the video, at least a quarter of the clip's span away."""
    if _looped(indices):
        return None
    span = int(indices[-1] - indices[0])
    start, last = int(indices[0]), total - 1 - span
    away = max(span // 4, 2)
    before = max(start - away + 1, 0)
    after = max(last - (start + away) + 1, 0)
    if before + after == 0:
        return None
    drawn = int(rng.integers(before + after))
    return indices - start + (drawn if drawn < before else start + away + drawn - before)


def shuffle(indices: Indices, total: int, rng: np.random.Generator) -> Indices | None:
    """The same frames in another order."""
    if len(indices) < 3:
        return None
    while True:
        order = rng.permutation(len(indices))
        steps = np.diff(order)
        if not ((steps == 1).all() or (steps == -1).all()):  # neither the original order nor its reverse
            return indices[order]


def reverse(indices: Indices, total: int, rng: np.random.Generator) -> Indices | None:
    """The same frames backwards."""
    return indices[::-1].copy() if len(indices) > 1 else None


def freeze(indices: Indices, total: int, rng: np.random.Generator) -> Indices | None:
    """One of the frames, repeated."""
    return np.full_like(indices, rng.choice(indices)) if len(indices) > 1 else None


def speed(indices: Indices, total: int, rng: np.random.Generator) -> Indices | None:
    """About the same moment at another pace: up to three times slower or faster."""
    length = len(indices)
    if length < 3 or indices[-1] == indices[0] or _looped(indices):
        return None
    stride = (indices[-1] - indices[0]) / (length - 1)
    slow, fast = stride * rng.uniform(1 / 3, 0.6), stride * rng.uniform(1.6, 3)
    paces = [pace for pace in (slow, fast) if pace * (length - 1) <= total - 1]
    if not paces:
        return None
    half = float(rng.choice(paces)) * (length - 1) / 2
    centre = float(np.clip(indices.mean(), half, total - 1 - half))
    return np.rint(np.linspace(centre - half, centre + half, length)).astype(np.int64)


EDITS = 0.2
"""Share of frames that swap, insert and delete edit; the paper's code edits one in ten, in two rounds."""


def _edits(indices: Indices) -> int:
    return max(round(EDITS * len(indices)), 1)


def swap(indices: Indices, total: int, rng: np.random.Generator) -> Indices | None:
    """The same frames with a few pairs swapped."""
    places = np.arange(len(indices))
    if len(places) < 2:
        return None
    while True:
        order = places.copy()
        for _ in range(_edits(indices)):
            one, two = rng.choice(len(order), 2, replace=False)
            order[[one, two]] = order[[two, one]]
        if (order != places).any():  # one swap may undo another
            return indices[order]


def insert(indices: Indices, total: int, rng: np.random.Generator) -> Indices | None:
    """The clip with a few of its frames repeated at random places; as many are dropped at its end."""
    places = np.arange(len(indices))
    if len(places) < 2:
        return None
    while True:
        order = places
        for _ in range(_edits(indices)):
            order = np.insert(order, rng.integers(len(places)), rng.choice(places))
        order = order[: len(places)]
        if (order != places).any():  # a repeated last frame is dropped again
            return indices[order]


def delete(indices: Indices, total: int, rng: np.random.Generator) -> Indices | None:
    """The clip without a few frames, completed with the frames after it or the video's last frame."""
    length = len(indices)
    if length < 2:
        return None
    deleted = rng.choice(length - 1, min(_edits(indices), length - 1), replace=False)
    stride = max(int(indices[-1] - indices[-2]), 1)
    after = np.minimum(
        indices[-1] + stride * np.arange(1, len(deleted) + 1), max(total - 1, int(indices[-1]))
    )
    return np.concatenate([np.delete(indices, deleted), after])


KINDS: dict[str, Callable[[Indices, int, np.random.Generator], Indices | None]] = {
    "shift": shift,
    "shuffle": shuffle,
    "reverse": reverse,
    "freeze": freeze,
    "speed": speed,
    "swap": swap,
    "insert": insert,
    "delete": delete,
}


@dataclass(frozen=True)
class Broken:
    """A clip with broken motion: which frames to read, and how to change them."""

    indices: Indices
    """(T,) frames to read."""
    scale: MotionScale | None = None


@dataclass(frozen=True)
class TemporalMix:
    """Weights of the kinds of TLD; they need not sum to one."""

    shift: float = 1.0
    """Weight of another part of the video."""
    shuffle: float = 1.0
    """Weight of the frames in random order."""
    reverse: float = 1.0
    """Weight of the frames backwards."""
    freeze: float = 1.0
    """Weight of one frame, repeated."""
    speed: float = 1.0
    """Weight of the motion at another pace."""
    swap: float = 0.0
    """Weight of a few frames that change places."""
    insert: float = 0.0
    """Weight of a few frames that are repeated."""
    delete: float = 0.0
    """Weight of a few frames that are left out."""
    flow: float = 0.0
    """Weight of changing the pace of the motion for a while, by warping along optical flow (needs OpenCV)."""

    def __post_init__(self) -> None:
        weights = [getattr(self, kind.name) for kind in fields(self)]
        if min(weights) < 0 or not 0 < sum(weights) < float("inf"):
            raise UserError("the weights of tld must be 0 or more, and at least one above 0.")

    @classmethod
    def only(cls, kind: str) -> TemporalMix:
        """A mix of this kind alone."""
        return cls(**{field.name: float(field.name == kind) for field in fields(cls)})

    @cached_property  # every sample needs them
    def _kinds(self) -> tuple[list[str], NDArray[np.float64]]:
        """The names of all kinds, and their weights."""
        names = [kind.name for kind in fields(self)]
        return names, np.array([getattr(self, name) for name in names], float)

    def draw(self, indices: Indices, total: int, rng: np.random.Generator) -> Broken:
        """Break the motion by a kind drawn by weight; draw again if it is impossible or changes nothing.

        Args:
            indices: (T,) frames of the anchor. total: frames of the video.

        Returns:
            The frames of the negative. If no kind with a weight works, the anchor is reversed, or, if that
            changes nothing, rotated by one frame. A clip that repeats a single frame stays the same.
        """
        names, weights = self._kinds
        weights = weights.copy()
        while weights.sum() > 0:
            choice = int(rng.choice(len(names), p=weights / weights.sum()))
            if names[choice] == "flow":
                if len(indices) > 2 and not _looped(indices):
                    return Broken(indices, draw_motion_scale(len(indices), rng))
            else:
                broken = KINDS[names[choice]](indices, total, rng)
                # In a short video that plays in a loop, other positions may hold the same frames.
                if broken is not None and not np.array_equal(broken, indices):
                    return Broken(broken)
            weights[choice] = 0
        backwards = indices[::-1].copy()
        return Broken(np.roll(indices, 1) if np.array_equal(backwards, indices) else backwards)

    def __call__(self, clip: Tensor, seed: np.random.Generator | int | None = None) -> Tensor:
        """Break the motion of each of the clips (B, C, T, H, W) differently, using only its own frames.

        Keeps shape, type and range (uint8, or floating point in [0, 1]). Shifts cannot reach beyond a clip;
        `dsm pretrain` draws from the whole video.
        """
        import torch

        from dsm.disturb.motion_scale import scale_motion
        from dsm.video.flow import compute_flow

        rng = np.random.default_rng(seed)
        length = clip.shape[2]
        rows = []
        for one in clip:
            broken = self.draw(np.arange(length), length, rng)
            if broken.scale:
                pixels = one if one.dtype == torch.uint8 else (one * 255).round().byte()
                flow = compute_flow(pixels.permute(1, 2, 3, 0).cpu().numpy())
                rows.append(scale_motion(one, torch.from_numpy(flow), broken.scale))
            else:
                rows.append(one[:, torch.from_numpy(broken.indices).to(one.device)])
        return torch.stack(rows) if rows else clip
