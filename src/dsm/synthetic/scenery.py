"""Draws the actors and scene families of the world `scenes`.

Everything here is a pure function of numpy arrays and a generator. Coordinates are in
units of the frame's side: x to the right and y downwards, both in [-0.5, 0.5] inside the
frame. ``motionscenes.py`` decides what each video shows and writes the files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dsm.synthetic.motions import TAU, Array

# --- actors -----------------------------------------------------------------------------


def _polygon(corners: int, u: Array, v: Array) -> Array:
    """Signed distance-like value of a regular polygon of radius 1, negative inside."""
    angle = np.arctan2(v, u)
    sector = TAU / corners
    folded = (angle + sector / 2) % sector - sector / 2
    return np.hypot(u, v) * np.cos(folded) / np.cos(sector / 2) - 0.85


def _wavy(lobes: int, depth: float, u: Array, v: Array) -> Array:
    """A disc with a wavy outline: stars, flowers, gears."""
    return np.hypot(u, v) - (0.85 + depth * np.cos(lobes * np.arctan2(v, u)))


def _step(x: Array) -> Array:
    """The logistic function, in a form that cannot overflow."""
    return 0.5 + 0.5 * np.tanh(0.5 * x)


# Each maps actor coordinates (its radius is 1) to a value that is negative inside.
SHAPES: dict[str, Callable[[Array, Array], Array]] = {
    "disc": lambda u, v: np.hypot(u, v) - 0.9,
    "ellipse": lambda u, v: np.hypot(u, 1.7 * v) - 0.95,
    "box": lambda u, v: np.maximum(np.abs(u), np.abs(v)) - 0.75,
    "bar": lambda u, v: np.maximum(np.abs(u) - 0.95, np.abs(v) - 0.4),
    "triangle": lambda u, v: _polygon(3, u, v),
    "pentagon": lambda u, v: _polygon(5, u, v),
    "star": lambda u, v: _wavy(5, 0.22, u, v),
    "flower": lambda u, v: _wavy(7, 0.13, u, v),
    "cross": lambda u, v: np.minimum(
        np.maximum(np.abs(u) - 0.9, np.abs(v) - 0.32), np.maximum(np.abs(u) - 0.32, np.abs(v) - 0.9)
    ),
    "ring": lambda u, v: np.abs(np.hypot(u, v) - 0.65) - 0.27,
    "drop": lambda u, v: np.hypot(u, v) - (0.55 + 0.4 * np.cos(np.arctan2(v, u) / 2) ** 4),
    "moon": lambda u, v: np.maximum(np.hypot(u, v) - 0.9, 0.6 - np.hypot(u - 0.55, v)),
}

# Patterns on an actor, in [0, 1]. None looks the same at every angle, so a spin is visible.
COATS: dict[str, Callable[[Array, Array], Array]] = {
    "halves": lambda u, v: _step(12 * u),
    "stripes": lambda u, v: 0.5 + 0.5 * np.sin(5.5 * u + 1.2 * v),
    "shade": lambda u, v: np.clip(0.5 + 0.55 * u + 0.2 * v, 0, 1),
    "spot": lambda u, v: np.clip(0.5 - 8 * (np.hypot(u - 0.4, v + 0.1) - 0.32), 0, 1),
    "wedge": lambda u, v: _step(6 * (u - np.abs(v))),
}


# --- scene families ---------------------------------------------------------------------


def _clouds(u: Array, v: Array, rng: np.random.Generator) -> Array:
    out = np.zeros_like(u)
    for octave in range(4):
        for _ in range(3):
            kx, ky = rng.normal(0, 1.6 * 1.7**octave, 2)
            out += np.sin(TAU * (kx * u + ky * v) + rng.uniform(0, TAU)) / 1.6**octave
    return 0.5 + out / 8


def _cells(u: Array, v: Array, rng: np.random.Generator, count: int, edges: bool) -> Array:
    """A mosaic of cells around random seeds; with ``edges``, only the joints between them."""
    seeds = rng.uniform(-0.8, 0.8, (count, 2)).astype(np.float32)
    distance = np.hypot(u[..., None] - seeds[:, 0], v[..., None] - seeds[:, 1])
    if edges:
        nearest = np.partition(distance, 1, axis=-1)
        return np.clip((nearest[..., 1] - nearest[..., 0]) * 12, 0, 1)
    tones = rng.uniform(0, 1, count).astype(np.float32)
    return tones[distance.argmin(-1)]


def _bricks(u: Array, v: Array, rng: np.random.Generator) -> Array:
    rows = v * rng.uniform(5, 8)
    columns = u * rng.uniform(2.5, 4) + 0.5 * (np.floor(rows) % 2)
    joint = np.maximum(np.abs(rows % 1 - 0.5), np.abs(columns % 1 - 0.5))
    return np.clip((0.5 - joint) * 14, 0, 1)


def _dots(u: Array, v: Array, rng: np.random.Generator) -> Array:
    k = rng.uniform(3.5, 6)
    return 1 / (1 + np.exp(24 * (np.hypot((u * k) % 1 - 0.5, (v * k) % 1 - 0.5) - 0.28)))


def _horizon(u: Array, v: Array, rng: np.random.Generator) -> Array:
    line = rng.uniform(-0.15, 0.2) + 0.06 * np.sin(TAU * (rng.uniform(0.5, 1.5) * u + rng.random()))
    return np.where(v < line, 0.25 - 0.4 * v, 0.75 + 0.4 * v)


def _room(u: Array, v: Array, rng: np.random.Generator) -> Array:
    """Two walls and a floor, lit differently."""
    corner, floor = rng.uniform(-0.25, 0.25), rng.uniform(0.1, 0.3)
    walls = np.where(u < corner, 0.35 + 0.2 * u, 0.6 - 0.2 * u)
    return np.where(v > floor + 0.4 * np.abs(u - corner) * np.sign(floor), 0.9 - 0.3 * v, walls)


# The pattern of a scene family: coordinates and a generator to values around [0, 1]. The
# first ten are the training families; the rest appear only in ``test_free``.
PATTERNS: dict[str, Callable[[Array, Array, np.random.Generator], Array]] = {
    "stripes": lambda u, v, r: 0.5 + 0.5 * np.sin(TAU * r.uniform(3, 5) * u),
    "clouds": _clouds,
    "checks": lambda u, v, r: (
        0.5 + 0.5 * np.sign(np.sin(TAU * (k := r.uniform(1.5, 2.5)) * u) * np.sin(TAU * k * v))
    ),
    "bricks": _bricks,
    "sunset": lambda u, v, r: np.clip(0.5 + r.uniform(0.8, 1.2) * v, 0, 1),
    "rings": lambda u, v, r: (
        0.5
        + 0.5 * np.sin(TAU * r.uniform(4, 6) * np.hypot(u - r.uniform(-0.4, 0.4), v - r.uniform(-0.4, 0.4)))
    ),
    "mosaic": lambda u, v, r: _cells(u, v, r, 14, edges=False),
    "dots": _dots,
    "room": _room,
    "waves": lambda u, v, r: (
        0.5 + 0.5 * np.sin(TAU * r.uniform(3, 5) * (v + 0.08 * np.sin(TAU * r.uniform(1, 2) * u)))
    ),
    "horizon": _horizon,
    "paving": lambda u, v, r: _cells(u, v, r, 18, edges=True),
    "sunburst": lambda u, v, r: (
        0.5 + 0.5 * np.sin(r.integers(5, 10) * np.arctan2(v - r.uniform(-0.3, 0.3), u - r.uniform(-0.3, 0.3)))
    ),
    "diamonds": lambda u, v, r: ((np.abs(u) + np.abs(v)) * r.uniform(2.5, 4)) % 1,
    "weave": lambda u, v, r: 0.5 + 0.25 * (np.sin(TAU * (k := r.uniform(3, 5)) * u) + np.sin(TAU * k * v)),
}
TRAINING_FAMILIES = tuple(PATTERNS)[:10]
FREE_FAMILIES = tuple(PATTERNS)[10:]


def hsv(hue: float, saturation: float, value: float) -> Array:
    """Convert one colour from hue, saturation and value (each in [0, 1]) to RGB in [0, 1], shape (3,)."""
    k = (np.array([5.0, 3.0, 1.0]) + hue * 6) % 6
    return (value - value * saturation * np.clip(np.minimum(k, 4 - k), 0, 1)).astype(np.float32)


def paint_scene(family: str, size: int, margin: float, contrast: float, rng: np.random.Generator) -> Array:
    """Draw a still background, with a border for camera shake.

    Args:
        family: a key of :data:`PATTERNS`; it sets pattern and palette, the generator everything else.
        size: the frame's side in pixels.
        margin: extra border on each side, as a share of the frame's side.
        contrast: contrast of the pattern, 0 (flat colour) to 1.

    Returns:
        float32 RGB in [0, 1], shape (S, S, 3) with S = size + 2 * round(margin * size).
    """
    border = round(margin * size)
    side = size + 2 * border
    axis = ((np.arange(side, dtype=np.float32) + 0.5 - border) / size) - 0.5
    u, v = np.meshgrid(axis, axis)
    # Every video shows the pattern turned, shifted and lit differently.
    turn = rng.normal(0, 0.25)
    dx, dy = rng.uniform(-0.2, 0.2, 2)
    u, v = np.cos(turn) * u - np.sin(turn) * v + dx, np.sin(turn) * u + np.cos(turn) * v + dy
    tone = PATTERNS[family](u, v, rng).astype(np.float32)
    place = list(PATTERNS).index(family)
    # The golden ratio spreads the families' hues over the circle, however many there are.
    hue = (place * 0.618 + rng.normal(0, 0.12)) % 1
    low = hsv(hue, rng.uniform(0.2, 0.5), rng.uniform(0.3, 0.6))
    high = hsv((hue + rng.uniform(0.05, 0.2)) % 1, rng.uniform(0.15, 0.4), rng.uniform(0.6, 0.9))
    middle = (low + high) / 2
    tone = np.clip(tone, 0, 1)[..., None]
    return np.clip(middle + contrast * ((low + (high - low) * tone) - middle), 0, 1).astype(np.float32)


@dataclass(frozen=True)
class Actor:
    """A moving shape with a two-coloured pattern; its radius is in units of the frame."""

    shape: str
    coat: str
    radius: float
    colours: Array  # (2, 3), RGB in [0, 1]
    turn: float  # its angle at rest, radians


def random_actor(radius: float, rng: np.random.Generator) -> Actor:
    hue = rng.random()
    light, dark = rng.uniform(0.8, 1.0), rng.uniform(0.1, 0.45)
    second = (hue + rng.uniform(0.3, 0.7)) % 1
    colours = [hsv(hue, rng.uniform(0.4, 1), light), hsv(second, rng.uniform(0.4, 1), dark)]
    if rng.random() < 0.5:
        colours.reverse()
    return Actor(
        shape=str(rng.choice(list(SHAPES))),
        coat=str(rng.choice(list(COATS))),
        radius=radius,
        colours=np.stack(colours),
        turn=float(rng.uniform(0, TAU)),
    )


def draw_actor(frames: Array, actor: Actor, x: Array, y: Array, scale: Array, angle: Array) -> None:
    """Paint an actor over frames, in place, with a soft edge one pixel wide.

    Args:
        frames: float32 (T, S, S, 3) in [0, 1].
        x, y: centre in units of the frame, (T,). scale: factor on its radius, (T,).
        angle: radians, clockwise on screen, (T,).
    """
    size = frames.shape[1]
    x, y, scale, angle = (np.asarray(curve, np.float32) for curve in (x, y, scale, angle))
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    radius = (np.float32(actor.radius) * scale)[:, None, None]
    px = (axis[None, None, :] - x[:, None, None]) / radius
    py = (axis[None, :, None] - y[:, None, None]) / radius
    turn = angle + np.float32(actor.turn)
    c, s = np.cos(turn)[:, None, None], np.sin(turn)[:, None, None]
    u, v = c * px + s * py, -s * px + c * py
    distance = SHAPES[actor.shape](u, v)
    softness = 1 / (radius * size)  # one pixel, in the actor's own units
    cover = np.clip(0.5 - distance / softness, 0, 1)[..., None]
    outline = np.clip(1.5 + distance / (1.2 * softness), 0, 1)[..., None]
    coat = COATS[actor.coat](u, v)[..., None]
    colours = actor.colours.astype(np.float32)
    paint = (colours[0] + (colours[1] - colours[0]) * coat) * (1 - 0.6 * outline)
    paint -= frames
    paint *= cover
    frames += paint
