"""The world `walkers`: people of capsules who do things, in rooms and streets of rectangles.

An action is a set of joint angles over the cycle. Some are pairs: played backwards, or in a mirror, one
is the other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dsm.datasets.blocks import FAMILIES, paint_place
from dsm.datasets.motions import TAU
from dsm.datasets.people import Joints, draw_figure, figure, random_person
from dsm.datasets.world import Array, Shot, World, cycles, expose, steady

# Chosen by training a small network with labels, motion and scene untied: with people half the frame high
# in loud places it was right about 19 % of a test of free scenes, with these about 76 %.
TALL = 2.8
"""A person's height in radii of an actor."""
CALM = 0.5
"""Share of the contrast that places keep: a limb is a few pixels wide."""


def _sin(t: Array, shift: float = 0.0) -> Array:
    return np.sin(TAU * (t + shift))


def _rise(t: Array) -> Array:
    """From 0 to 1 and back, smoothly, once a cycle."""
    return 0.5 - 0.5 * np.cos(TAU * t)


def _walk(t: Array) -> Joints:
    # The leg that swings forwards is bent, the one that pushes back is straight: that tells the ways apart.
    swing, bend = 0.6 * _sin(t), 1.1 * np.maximum(_sin(t, 0.25), 0)
    other = 1.1 * np.maximum(_sin(t, 0.75), 0)
    return Joints(
        arm_left=-0.75 * _sin(t), arm_right=0.75 * _sin(t), elbow_left=0.5, elbow_right=0.5,
        leg_left=swing, leg_right=-swing, knee_left=bend, knee_right=other, lean=0.06, ahead=0.22 * t,
    )  # fmt: skip


def _jack(t: Array) -> Joints:
    up = _rise(t)
    arm, leg = 0.2 + 2.6 * up, 0.06 + 0.5 * up
    return Joints(arm, arm, leg_left=leg, leg_right=leg, lift=0.07 * np.abs(_sin(t)))


def _wave(t: Array) -> tuple[Array, Array]:
    """A raised arm and its elbow."""
    return 2.1 + 0.25 * _sin(t), 0.35 + 0.85 * _sin(t)


def _wave_left(t: Array) -> Joints:
    arm, elbow = _wave(t)
    return Joints(arm_left=arm, elbow_left=elbow)


def _wave_right(t: Array) -> Joints:
    arm, elbow = _wave(t)
    return Joints(arm_right=arm, elbow_right=elbow)


def _circle(t: Array) -> Joints:
    return Joints(arm_left=TAU * t, arm_right=TAU * t, elbow_left=0.0, elbow_right=0.0)


def _squat(t: Array) -> Joints:
    down = _rise(t)
    arm, leg, knee = 0.2 + 1.3 * down, 1.35 * down, 2.2 * down
    return Joints(arm, arm, 0.1, 0.1, leg, leg + 0.08, knee, knee + 0.08, lean=0.45 * down)


def _kick(t: Array) -> Joints:
    """Up in the first third of the cycle, slowly down after it."""
    u = t % 1.0
    up = np.where(u < 0.3, 0.5 - 0.5 * np.cos(np.pi * u / 0.3), 0.5 + 0.5 * np.cos(np.pi * (u - 0.3) / 0.7))
    return Joints(
        arm_left=0.9 * up, arm_right=-0.7 * up, leg_right=1.5 * up - 0.25, leg_left=-0.05, lean=-0.2 * up
    )


def _bow(t: Array) -> Joints:
    down = _rise(t)
    return Joints(
        0.2 + 0.2 * down, 0.1 + 0.2 * down, lean=1.35 * down, leg_left=-0.1 * down, leg_right=-0.1 * down
    )


ACTIONS: dict[str, Callable[[Array], Joints]] = {
    "walk": _walk,
    "walk-backwards": lambda t: _walk(-t),
    "wave-left": _wave_left,
    "wave-right": _wave_right,
    "arms-circle-up": _circle,
    "arms-circle-down": lambda t: _circle(-t),
    "jumping-jack": _jack,
    "squat": _squat,
    "kick": _kick,
    "bow": _bow,
}
"""Time is counted in cycles. The order is part of the format: a label is a place in this table."""
SIDEWAYS = ("walk", "walk-backwards", "squat", "kick", "bow")
"""Actions that are seen from the side, from the left or the right; others from the front."""


def render(shot: Shot, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw one video: uint8 RGB, shape (frames, size, size, 3)."""
    scene, floor = paint_place(shot.family, shot.size, CALM * shot.contrast, rng)
    frames, shake = steady(scene, shot, rng)
    time = cycles(shot.frames, rng)
    joints = ACTIONS[shot.motion](time)
    side = shot.motion in SIDEWAYS
    person, height = random_person(rng), TALL * rng.uniform(*shot.radius)
    facing = -1.0 if side and rng.random() < 0.5 else 1.0
    # Whoever goes somewhere is in the middle halfway.
    ahead = joints.ahead + np.zeros(shot.frames)
    middle = float(ahead.mean())
    x = rng.uniform(-0.08, 0.08) - facing * height * middle - shake[:, 0]
    y = floor + 0.06 + rng.uniform(-0.02, 0.02) - shake[:, 1]
    draw_figure(frames, figure(person, joints, shot.frames, side), x, y, height, facing)
    return expose(frames, rng)


WALKERS = World(
    motions=tuple(ACTIONS),
    training_families=tuple(FAMILIES)[:10],
    free_families=tuple(FAMILIES)[10:],
    render=render,
)
