"""Defines a world of MotionScenes, and the functions that all worlds share to draw videos.

A world has motions (the labels), scene families for training and others for ``test_free`` only, and a
function that draws one video. ``motionscenes.py`` lists all worlds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsm.synthetic.motions import TAU

Array = NDArray[np.floating[Any]]
MARGIN = 0.08
"""Largest camera shake, as a share of the frame's side."""


@dataclass(frozen=True)
class Shot:
    """What a world should draw. The generator decides everything else."""

    motion: str
    """One of the world's motions."""
    family: str
    """One of the world's scene families."""
    frames: int
    """Frames to draw."""
    size: int
    """Side of the frame in pixels."""
    radius: tuple[float, float]
    """Smallest and largest radius of the actor, as a share of the frame's side."""
    contrast: float
    """Contrast of the scene (0 to 1)."""
    shake: float
    """Camera shake, as a share of the frame's side."""
    bystanders: int = 0
    """Number of smaller actors, unrelated to the label."""


@dataclass(frozen=True)
class World:
    """One way of drawing MotionScenes."""

    motions: tuple[str, ...]
    """Class names; a label is a position in this table."""
    training_families: tuple[str, ...]
    """Scene families of ``train``, ``test`` and ``test_conflict``; motions share families if there are more
    motions."""
    free_families: tuple[str, ...]
    """Scene families of ``test_free`` only."""
    render: Callable[[Shot, np.random.Generator], NDArray[np.uint8]]
    """Draws one video: uint8 RGB, shape (frames, size, size, 3). The same shot and generator state give the
    same video."""
    bystanders: bool = False
    """Whether it can draw bystanders."""


def wander(frames: int, rng: np.random.Generator, channels: int) -> NDArray[np.float32]:
    """Slow, smooth random curves of unit size, shape (T, channels)."""
    t = np.arange(frames, dtype=np.float32)[:, None] / 24
    waves = np.sum([
        np.sin(TAU * (rng.uniform(0.3, 1.6, channels) * t + rng.random(channels))) for _ in range(3)
    ], axis=0)  # fmt: skip
    return (waves / 1.5).astype(np.float32)


def cycles(frames: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """The time of each frame in cycles of the motion, shape (T,); a cycle takes 20 to 28 frames."""
    period = rng.uniform(20, 28)
    return (np.arange(frames, dtype=np.float32) / period + rng.random()).astype(np.float32)


def steady(scene: Array, shot: Shot, rng: np.random.Generator) -> tuple[NDArray[np.float32], Array]:
    """Film a still scene with a camera that shakes a little.

    Args:
        scene: RGB, shape (S, S, 3), with a border of round(MARGIN * size) pixels on each side.

    Returns:
        Frames, shape (T, size, size, 3), and the camera's offset, shape (T, 2), in units of the frame's
        side: everything in the picture moves the opposite way.
    """
    size, border = shot.size, round(MARGIN * shot.size)
    offsets = np.clip(np.rint(wander(shot.frames, rng, 2) * shot.shake * size), -border, border).astype(int)
    frames = np.stack([
        scene[border + dy : border + dy + size, border + dx : border + dx + size] for dx, dy in offsets
    ])  # fmt: skip
    return frames, offsets / size


def expose(frames: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Add varying light and camera noise, then convert to uint8. Changes ``frames``, float32 in [0, 1]."""
    light = 1 + rng.uniform(0, 0.12) * wander(len(frames), rng, 1)[:, :, None, None]
    frames *= light.astype(np.float32)
    frames += np.float32(0.012) * rng.standard_normal(frames.shape, dtype=np.float32)
    np.clip(frames, 0, 1, out=frames)
    frames *= 255
    return frames.astype(np.uint8)
