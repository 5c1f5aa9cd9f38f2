"""Draws the world `drone`: a vehicle seen from above by a camera that follows it over textured ground.

The ground drifts, turns and changes size under the camera, independently of the label. The label is the
vehicle's motion in the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dsm.synthetic.motions import MOTIONS, TAU
from dsm.synthetic.scenery import hsv
from dsm.synthetic.world import Array, Shot, World, cycles, expose, wander


@dataclass(frozen=True)
class Ground:
    """A scene family: a pattern over rough earth, in two colours."""

    pattern: str
    """``noise``, ``fields``, ``roads``, ``tiles``, ``furrows``, ``trees`` or ``cracks``."""
    low: tuple[float, float, float]
    """Hue, saturation and value of the pattern's low values."""
    high: tuple[float, float, float]
    """Hue, saturation and value of its high values."""
    cell: float
    """Size of the pattern's parts, in units of the frame's side."""
    rough: float
    """Weight of the rough earth (0 to 1); the pattern has the rest."""


GROUNDS: dict[str, Ground] = {
    "meadow": Ground("noise", (0.28, 0.6, 0.30), (0.22, 0.5, 0.70), 0.30, 1.0),
    "fields": Ground("fields", (0.12, 0.5, 0.45), (0.25, 0.5, 0.75), 0.45, 0.3),
    "streets": Ground("roads", (0.60, 0.10, 0.30), (0.10, 0.15, 0.70), 0.60, 0.3),
    "plaza": Ground("tiles", (0.07, 0.30, 0.50), (0.08, 0.20, 0.85), 0.22, 0.25),
    "farmland": Ground("furrows", (0.06, 0.60, 0.30), (0.09, 0.50, 0.60), 0.16, 0.4),
    "forest": Ground("trees", (0.35, 0.60, 0.18), (0.33, 0.60, 0.50), 0.20, 0.3),
    "desert": Ground("noise", (0.09, 0.50, 0.65), (0.13, 0.40, 0.95), 0.55, 1.0),
    "ice": Ground("cracks", (0.56, 0.50, 0.50), (0.52, 0.15, 0.95), 0.40, 0.3),
    "lava": Ground("cracks", (0.04, 0.90, 0.80), (0.0, 0.20, 0.18), 0.45, 0.35),
    "harbour": Ground("tiles", (0.55, 0.60, 0.30), (0.58, 0.30, 0.60), 0.40, 0.5),
    "vineyard": Ground("furrows", (0.27, 0.60, 0.30), (0.75, 0.30, 0.60), 0.20, 0.3),
    "suburb": Ground("roads", (0.30, 0.40, 0.40), (0.95, 0.35, 0.75), 0.45, 0.4),
    "heath": Ground("trees", (0.85, 0.40, 0.40), (0.80, 0.35, 0.75), 0.14, 0.4),
    "mud": Ground("noise", (0.07, 0.60, 0.20), (0.08, 0.40, 0.50), 0.20, 1.0),
    "salt": Ground("fields", (0.50, 0.20, 0.60), (0.95, 0.20, 0.95), 0.35, 0.3),
}


def _noise(side: int, cell: float, rng: np.random.Generator) -> Array:
    """Value noise around 0.5, shape (side, side); its largest lumps are ``cell`` pixels wide."""
    out = np.zeros((side, side), np.float32)
    weight = whole = 0.0
    for octave in range(4):
        step = max(cell / 2**octave, 1.5)
        count = int(side / step) + 3
        lattice = Image.fromarray(rng.random((count, count), dtype=np.float32))
        part = count * 1.0 * np.array([0, 0, side / step / count, side / step / count])
        lumps = lattice.resize((side, side), Image.Resampling.BICUBIC, box=tuple(part))
        weight = 0.6**octave
        out += weight * np.asarray(lumps)
        whole += weight
    return np.clip(0.5 + 1.6 * (out / whole - 0.5), 0, 1)


def _seeded(side: int, cell: float, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Cells around jittered seeds: distances to the two nearest seeds, in cells, and the nearest's tone."""
    count = int(side / cell) + 3
    axis = (np.arange(side, dtype=np.float32) + 0.5) / cell + 1
    u, v = np.meshgrid(axis, axis)
    jitter = rng.random((count, count, 2), dtype=np.float32)
    tones = rng.random((count, count), dtype=np.float32)
    column, row = u.astype(np.int32), v.astype(np.int32)
    first, second = np.full_like(u, 9), np.full_like(u, 9)
    tone = np.zeros_like(u)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            x, y = np.clip(column + dx, 0, count - 1), np.clip(row + dy, 0, count - 1)
            distance = np.hypot(x + jitter[y, x, 0] - u, y + jitter[y, x, 1] - v)
            nearer = distance < first
            second = np.where(nearer, first, np.minimum(second, distance))
            tone = np.where(nearer, tones[y, x], tone)
            first = np.minimum(first, distance)
    return first, second, tone


def _pattern(name: str, side: int, cell: float, rng: np.random.Generator) -> Array:
    """A pattern in [0, 1], shape (side, side), with parts about ``cell`` pixels wide."""
    axis = np.arange(side, dtype=np.float32) / cell
    u, v = np.meshgrid(axis, axis)
    turn = rng.uniform(0, TAU)
    a, b = np.cos(turn) * u + np.sin(turn) * v, np.cos(turn) * v - np.sin(turn) * u
    if name == "noise":
        return _noise(side, cell, rng)
    if name == "furrows":
        return 0.5 + 0.5 * np.sin(TAU * (a + 0.15 * np.sin(TAU * 0.3 * b)))
    if name in ("roads", "tiles", "fields"):
        if name == "fields":
            a, b = a + 0.3 * np.floor(b), b
        count = int(3 * side / cell) + 4
        tones = rng.random((count, count), dtype=np.float32)
        tone = tones[np.floor(a).astype(int) % count, np.floor(b).astype(int) % count]
        joint = np.minimum(0.5 - np.abs(a % 1 - 0.5), 0.5 - np.abs(b % 1 - 0.5))
        width, blocks = {"roads": (0.13, 0.6), "tiles": (0.05, 0.5), "fields": (0.02, 1.0)}[name]
        houses = 1 - blocks + blocks * tone
        return np.clip((joint - width) * cell, 0, 1) * houses
    first, second, tone = _seeded(side, cell, rng)
    if name == "trees":
        return np.clip((0.42 - first) * 4, 0, 1) * (0.5 + 0.5 * tone)
    return np.clip((second - first) * 7, 0, 1) * (0.65 + 0.35 * tone)  # cracks


def paint_ground(family: str, side: int, size: int, contrast: float, rng: np.random.Generator) -> Array:
    """Ground from above: RGB in [0, 1], shape (side, side, 3); a frame shows ``size`` pixels of a side."""
    ground = GROUNDS[family]
    cell = ground.cell * size * rng.uniform(0.85, 1.2)
    tone = _pattern(ground.pattern, side, cell, rng)
    tone = (1 - ground.rough) * tone + ground.rough * _noise(side, max(0.5 * cell, 6), rng)
    shift = rng.normal(0, 0.02)
    low, high = (
        hsv((hue + shift) % 1, saturation * rng.uniform(0.8, 1.1), min(1, value * rng.uniform(0.85, 1.1)))
        for hue, saturation, value in (ground.low, ground.high)
    )
    middle = (low + high) / 2
    paint = low + (high - low) * tone[..., None]
    return np.clip(middle + min(1.0, 0.35 + contrast) * (paint - middle), 0, 1)


def fly(family: str, shot: Shot, rng: np.random.Generator) -> NDArray[np.float32]:
    """Ground under a camera that drifts, turns and changes height: float32 (T, size, size, 3)."""
    total, size = shot.frames, shot.size
    # 0.3 to 1 frame sides in 40 frames, on a curved path.
    speed = rng.uniform(0.3, 1.0) / 40
    heading = rng.uniform(0, TAU) + 0.7 * wander(total, rng, 1)[:, 0]
    path = speed * np.cumsum(np.stack([np.cos(heading), np.sin(heading)], 1), 0)
    path += shot.shake * wander(total, rng, 2)
    slow = wander(total, rng, 2)
    turn = np.radians(rng.uniform(8, 20)) * slow[:, 0] + rng.uniform(0, TAU)
    zoom = 1 + rng.uniform(0.03, 0.1) * slow[:, 1]
    room = 0.5 * np.sqrt(2) / zoom.min() + 2 / size
    path = path - path.min(0) + room
    side = int(np.ceil((path.max() + room) * size))
    canvas = Image.fromarray((255 * paint_ground(family, side, size, shot.contrast, rng)).astype(np.uint8))
    frames = np.empty((total, size, size, 3), np.float32)
    for index, (at, angle, factor) in enumerate(zip(path * size, turn, zoom, strict=True)):
        c, s, half = np.cos(angle) / factor, np.sin(angle) / factor, size / 2
        affine = (c, -s, at[0] - half * (c - s), s, c, at[1] - half * (s + c))
        view = canvas.transform((size, size), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)
        frames[index] = np.asarray(view)
    frames *= np.float32(1 / 255)
    return frames


def _box(u: Array, v: Array, length: float, width: float, corner: float) -> Array:
    """Signed distance to a box with round corners; ``length`` and ``width`` are half its sides."""
    across, along = np.abs(v) - width + corner, np.abs(u) - length + corner
    return (
        np.hypot(np.maximum(along, 0), np.maximum(across, 0))
        + np.minimum(np.maximum(along, across), 0)
        - corner
    )


def draw_vehicle(
    frames: NDArray[np.float32], radius: float, x: Array, y: Array, scale: Array, angle: Array,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    """Paint a vehicle with its shadow over frames, in place.

    The body has round corners; a dark windscreen near the front, two lights and a roof show which end is
    the front.

    Args:
        frames: (T, S, S, 3) in [0, 1].
        radius: half the vehicle's length, in units of the frame.
        x, y: centre in units of the frame, (T,). scale: factor on the size, (T,).
        angle: radians, clockwise on screen, (T,); at 0 the front is on the right.
    """
    size = frames.shape[1]
    x, y, angle = (np.asarray(curve, np.float32) for curve in (x, y, angle))
    length = (np.float32(radius) * np.asarray(scale, np.float32))[:, None, None]
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    px, py = np.broadcast_arrays(axis - x[:, None, None], axis[:, None] - y[:, None, None])
    near = np.hypot(px, py) < 1.5 * length  # contains the vehicle and its shadow
    px, py, length = (np.broadcast_to(part, near.shape)[near] for part in (px, py, length))
    c, s = (np.broadcast_to(part[:, None, None], near.shape)[near] for part in (np.cos(angle), np.sin(angle)))
    px, py = px / length, py / length
    width, corner = rng.uniform(0.5, 0.62), rng.uniform(0.15, 0.4)
    pixel = 1 / (length * size)
    paint = frames[near]
    # The sun is fixed: the shadow's direction does not depend on the vehicle's angle.
    sun = rng.uniform(0, TAU)
    dx, dy = np.float32(0.16 * np.cos(sun)), np.float32(0.16 * np.sin(sun))
    shade = _box(c * (px - dx) + s * (py - dy), c * (py - dy) - s * (px - dx), 1, width, corner)
    paint *= 1 - np.float32(0.55) * np.clip(0.5 - shade / np.float32(0.22), 0, 1)[:, None]

    u, v = c * px + s * py, c * py - s * px
    hue = rng.random()
    body = hsv(hue, rng.uniform(0.5, 1), rng.uniform(0.7, 1))
    roof = hsv((hue + rng.uniform(0.3, 0.7)) % 1, rng.uniform(0.3, 0.9), rng.uniform(0.6, 1))
    glass, lamp = np.array([0.08, 0.10, 0.16], np.float32), np.array([1.0, 0.95, 0.7], np.float32)
    distance = _box(u, v, 1, width, corner)

    def layer(inside: Array, colour: Array) -> None:
        cover = np.clip(0.5 - inside / pixel, 0, 1)[:, None].astype(np.float32)
        some = np.flatnonzero(cover)
        paint[some] += cover[some] * (colour - paint[some])

    layer(distance, 0.35 * body)
    layer(distance + 1.3 * pixel, body)
    layer(np.hypot(u - 0.84, np.abs(v) - 0.6 * width) - 0.15, lamp)
    layer(_box(u - 0.36, v, 0.2, 0.82 * width, 0.1), glass)
    layer(_box(u + 0.4, v, 0.42, 0.72 * width, 0.1), roof)
    frames[near] = paint


def render(shot: Shot, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw one video: uint8 RGB, shape (frames, size, size, 3)."""
    frames = fly(shot.family, shot, rng)
    pose = MOTIONS[shot.motion](cycles(shot.frames, rng))
    reach, strength = rng.uniform(0.17, 0.23), rng.uniform(0.85, 1.15)
    home, turn = rng.uniform(-0.06, 0.06, 2), rng.uniform(0, TAU)
    still = np.zeros(shot.frames)
    draw_vehicle(
        frames, rng.uniform(*shot.radius), x=home[0] + reach * pose.x + still,
        y=home[1] + reach * pose.y + still, scale=1 + strength * (pose.scale - 1) + still,
        angle=turn + pose.angle + still, rng=rng,
    )  # fmt: skip
    return expose(frames, rng)


DRONE = World(
    motions=(
        "swing-sideways", "swing-upright", "circle-clockwise", "circle-anticlockwise", "spin-clockwise",
        "spin-anticlockwise", "swell-and-snap", "shrink-and-snap", "rock", "figure-eight",
    ),
    training_families=tuple(GROUNDS)[:10],
    free_families=tuple(GROUNDS)[10:],
    render=render,
)  # fmt: skip
