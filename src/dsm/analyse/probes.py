"""Probes: a clip changed so that looking tells what an encoder goes by (after Wang et al. 2021).

In each the scene is as rich as before, or richer; what moves is gone (``frozen``), has a still rival
(``pasted``), or is seen through a still picture (``mixed``). An encoder that goes by motion looks at what
moves all the same.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from dsm.analyse.motion_mass import speed_of
from dsm.analyse.page import to_frames
from dsm.disturb.appearance import AddBackground

ProbeName = Literal["clip", "frozen", "pasted", "mixed"]
PROBES: tuple[ProbeName, ...] = get_args(ProbeName)
Frames = NDArray[np.uint8]

# The side of the square cut out around an actor, as a share of the clip's shorter side; its soft edge, as a
# share of the square's.
ACTOR, EDGE = 0.4, 0.08


def frozen(frames: Frames) -> Frames:
    """The middle frame throughout: the scene without any motion. (T, H, W, 3) -> the same."""
    return np.repeat(frames[len(frames) // 2][None], len(frames), axis=0)


def pasted(frames: Frames, source: Frames, at: tuple[float, float] | None = None) -> Frames:
    """A still actor pasted into every frame.

    The square around the place that moves most in the middle frame of ``source`` is cut out and laid, with a
    soft edge, on the clip.

    Args:
        frames, source: (T, H, W, 3) with T >= 2, of one size; of the clip itself, or of another video.
        at: where its centre comes, as shares of width and height; left out, the corner where the clip moves
            least.
    """
    height, width = frames.shape[1:3]
    side = round(ACTOR * min(height, width))
    middle = len(source) // 2
    actor = source[middle][_square(_busiest(source, side), side, height, width)]
    centre = _calmest_corner(frames, side) if at is None else (at[1] * height, at[0] * width)
    there = _square(centre, side, height, width)
    ramp = np.minimum(np.arange(side) + 1, np.arange(side)[::-1] + 1) / (max(EDGE * side, 1) + 1)
    soft = np.clip(np.minimum(ramp[:, None], ramp), 0, 1)[..., None]
    result = frames.copy()
    result[:, there[0], there[1]] = np.rint(soft * actor + (1 - soft) * frames[:, there[0], there[1]])
    return result


def mixed(frames: Frames, source: Frames, share: float = 0.5) -> Frames:
    """The middle frame of ``source`` mixed over every frame: clip * (1 - share) + frame * share.

    Args:
        frames, source: (T, H, W, 3), of one size.
    """
    pair = torch.from_numpy(np.stack([frames, source])).permute(0, 4, 1, 2, 3).float() / 255
    draws = torch.tensor([[share, 0.5], [share, 0.5]])  # which frame: the one in the middle
    # A clip of the batch gets the frame of the one before it, the first that of the last.
    return to_frames(AddBackground(source="batch").mix(pair, draws, pair)[0])


def make_probe(
    name: ProbeName,
    frames: Frames,
    other: Frames,
    *,
    share: float = 0.5,
    at: tuple[float, float] | None = None,
) -> Frames:
    """A probe by its name; ``other`` is where the still actor and the still frame come from."""
    if name == "frozen":
        return frozen(frames)
    if name == "pasted":
        return pasted(frames, other, at)
    return mixed(frames, other, share) if name == "mixed" else frames


def _busiest(frames: Frames, side: int) -> tuple[float, float]:
    """Row and column about which a square of the middle frame moves most."""
    speed = uniform_filter(speed_of(frames, "difference")[len(frames) // 2], side, mode="constant")
    row, column = np.unravel_index(int(speed.argmax()), speed.shape)
    return float(row), float(column)


def _calmest_corner(frames: Frames, side: int) -> tuple[float, float]:
    """Centre of the square in that corner in which the clip moves least."""
    speed = speed_of(frames, "difference").mean(0)
    height, width = speed.shape
    corners = [(y, x) for y in (side / 2, height - side / 2) for x in (side / 2, width - side / 2)]
    return min(corners, key=lambda centre: float(speed[_square(centre, side, height, width)].mean()))


def _square(centre: tuple[float, float], side: int, height: int, width: int) -> tuple[slice, slice]:
    """A square about a centre, moved so that it lies in the picture."""
    top = min(max(round(centre[0] - side / 2), 0), height - side)
    left = min(max(round(centre[1] - side / 2), 0), width - side)
    return slice(top, top + side), slice(left, left + side)
