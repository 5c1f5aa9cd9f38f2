"""Draws the world `walkers`: moving people built from capsules, in rooms and streets built from rectangles.

An action is a set of joint angles over one cycle. Some actions are pairs: one is the other reversed or
mirrored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from dsm.synthetic.blocks import FAMILIES, paint_place
from dsm.synthetic.motions import TAU
from dsm.synthetic.scenery import hsv
from dsm.synthetic.world import Array, Shot, World, cycles, expose, steady


@dataclass(frozen=True)
class Joints:
    """Angles in radians, each a scalar or an array over time.

    A limb's angle is 0 when it hangs down; it grows forwards in a side view and outwards in a front view.
    ``left`` is on the picture's left; in a side view it is the far side. An elbow bends the forearm further
    in the same direction; a knee bends the shin backwards (front view: inwards). ``lean`` tips the trunk
    forwards. ``lift`` and ``ahead`` are the distances upwards and forwards, in units of the figure's height.
    """

    arm_left: Array | float = 0.12
    arm_right: Array | float = 0.12
    elbow_left: Array | float = 0.1
    elbow_right: Array | float = 0.1
    leg_left: Array | float = 0.06
    leg_right: Array | float = 0.06
    knee_left: Array | float = 0.0
    knee_right: Array | float = 0.0
    lean: Array | float = 0.0
    lift: Array | float = 0.0
    ahead: Array | float = 0.0


@dataclass(frozen=True)
class Person:
    """Lengths in units of the height, colours RGB in [0, 1]."""

    thigh: float
    shin: float
    trunk: float
    upper_arm: float
    forearm: float
    head: float
    shoulders: float
    hips: float
    limb: float
    """Half a limb's thickness."""
    skin: Array
    hair: Array
    shirt: Array
    trousers: Array
    shoes: Array
    short_sleeves: bool


def random_person(rng: np.random.Generator) -> Person:
    def colour(value: tuple[float, float]) -> Array:
        return hsv(rng.random(), rng.uniform(0.35, 1), rng.uniform(*value))

    bright, dark = (0.75, 1.0), (0.08, 0.5)
    shirt, trousers = (bright, dark) if rng.random() < 0.5 else (dark, bright)
    return Person(
        thigh=rng.uniform(0.23, 0.26), shin=rng.uniform(0.22, 0.25), trunk=rng.uniform(0.27, 0.32),
        upper_arm=rng.uniform(0.16, 0.19), forearm=rng.uniform(0.16, 0.19), head=rng.uniform(0.075, 0.095),
        shoulders=rng.uniform(0.10, 0.14), hips=rng.uniform(0.05, 0.075), limb=rng.uniform(0.045, 0.058),
        skin=hsv(rng.uniform(0.04, 0.09), rng.uniform(0.3, 0.6), rng.uniform(0.35, 0.95)),
        hair=hsv(rng.uniform(0.0, 0.12), rng.uniform(0.2, 0.8), rng.uniform(0.05, 0.6)),
        shirt=colour(shirt), trousers=colour(trousers), shoes=colour((0.05, 0.9)),
        short_sleeves=bool(rng.random() < 0.5),
    )  # fmt: skip


@dataclass(frozen=True)
class Capsule:
    """A stroke with round ends, in units of the figure's height; the ground is at y = 0, up is negative."""

    start: Array
    """Shape (T, 2)."""
    end: Array
    """Shape (T, 2)."""
    thickness: float
    """Half the stroke's width."""
    colour: Array


def figure(person: Person, joints: Joints, frames: int, side: bool) -> list[Capsule]:
    """The parts of a person, from back to front. In a side view, the person faces right."""
    j = {f.name: np.zeros(frames) + getattr(joints, f.name) for f in fields(joints)}

    def along(angle: Array, length: float) -> Array:
        """A vector of a given length; angles turn from down towards the right."""
        return np.stack([np.sin(angle), np.cos(angle)], 1) * length

    def across(x: float) -> Array:
        return np.tile([x, 0.0], (frames, 1))

    sign = {"left": 1.0 if side else -1.0, "right": 1.0}
    legs = {}
    for name in ("left", "right"):
        thigh = sign[name] * j[f"leg_{name}"]
        shin = thigh - sign[name] * j[f"knee_{name}"]
        legs[name] = along(thigh, person.thigh), along(shin, person.shin), shin
    deepest = np.maximum(*(thigh[:, 1] + shin[:, 1] for thigh, shin, _ in legs.values()))
    hip = np.stack([j["ahead"], -deepest - person.limb - j["lift"]], 1)
    neck = hip - along(-j["lean"] if side else 0 * j["lean"], person.trunk)
    head = neck - along(-0.8 * j["lean"] if side else 0 * j["lean"], 0.03 + person.head)

    parts: dict[str, list[Capsule]] = {}
    for name in ("left", "right"):
        shade = 0.62 if side and name == "left" else 1.0
        out = 0.0 if side else sign[name]
        thigh, shin, angle = legs[name]
        top = hip + across(out * person.hips)
        knee = top + thigh
        ankle = knee + shin
        toe = ankle + (along(angle + np.pi / 2, 0.07) if side else across(out * 0.035))
        shoulder = neck + across(out * person.shoulders) + np.array([0, 0.03])
        arm = sign[name] * j[f"arm_{name}"] + (0.6 * j["lean"] if side else 0.0)
        elbow = shoulder + along(arm, person.upper_arm)
        hand = elbow + along(arm + sign[name] * j[f"elbow_{name}"], person.forearm)
        lower = person.skin if person.short_sleeves else person.shirt
        parts[name] = [
            Capsule(ankle, toe, 0.9 * person.limb, shade * person.shoes),
            Capsule(top, knee, 1.2 * person.limb, shade * person.trousers),
            Capsule(knee, ankle, person.limb, shade * person.trousers),
            Capsule(shoulder, elbow, person.limb, shade * person.shirt),
            Capsule(elbow, hand, 0.85 * person.limb, shade * lower),
            Capsule(hand, hand, 1.1 * person.limb, shade * person.skin),
        ]
    wide = 0.0 if side else 0.7 * person.shoulders
    middle = [
        Capsule(
            neck + across(x) + np.array([0, 0.045]), hip + across(0.6 * x), 1.9 * person.limb, person.shirt
        )
        for x in ((-wide, wide) if wide else (0.0,))
    ]
    back = -0.3 * person.head if side else 0.0
    face = np.array([0.35 * person.head if side else 0.0, 0.25 * person.head])
    skull = [
        Capsule(head + across(back), head + across(back), person.head, person.hair),
        Capsule(head + face, head + face, 0.78 * person.head, person.skin),
    ]
    if side:
        return parts["left"] + middle + skull + parts["right"]
    # Arms are drawn in front of the trunk, so that their whole circle is visible.
    return parts["left"][:3] + parts["right"][:3] + middle + skull + parts["left"][3:] + parts["right"][3:]


def draw_figure(
    frames: NDArray[np.float32], parts: list[Capsule], x: Array, y: Array, height: float, facing: float
) -> None:
    """Paint a figure over frames, in place, with a soft edge one pixel wide and a darker outline.

    Args:
        frames: (T, S, S, 3) in [0, 1].
        x, y: where it stands, in units of the frame, (T,). height: its height, in units of the frame.
        facing: 1 to keep the figure's direction, -1 to mirror it.
    """
    size = frames.shape[1]
    place = np.stack([x, y], 1)[:, None]
    scale = np.array([facing * height, height])
    ends = np.stack([np.stack([part.start, part.end], 1) for part in parts], 1)  # (T, parts, 2, 2)
    ends = ((place[:, None] + scale * ends + 0.5) * size).astype(np.float32)
    for index, part in enumerate(parts):
        start, end = ends[:, index, 0], ends[:, index, 1]
        radius = np.float32(part.thickness * height * size)
        # Only the box that contains the part in all frames.
        low = np.floor(np.minimum(start, end).min(0) - radius - 1).astype(int).clip(0, size)
        high = np.ceil(np.maximum(start, end).max(0) + radius + 1).astype(int).clip(0, size)
        if (low >= high).any():
            continue
        box = frames[:, low[1] : high[1], low[0] : high[0]]
        u = np.arange(low[0], high[0], dtype=np.float32)[None, None, :] + 0.5 - start[:, 0, None, None]
        v = np.arange(low[1], high[1], dtype=np.float32)[None, :, None] + 0.5 - start[:, 1, None, None]
        way = (end - start)[:, :, None, None]
        length = np.maximum((way**2).sum(1), np.float32(1e-6))
        share = np.clip((u * way[:, 0] + v * way[:, 1]) / length, 0, 1)
        distance = np.sqrt((u - share * way[:, 0]) ** 2 + (v - share * way[:, 1]) ** 2) - radius
        cover = np.clip(0.5 - distance, 0, 1)[..., None]
        rim = np.clip(1.2 + distance, 0, 1)[..., None]
        colour = part.colour.astype(np.float32) * (1 - np.float32(0.45) * rim)
        box += cover * (colour - box)


# Chosen by training a small network on labels, with motion and scene untied: with people half the frame
# high and full contrast it was right on about 19 % of a test with free scenes, with these on about 76 %.
TALL = 2.8
"""A person's height, in units of the actor's radius."""
CALM = 0.5
"""Factor on the scenes' contrast, since limbs are only a few pixels wide."""


def _sin(t: Array, shift: float = 0.0) -> Array:
    return np.sin(TAU * (t + shift))


def _rise(t: Array) -> Array:
    """From 0 to 1 and back, smoothly, once per cycle."""
    return 0.5 - 0.5 * np.cos(TAU * t)


def _walk(t: Array) -> Joints:
    # The leg swinging forwards is bent, the one pushing back is straight: this shows the direction.
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
    """Angles of a waving arm and its elbow."""
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
    """Up in the first 30 % of the cycle, then slowly down."""
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
"""Time is counted in cycles. The order is part of the format: a label is a position in this table."""
SIDEWAYS = ("walk", "walk-backwards", "squat", "kick", "bow")
"""Actions shown from the side, facing left or right; the others are shown from the front."""


def render(shot: Shot, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw one video: uint8 RGB, shape (frames, size, size, 3)."""
    scene, floor = paint_place(shot.family, shot.size, CALM * shot.contrast, rng)
    frames, shake = steady(scene, shot, rng)
    time = cycles(shot.frames, rng)
    joints = ACTIONS[shot.motion](time)
    side = shot.motion in SIDEWAYS
    person, height = random_person(rng), TALL * rng.uniform(*shot.radius)
    facing = -1.0 if side and rng.random() < 0.5 else 1.0
    # A person who walks is near the middle halfway through.
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
