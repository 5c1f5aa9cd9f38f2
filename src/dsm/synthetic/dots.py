"""Draws the world `dots`: actor and scene consist of the same dots, so only motion distinguishes them.

Scene dots stay in place. The actor's dots move with it, inside its shape; the scene dots that it covers
are hidden. A dot's centre decides whether it is drawn, and dots are drawn whole, so no outline is visible.
A growing actor shows more of its dots, which keeps their density constant. No single frame shows where the
actor is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsm.synthetic.motions import MOTIONS, TAU
from dsm.synthetic.scenery import SHAPES, hsv
from dsm.synthetic.world import MARGIN, Array, Shot, World, cycles, expose, wander

ACTORS = ("disc", "ellipse", "box", "triangle", "pentagon", "star", "flower", "drop")
"""The shapes that are broad enough for dots."""
REDRAWN = 0.01
"""Share of the dots that jump to a random position in each frame."""
# The four below, and the share above, were chosen by training a small network on labels, with motion and
# scene untied: with finer dots, smaller actors and faster motions it learned nothing; with these, `tiny3d`
# is right on about 89 % of a test with free scenes.
COARSE = 1.7
"""Factor on a family's dot radius."""
BROAD = 1.35
"""Factor on the actor's radius, so that it has enough dots."""
SLOW = 1.7
"""Factor on a cycle's length: a dot that passes its neighbour between two frames cannot be followed."""
STEADY = 0.2
"""Factor on the camera's shake: if all dots shake, the moving ones cannot be seen."""


@dataclass(frozen=True)
class Family:
    """A scene family: dots of one kind."""

    radius: float
    """Radius of a dot, as a share of the frame's side."""
    cover: float
    """The dots' area, as a share of the picture's (they may overlap)."""
    ground: tuple[float, float, float]
    """Hue, saturation and value of the background."""
    hues: tuple[float, ...]
    """The dots' hues."""
    value: float
    """How bright dots are."""
    group: int = 1
    """Dots per group."""
    spread: float = 0.0
    """Spread of the dots in a group, as a share of the frame's side."""
    jitter: float = 0.0
    """0 for groups at random positions; otherwise they lie on a grid, displaced by a share of its step."""


FAMILIES: dict[str, Family] = {
    "snow": Family(0.021, 0.30, (0.62, 0.6, 0.25), (0.58, 0.60), 1.0),
    "confetti": Family(0.025, 0.34, (0.10, 0.1, 0.95), (0.0, 0.3, 0.6, 0.85), 0.7),
    "embers": Family(0.019, 0.28, (0.02, 0.6, 0.15), (0.02, 0.08), 1.0, jitter=0.9),
    "leaves": Family(0.026, 0.36, (0.28, 0.4, 0.75), (0.30, 0.36), 0.35),
    "pairs": Family(0.020, 0.30, (0.78, 0.4, 0.30), (0.80, 0.14), 0.95, group=2, spread=0.03),
    "ink": Family(0.022, 0.30, (0.13, 0.25, 0.9), (0.65, 0.70), 0.2, jitter=0.9),
    "berries": Family(0.024, 0.32, (0.40, 0.5, 0.45), (0.95, 0.98), 0.95, group=3, spread=0.045),
    "bubbles": Family(0.027, 0.34, (0.50, 0.6, 0.55), (0.48, 0.52), 1.0, jitter=0.9),
    "pollen": Family(0.018, 0.26, (0.55, 0.3, 0.35), (0.15, 0.17), 1.0, group=4, spread=0.05),
    "slate": Family(0.023, 0.32, (0.60, 0.05, 0.60), (0.6,), 0.15, group=2, spread=0.04),
    "lanterns": Family(0.023, 0.30, (0.72, 0.7, 0.2), (0.06, 0.12, 0.95), 1.0),
    "moss": Family(0.019, 0.30, (0.08, 0.5, 0.35), (0.25, 0.33), 0.85, group=3, spread=0.04),
    "coral": Family(0.026, 0.34, (0.02, 0.45, 0.95), (0.97, 0.55), 0.5, jitter=0.9),
    "stars": Family(0.018, 0.24, (0.0, 0.0, 0.08), (0.1, 0.6), 0.95, group=2, spread=0.05),
    "plums": Family(0.025, 0.34, (0.18, 0.35, 0.85), (0.80, 0.86), 0.4),
}


def scatter(family: Family, half: float, density: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """Place dots of a family over a square.

    Args:
        half: half the square's side, in units of the frame's side.
        density: dots per square of the frame's size.

    Returns:
        Centres, shape (N, 2), in [-half, half] except for groups at the edge; and for each dot a number in
        [0, 1], the same for its whole group: the dots below q are a share q of all groups.
    """
    wanted = density * (2 * half) ** 2 / family.group
    if family.jitter:
        step = 2 * half / np.sqrt(wanted)
        axis = np.arange(-half - step * rng.random(), half + step, step) + step / 2
        centres = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
        centres = centres + rng.uniform(-0.5, 0.5, centres.shape) * family.jitter * step
        centres = centres[(np.abs(centres) <= half).all(1)]
    else:
        centres = rng.uniform(-half, half, (round(wanted), 2))
    rank = np.repeat(rng.random(len(centres)), family.group)
    dots = np.repeat(centres, family.group, axis=0)
    if family.group > 1:
        dots = dots + rng.normal(0, family.spread / 1.5, dots.shape)
    return dots, rank


def draw_dots(
    x: Array, y: Array, shown: NDArray[np.bool_], colours: Array, ground: Array, radius: float, size: int
) -> NDArray[np.float32]:
    """Draw discs with a soft edge one pixel wide; where they overlap, their colours mix.

    Args:
        x, y: centres in units of the frame, in [-0.5, 0.5] inside it, shape (T, N).
        shown: which dots are visible, (T, N).
        colours: RGB, (N, 3). ground: RGB between the dots, (3,).
        radius: in units of the frame. size: side of the frame in pixels.

    Returns:
        float32 (T, size, size, 3).
    """
    total = len(x)
    reach = int(np.ceil(radius * size + 0.5))
    side = size + 2 * reach  # with a border, so that dots at the edge need no special case
    near = shown & (np.abs(x) < 0.5 + radius) & (np.abs(y) < 0.5 + radius)
    frame, dot = np.nonzero(near)
    px = ((x[near] + 0.5) * size - 0.5).astype(np.float32)
    py = ((y[near] + 0.5) * size - 0.5).astype(np.float32)
    left, top = np.rint(px).astype(np.int32), np.rint(py).astype(np.int32)
    window = np.arange(-reach, reach + 1, dtype=np.int32)
    dx = (window[None] + (left - px)[:, None]) ** 2
    dy = (window[None] + (top - py)[:, None]) ** 2
    distance = np.sqrt(dx[:, None, :] + dy[:, :, None])
    cover = np.clip(np.float32(radius * size + 0.5) - distance, 0, 1)
    place = (frame * side + top + reach) * side + left + reach
    place = place[:, None, None] + window[None, :, None] * side + window[None, None, :]
    place = np.clip(place, 0, total * side * side - 1)
    some = cover > 0
    at, much = place[some], cover[some]
    whose = np.broadcast_to(dot[:, None, None], cover.shape)[some]
    count = total * side * side
    sums = np.bincount(at, much, count).astype(np.float32)
    over = np.maximum(sums, 1)
    channels = []
    for channel in range(3):
        difference = (colours[:, channel] - ground[channel]).astype(np.float32)
        paint = np.bincount(at, much * difference[whose], count).astype(np.float32) / over
        channels.append(ground[channel] + paint)
    frames = np.stack(channels, -1).reshape(total, side, side, 3)[:, reach:-reach, reach:-reach]
    return np.ascontiguousarray(frames, np.float32)


@dataclass(frozen=True)
class Cast:
    """The dots of a video."""

    x: Array
    """Centres in units of the frame, shape (T, N)."""
    y: Array
    """Like ``x``."""
    shown: NDArray[np.bool_]
    """Which dots are visible, (T, N): the actor hides the scene's dots that it covers."""
    actor: NDArray[np.bool_]
    """Which dots are the actor's, (N,)."""


def place_dots(shot: Shot, family: Family, dot: float, rng: np.random.Generator) -> Cast:
    """Dots of radius ``dot`` (in units of the frame) for every frame of a video."""
    total = shot.frames
    shape = SHAPES[str(rng.choice(ACTORS))]
    radius, turn = BROAD * rng.uniform(*shot.radius), rng.uniform(0, TAU)
    pose = MOTIONS[shot.motion](cycles(total, rng) / SLOW)
    reach, depth = rng.uniform(0.17, 0.23), rng.uniform(0.85, 1.15)
    home = rng.uniform(-0.06, 0.06, 2)
    camera = np.clip(wander(total, rng, 2) * STEADY * shot.shake, -MARGIN, MARGIN)
    still = np.zeros(total)
    x = (home[0] + reach * pose.x - camera[:, 0] + still)[:, None]
    y = (home[1] + reach * pose.y - camera[:, 1] + still)[:, None]
    scale = (1 + depth * (pose.scale - 1) + still)[:, None]
    angle = (pose.angle + turn + still)[:, None]
    c, s = np.cos(angle), np.sin(angle)

    density = family.cover * rng.uniform(0.9, 1.1) / (np.pi * dot**2)
    scene, _ = scatter(family, 0.5 + MARGIN + dot, density, rng)
    sx, sy = scene[:, 0] - camera[:, :1], scene[:, 1] - camera[:, 1:]
    du, dv = (sx - x) / (radius * scale), (sy - y) / (radius * scale)
    covered = np.asarray(shape(c * du + s * dv, -s * du + c * dv) < 0)

    # Enough for the actor at its largest; a smaller one shows a share of them.
    largest = float(scale.max())
    own, rank = scatter(family, 1.35 * radius, density * largest**2, rng)
    within = np.asarray(shape(own[:, 0] / radius, own[:, 1] / radius) < 0)
    own, rank = own[within], rank[within]
    ax = x + scale * (c * own[:, 0] - s * own[:, 1])
    ay = y + scale * (s * own[:, 0] + c * own[:, 1])

    px, py = np.concatenate([sx, ax], 1), np.concatenate([sy, ay], 1)
    lost = rng.random(px.shape) < REDRAWN
    return Cast(
        x=np.where(lost, rng.uniform(-0.5, 0.5, px.shape), px),
        y=np.where(lost, rng.uniform(-0.5, 0.5, py.shape), py),
        shown=np.concatenate([~covered, rank < (scale / largest) ** 2], 1),
        actor=np.arange(px.shape[1]) >= len(scene),
    )


def render(shot: Shot, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw one video: uint8 RGB, shape (frames, size, size, 3)."""
    family = FAMILIES[shot.family]
    dot = COARSE * family.radius * rng.uniform(0.92, 1.08)
    cast = place_dots(shot, family, dot, rng)
    tint = rng.normal(0, 0.03)
    hue, saturation, value = family.ground
    ground = hsv((hue + tint) % 1, saturation * rng.uniform(0.8, 1), min(1, value * rng.uniform(0.85, 1.1)))
    # Colours mix grey of the same value (no saturation) with the pure hue (full saturation).
    pure = np.stack([hsv((hue + tint) % 1, 1, family.value) for hue in family.hues])
    pick = rng.integers(len(pure), size=len(cast.actor))
    strength = np.clip(rng.uniform(0.45, 0.9) + rng.uniform(-0.1, 0.1, (len(pick), 1)), 0, 1)
    colours = family.value + strength * (pure[pick] - family.value)
    colours = ground + min(1.0, 0.35 + shot.contrast) * (colours - ground)
    return expose(draw_dots(cast.x, cast.y, cast.shown, colours, ground, dot, shot.size), rng)


DOTS = World(
    motions=(
        "swing-sideways", "swing-upright", "circle-clockwise", "circle-anticlockwise", "spin-clockwise",
        "spin-anticlockwise", "pulse", "figure-eight", "creep-right", "creep-left",
    ),
    training_families=tuple(FAMILIES)[:10],
    free_families=tuple(FAMILIES)[10:],
    render=render,
)  # fmt: skip
