"""Defines the motions of MotionScenes, which are the labels.

Time is counted in cycles, so motions do not depend on frame rates. Coordinates are in units of the
motion's reach: x to the right and y downwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
TAU = 2 * np.pi


@dataclass(frozen=True)
class Pose:
    """Where an actor is: offsets in units of the motion's reach, a size factor, an angle.

    ``x``, ``y`` in [-1, 1]; ``scale`` around 1; ``angle`` in radians, clockwise on screen.
    Each is a scalar or an array over time.
    """

    x: Array | float = 0.0
    y: Array | float = 0.0
    scale: Array | float = 1.0
    angle: Array | float = 0.0


def _sin(t: Array) -> Array:
    return np.sin(TAU * t).astype(np.float32)


def _cos(t: Array) -> Array:
    return np.cos(TAU * t).astype(np.float32)


def _triangle(t: Array) -> Array:
    """A triangle wave between -1 and 1, in phase with the sine."""
    return (2 / np.pi * np.arcsin(np.clip(_sin(t), -1, 1))).astype(np.float32)


def _sawtooth(t: Array) -> Array:
    """Rises slowly from -1 to 1 over the first 80 % of a cycle, then falls back."""
    u = t % 1.0
    return np.where(u < 0.8, 2 * u / 0.8 - 1, 1 - 2 * (u - 0.8) / 0.2).astype(np.float32)


def _square_path(t: Array) -> Pose:
    """Once round a square, clockwise on screen, at constant speed."""
    u = (t % 1.0) * 4
    side = np.floor(u).astype(int) % 4
    f = (2 * (u % 1.0) - 1).astype(np.float32)
    one = np.ones_like(f)
    x = np.choose(side, [f, one, -f, -one])
    y = np.choose(side, [-one, f, one, -f])
    return Pose(x=x.astype(np.float32), y=y.astype(np.float32))


# The order is part of the format: a label is a position in this table. The demo has the first ten
# motions, ``--preset full`` has all. Pairs that mirror or reverse each other are intended: to distinguish
# them, a network must use direction and order.
MOTIONS: dict[str, Callable[[Array], Pose]] = {
    "swing-sideways": lambda t: Pose(x=_sin(t)),
    "swing-upright": lambda t: Pose(y=_sin(t)),
    "circle-clockwise": lambda t: Pose(x=0.8 * _cos(t), y=0.8 * _sin(t)),
    "circle-anticlockwise": lambda t: Pose(x=0.8 * _cos(t), y=-0.8 * _sin(t)),
    "spin-clockwise": lambda t: Pose(angle=TAU * t),
    "spin-anticlockwise": lambda t: Pose(angle=-TAU * t),
    "pulse": lambda t: Pose(scale=1 + 0.4 * _sin(t)),
    "hop": lambda t: Pose(y=1 - 2 * np.abs(_sin(t)), scale=1 - 0.15 * np.abs(_cos(t))),
    "figure-eight": lambda t: Pose(x=_sin(t), y=0.8 * _sin(2 * t)),
    "swell-and-snap": lambda t: Pose(scale=1 + 0.45 * _sawtooth(t)),
    "shrink-and-snap": lambda t: Pose(scale=1 - 0.45 * _sawtooth(t)),
    "rock": lambda t: Pose(angle=0.9 * _sin(t)),
    "creep-right": lambda t: Pose(x=_sawtooth(t)),
    "creep-left": lambda t: Pose(x=-_sawtooth(t)),
    "square-path": _square_path,
    "zigzag": lambda t: Pose(x=_triangle(t), y=0.6 * _triangle(3 * t)),
}
