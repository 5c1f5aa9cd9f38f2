"""Altered clips that test where an encoder looks, after Wang et al. 2021: the scene is kept or enriched.

What moves is frozen (``frozen``), competes with a still actor (``pasted``), or is overlaid with a still
picture (``mixed``). An encoder that relies on motion still looks at what moves.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import uniform_filter

from dsm.disturb.appearance import AddBackground
from dsm.evaluate.motion_mass import Frames, speed_of
from dsm.evaluate.settings import Alteration
from dsm.render import from_frames, to_frames

# The side of the square cut out around an actor, as a share of the clip's shorter side; its soft edge, as a
# share of the square's.
ACTOR, EDGE = 0.4, 0.08


def frozen(frames: Frames) -> Frames:
    """The middle frame repeated: the scene without motion. (T, H, W, 3) -> (T, H, W, 3)."""
    return np.repeat(frames[len(frames) // 2][None], len(frames), axis=0)


def pasted(frames: Frames, source: Frames, at: tuple[float, float] | None = None) -> Frames:
    """A still actor pasted into every frame.

    The square around the place that moves most in the middle frame of ``source`` is cut out and pasted, with
    a soft edge, onto the clip.

    Args:
        frames, source: (T, H, W, 3) with T >= 2, of one size; ``source`` may be the clip itself.
        at: the centre of the pasted square, as shares of width and height; by default the corner where the
            clip moves least.
    """
    height, width = frames.shape[1:3]
    side = round(ACTOR * min(height, width))
    middle = len(source) // 2
    actor = source[middle][_square(_busiest(source, side), side, height, width)]
    centre = _calmest_corner(frames, side) if at is None else (at[1] * height, at[0] * width)
    rows, columns = _square(centre, side, height, width)
    ramp = np.minimum(np.arange(side) + 1, np.arange(side)[::-1] + 1) / (max(EDGE * side, 1) + 1)
    soft = np.clip(np.minimum(ramp[:, None], ramp), 0, 1)[..., None]
    result = frames.copy()
    result[:, rows, columns] = np.rint(soft * actor + (1 - soft) * frames[:, rows, columns])
    return result


def mixed(frames: Frames, source: Frames, share: float = 0.5) -> Frames:
    """The middle frame of ``source`` mixed over every frame: clip * (1 - share) + frame * share.

    Args:
        frames, source: (T, H, W, 3), of one size.
    """
    pair = from_frames(torch.from_numpy(np.stack([frames, source])))
    # Share, frame (the middle one) and source: in a batch of two, there is one other clip.
    draws = torch.tensor([[share, 0.5, 0.0], [share, 0.5, 0.0]])
    return to_frames(AddBackground(source="batch").mix(pair, draws, pair)[0])


def alter(
    name: Alteration,
    frames: Frames,
    other: Frames,
    *,
    share: float = 0.5,
    at: tuple[float, float] | None = None,
) -> Frames:
    """A clip altered in one of these ways; the still actor or the still frame comes from ``other``."""
    if name == "frozen":
        return frozen(frames)
    if name == "pasted":
        return pasted(frames, other, at)
    return mixed(frames, other, share) if name == "mixed" else frames


def _busiest(frames: Frames, side: int) -> tuple[float, float]:
    """Row and column of the centre of the square that moves most in the middle frame."""
    speed = uniform_filter(speed_of(frames, "difference")[len(frames) // 2], side, mode="constant")
    row, column = np.unravel_index(int(speed.argmax()), speed.shape)
    return float(row), float(column)


def _calmest_corner(frames: Frames, side: int) -> tuple[float, float]:
    """Centre of the square in the corner where the clip moves least."""
    speed = speed_of(frames, "difference").mean(0)
    height, width = speed.shape
    corners = [(y, x) for y in (side / 2, height - side / 2) for x in (side / 2, width - side / 2)]
    return min(corners, key=lambda centre: float(speed[_square(centre, side, height, width)].mean()))


def _square(centre: tuple[float, float], side: int, height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of a square around a centre, shifted to lie within the picture."""
    top = min(max(round(centre[0] - side / 2), 0), height - side)
    left = min(max(round(centre[1] - side / 2), 0), width - side)
    return slice(top, top + side), slice(left, left + side)
