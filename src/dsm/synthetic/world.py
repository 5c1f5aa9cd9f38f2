"""What a world of MotionScenes is: names, and a painter of videos; and what all painters share.

A world has motions (the labels), scene families for training and others that only ``test_free``
shows, and draws one video of them. ``worlds.py`` lists the worlds there are.
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
"""How far a camera may shake, as a share of the frame's side."""


@dataclass(frozen=True)
class Shot:
    """What a painter is asked for. Everything it leaves open, the generator decides."""

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
    """How loud the scene is (0 to 1)."""
    shake: float
    """Camera shake, as a share of the frame's side."""
    bystanders: int = 0
    """Smaller actors that say nothing about the label."""


@dataclass(frozen=True)
class World:
    """One way of drawing MotionScenes."""

    motions: tuple[str, ...]
    """The labels' names; a label is a place in this table."""
    training_families: tuple[str, ...]
    """Scene families of ``train``, ``test`` and ``test_conflict``; at least as many as motions it is shown
    with, or motions share them."""
    free_families: tuple[str, ...]
    """Scene families of ``test_free`` only."""
    render: Callable[[Shot, np.random.Generator], NDArray[np.uint8]]
    """Draws one video: uint8 RGB, shape (frames, size, size, 3). Same shot and generator, same video."""
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
    """The time of each frame, in cycles of the motion, shape (T,): a cycle takes 20 to 28 frames."""
    period = rng.uniform(20, 28)
    return (np.arange(frames, dtype=np.float32) / period + rng.random()).astype(np.float32)


def steady(scene: Array, shot: Shot, rng: np.random.Generator) -> tuple[NDArray[np.float32], Array]:
    """A still scene before a camera that shakes a little.

    Args:
        scene: RGB, shape (S, S, 3), with a border of round(MARGIN * size) pixels on each side.

    Returns:
        Frames, shape (T, size, size, 3), and where the camera looks, shape (T, 2), in units of the frame's
        side: everything in the picture moves against it.
    """
    size, border = shot.size, round(MARGIN * shot.size)
    offsets = np.clip(np.rint(wander(shot.frames, rng, 2) * shot.shake * size), -border, border).astype(int)
    frames = np.stack([
        scene[border + dy : border + dy + size, border + dx : border + dx + size] for dx, dy in offsets
    ])  # fmt: skip
    return frames, offsets / size


def expose(frames: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Light that wanders, and a camera's noise. Frames are float32 in [0, 1], and are changed."""
    light = 1 + rng.uniform(0, 0.12) * wander(len(frames), rng, 1)[:, :, None, None]
    frames *= light.astype(np.float32)
    frames += np.float32(0.012) * rng.standard_normal(frames.shape, dtype=np.float32)
    np.clip(frames, 0, 1, out=frames)
    frames *= 255
    return frames.astype(np.uint8)
