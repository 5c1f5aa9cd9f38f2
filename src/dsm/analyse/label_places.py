"""Where to write the names of points in a chart, so that no name covers another or a point."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""

# Directions tried at each distance: beside first, then above and below.
_ANGLES = np.radians([0, 180, 90, 270, 45, 135, 315, 225, 22, 158, 338, 202, 68, 112, 292, 248])
_DISTANCES = (1.0, 2.0, 3.5, 5.0, 7.0, 10.0, 14.0, 19.0, 25.0)
"""From the point to the name, in gaps."""


def place_labels(
    points: NDArray[np.float64], sizes: NDArray[np.float64], frame: Box, gap: float
) -> list[Box | None]:
    """A box for each name, none over another, over a point, or beyond the frame; the nearest that is free.

    Args:
        points: (n, 2), in the unit of everything here.
        sizes: (n, 2), width and height of each name.
        gap: from a point to its name at the least, and what is kept free around every point.

    Returns:
        For each its box, or None where no free place is near.
    """
    taken: list[Box] = [(x - gap / 2, y - gap / 2, x + gap / 2, y + gap / 2) for x, y in points]
    found: list[Box | None] = [None] * len(points)
    # Points with many neighbours have the least choice: they choose first.
    near = np.linalg.norm(points[:, None] - points[None], axis=-1)
    for place in np.argsort(np.sort(near, axis=1)[:, 1 : min(4, len(points))].sum(1), kind="stable"):
        (x, y), (width, height) = points[place], sizes[place]
        for distance in _DISTANCES:
            box = next(
                (
                    box
                    for angle in _ANGLES
                    if _within(box := _beside(x, y, width, height, angle, distance * gap), frame)
                    and not any(overlap(box, other) for other in taken)
                ),
                None,
            )
            if box is not None:
                found[place] = box
                taken.append(box)
                break
    return found


def overlap(one: Box, other: Box) -> bool:
    """Do two boxes share any area?"""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _beside(x: float, y: float, width: float, height: float, angle: float, distance: float) -> Box:
    """The box whose edge or corner lies so far from a point, in that direction."""
    right, up = float(np.cos(angle)), float(np.sin(angle))
    centre = x + right * (distance + width / 2), y + up * (distance + height / 2)
    return (
        centre[0] - width / 2, centre[1] - height / 2, centre[0] + width / 2, centre[1] + height / 2
    )  # fmt: skip


def _within(box: Box, frame: Box) -> bool:
    return box[0] >= frame[0] and box[1] >= frame[1] and box[2] <= frame[2] and box[3] <= frame[3]
