"""Temporal Local Disturbance (TLD): keep the scene, break the motion (DSM, section 3.3).

Each kind takes the frame indices of an anchor clip and gives the indices of a clip of the same
video, as long, in which the scene is the same and the movement is not. Working on indices
means that only frames that are wanted are decoded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from dsm.errors import UserError

Indices = NDArray[np.int64]


def _looped(indices: Indices) -> bool:
    """Does the clip begin anew in the middle, the video being too short for it?"""
    return bool((np.diff(indices) < 0).any())


def shift(indices: Indices, total: int, rng: np.random.Generator) -> Indices | None:
    """Another window of the video, at least a quarter of the clip's span away."""
    if _looped(indices):
        return None
    span = int(indices[-1] - indices[0])
    start, last = int(indices[0]), total - 1 - span
    away = max(span // 4, 2)
    starts = [*range(0, start - away + 1), *range(start + away, last + 1)]
    return indices - start + int(rng.choice(starts)) if starts else None


def shuffle(indices: Indices, total: int, rng: np.random.Generator) -> Indices | None:
    """The same frames in another order."""
    if len(indices) < 3:
        return None
    while True:
        order = rng.permutation(len(indices))
        steps = np.diff(order)
        if not ((steps == 1).all() or (steps == -1).all()):  # neither as it was nor reversed
            return indices[order]


def reverse(indices: Indices, total: int, rng: np.random.Generator) -> Indices | None:
    """The same frames backwards."""
    return indices[::-1].copy() if len(indices) > 1 else None


def freeze(indices: Indices, total: int, rng: np.random.Generator) -> Indices | None:
    """One of the frames throughout."""
    return np.full_like(indices, rng.choice(indices)) if len(indices) > 1 else None


def speed(indices: Indices, total: int, rng: np.random.Generator) -> Indices | None:
    """About the same place at another pace: from three times slower to three times faster."""
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


KINDS: dict[str, Callable[[Indices, int, np.random.Generator], Indices | None]] = {
    "shift": shift,
    "shuffle": shuffle,
    "reverse": reverse,
    "freeze": freeze,
    "speed": speed,
}


@dataclass(frozen=True)
class TemporalMix:
    """How often each kind of TLD is drawn, as weights; they need not sum to one."""

    shift: float = 1.0
    shuffle: float = 1.0
    reverse: float = 1.0
    freeze: float = 1.0
    speed: float = 1.0

    def __post_init__(self) -> None:
        weights = [getattr(self, kind.name) for kind in fields(self)]
        if min(weights) < 0 or not 0 < sum(weights) < float("inf"):
            raise UserError("the weights of tld must be 0 or more, and one of them above 0.")

    def draw(self, indices: Indices, total: int, rng: np.random.Generator) -> Indices:
        """Break the motion by a kind drawn by weight; one that this video allows not is drawn anew.

        Args:
            indices: (T,) frames of the anchor. total: frames of the video.

        Returns:
            (T,) frames of the negative; reversed where no kind with a weight is possible.
        """
        weights = np.array([getattr(self, field.name) for field in fields(self)], float)
        kinds = [KINDS[field.name] for field in fields(self)]
        while weights.sum() > 0:
            choice = int(rng.choice(len(kinds), p=weights / weights.sum()))
            broken = kinds[choice](indices, total, rng)
            if broken is not None:
                return broken
            weights[choice] = 0
        return indices[::-1].copy()
