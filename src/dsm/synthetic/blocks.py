"""Draws the scenes of the world `walkers`: rooms and streets made from overlapping rectangles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dsm.synthetic.scenery import hsv
from dsm.synthetic.world import MARGIN, Array


@dataclass(frozen=True)
class Place:
    """A scene family: its colours and objects. Lengths are in units of the frame's side."""

    wall: tuple[float, float, float]
    """Hue, saturation and value of the wall or sky."""
    floor: tuple[float, float, float]
    """Hue, saturation and value of the floor."""
    things: tuple[float, float, float]
    """Hue, saturation and value of the objects; each object's own differ from them."""
    count: int
    """Number of objects on the floor."""
    width: tuple[float, float]
    """Range of the objects' widths."""
    height: tuple[float, float]
    """Range of the objects' heights."""
    panes: tuple[int, int] = (0, 0)
    """Windows per row, and rows, in every object."""
    hung: int = 0
    """Number of objects on the wall."""
    boards: int = 0
    """Approximate number of floor boards or street lanes; 0 for none."""
    glow: float = 0.15
    """How much lighter the wall is at the bottom than at the top; negative if darker."""


FAMILIES: dict[str, Place] = {  # colours, then objects
    "avenue": Place(
        (0.58, 0.4, 0.9), (0.0, 0.0, 0.4), (0.07, 0.4, 0.6),
        7, (0.15, 0.35), (0.3, 0.9), (3, 6),
    ),
    "parlour": Place(
        (0.10, 0.35, 0.8), (0.06, 0.6, 0.4), (0.98, 0.6, 0.5),
        4, (0.2, 0.4), (0.1, 0.35), hung=4, boards=6,
    ),
    "office": Place(
        (0.55, 0.08, 0.85), (0.60, 0.2, 0.5), (0.60, 0.1, 0.35),
        6, (0.12, 0.3), (0.2, 0.5), (2, 4), 2,
    ),
    "night": Place(
        (0.68, 0.7, 0.25), (0.66, 0.4, 0.18), (0.70, 0.5, 0.14),
        8, (0.12, 0.3), (0.4, 1.0), (3, 7), glow=0.3,
    ),
    "market": Place(
        (0.50, 0.3, 0.9), (0.12, 0.3, 0.65), (0.03, 0.8, 0.85),
        9, (0.08, 0.2), (0.15, 0.45), hung=3,
    ),
    "gallery": Place(
        (0.0, 0.0, 0.92), (0.09, 0.4, 0.7), (0.30, 0.5, 0.5),
        1, (0.1, 0.2), (0.1, 0.2), hung=7, boards=9,
    ),
    "dock": Place(
        (0.52, 0.4, 0.7), (0.53, 0.6, 0.35), (0.06, 0.7, 0.7),
        6, (0.25, 0.5), (0.15, 0.3), (5, 1), boards=4,
    ),
    "garden": Place(
        (0.55, 0.3, 0.95), (0.30, 0.6, 0.5), (0.35, 0.6, 0.4),
        12, (0.06, 0.18), (0.1, 0.5),
    ),
    "library": Place(
        (0.08, 0.5, 0.4), (0.02, 0.5, 0.3), (0.07, 0.6, 0.5),
        5, (0.2, 0.35), (0.6, 0.9), (6, 6), boards=5, glow=-0.1,
    ),
    "nursery": Place(
        (0.92, 0.25, 0.95), (0.15, 0.3, 0.9), (0.78, 0.5, 0.85),
        6, (0.1, 0.22), (0.1, 0.25), hung=6,
    ),
    "canyon": Place(
        (0.09, 0.5, 0.95), (0.05, 0.6, 0.6), (0.03, 0.6, 0.5),
        9, (0.2, 0.5), (0.2, 0.8), glow=-0.2,
    ),
    "kitchen": Place(
        (0.16, 0.2, 0.95), (0.5, 0.15, 0.8), (0.5, 0.35, 0.6),
        7, (0.14, 0.2), (0.25, 0.35), (1, 2), 5, 8,
    ),
    "arcade": Place(
        (0.80, 0.7, 0.3), (0.75, 0.5, 0.2), (0.90, 0.8, 0.7),
        8, (0.1, 0.16), (0.35, 0.5), (1, 3), 3, glow=0.2,
    ),
    "harbour": Place(
        (0.60, 0.15, 0.8), (0.57, 0.5, 0.6), (0.0, 0.1, 0.9),
        10, (0.05, 0.3), (0.2, 0.7), glow=0.1,
    ),
    "barn": Place(
        (0.06, 0.6, 0.5), (0.13, 0.5, 0.7), (0.08, 0.5, 0.3),
        4, (0.3, 0.5), (0.2, 0.5), boards=12, hung=2,
    ),
}  # fmt: skip
"""The first ten are the training families; the rest appear only in ``test_free``."""


def paint_place(family: str, size: int, contrast: float, rng: np.random.Generator) -> tuple[Array, float]:
    """Draw one random scene of a family.

    Args:
        family: a key of :data:`FAMILIES`. size: the frame's side in pixels.
        contrast: contrast of the scene (0 to 1).

    Returns:
        float32 RGB in [0, 1], shape (S, S, 3) with S = size + 2 * round(MARGIN * size), and y of a place to
        stand on the floor, in units of the frame, in [-0.5, 0.5].
    """
    place = FAMILIES[family]
    border = round(MARGIN * size)
    side = size + 2 * border
    shift, light = rng.normal(0, 0.02), rng.uniform(0.85, 1.1)

    def colour(base: tuple[float, float, float], spread: float = 0.0) -> Array:
        hue, saturation, value = base
        return hsv(
            (hue + shift + rng.normal(0, 0.3 * spread)) % 1,
            float(np.clip(saturation * rng.uniform(1 - spread, 1 + spread), 0, 1)),
            float(np.clip(light * value * rng.uniform(1 - spread, 1 + spread), 0, 1)),
        )

    picture = np.empty((side, side, 3), np.float32)
    horizon = rng.uniform(0.12, 0.24)  # in units of the frame, down from its middle
    edge = round((horizon + 0.5) * size) + border
    slope = np.linspace(-0.5, 0.5, side, dtype=np.float32)[:, None, None]
    picture[:] = colour(place.wall) * (1 + place.glow * slope)
    ground = colour(place.floor)

    def block(x: float, top: float, width: float, height: float, paint: Array) -> tuple[slice, slice]:
        """Paint a rectangle, given by its upper left corner and lit from one side."""
        low, high = (np.clip([x, x + width], -0.6, 0.6) + 0.5) * size + border
        up, down = (np.clip([top, top + height], -0.6, 0.6) + 0.5) * size + border
        area = slice(round(up), round(down)), slice(max(round(low), 0), round(high))
        part = picture[area]
        part[:] = paint * np.linspace(1.1, 0.85, part.shape[1], dtype=np.float32)[None, :, None]
        return area

    for _ in range(place.hung):
        width, height = rng.uniform(0.1, 0.28, 2)
        x, top = rng.uniform(-0.55, 0.45), rng.uniform(-0.5, -0.05 - height / 2)
        block(x, top, width, height, 0.6 * colour(place.things, 0.4))
        block(x + 0.02, top + 0.02, width - 0.04, height - 0.04, colour(place.things, 0.6))
    for _ in range(place.count):
        width, height = rng.uniform(*place.width), rng.uniform(*place.height)
        x, foot = rng.uniform(-0.6, 0.6 - width / 2), horizon + rng.uniform(0, 0.04)
        paint = colour(place.things, 0.35)
        block(x, foot - height, width, height, paint)
        columns, rows = place.panes
        if columns and rows:
            pane = np.clip(paint * rng.uniform(1.4, 1.8) + 0.12 if rng.random() < 0.7 else 0.5 * paint, 0, 1)
            across, down = width / columns, height / rows
            for row in range(rows):
                for column in range(columns):
                    if rng.random() < 0.8:
                        corner = x + (column + 0.25) * across, foot - height + (row + 0.25) * down
                        block(*corner, 0.5 * across, 0.5 * down, pane)
    picture[edge:] = ground * np.linspace(0.8, 1.15, side - edge, dtype=np.float32)[:, None, None]
    if place.boards:
        # Joints run towards a vanishing point.
        axis = (np.arange(side, dtype=np.float32) - border) / size - 0.5
        depth = (axis[edge:, None] - horizon) + 0.25
        joint = np.abs((axis[None] * 0.4 / depth * place.boards + rng.random()) % 1 - 0.5) > 0.44
        picture[edge:][joint] *= 0.75
    middle = picture.mean((0, 1))
    picture = np.clip(middle + min(1.0, 0.35 + contrast) * (picture - middle), 0, 1).astype(np.float32)
    return picture, rng.uniform(0.27, 0.36)
