"""TLD along the optical flow: for a while everything moves at another pace (DSM, section 3.3).

The paper scales the flow between neighbouring frames by a random factor over a random interval and warps
the frames along it. Warping each frame by its own scaled flow, as its code does, leaves a steady motion
as it was, only displaced. So here the flow is added up from the frame where the interval begins, and
that frame is moved along so many times its way: each frame is a plausible picture of the same scene, and
what moves is soon not where it was. After the interval the video goes on as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dsm.disturb.warp import identity_grid, working_dtype
from dsm.video.flow import compute_flow

FACTORS = (0.01, 10.0)
"""Least and greatest factor, as in the paper's code; drawn evenly on a logarithmic scale."""
NEAR_ONE = 1.6
"""Factors from 1/1.6 to 1.6 are not drawn: the motion would hardly be another."""
FARTHEST = 0.25
"""Nothing is moved farther than this share of the picture's side; where it would, all is moved less."""
SMOOTH = 1 / 8
"""Ways are made smooth over this share of the picture's side at most."""
# Times that the way back is looked for, each time half the way on: where what moves covers what stands there
# are two ways back, and a full step jumps between them, which looks torn.
ROUNDS = 8


@dataclass(frozen=True)
class MotionScale:
    """The pace of a clip from frame ``start`` to frame ``stop``, which is the last that is changed."""

    factor: float
    start: int
    stop: int


def draw_motion_scale(frames: int, rng: np.random.Generator) -> MotionScale:
    """A factor and an interval of half the clip at least.

    Args:
        frames: of the clip, 3 at least.
    """
    while True:
        factor = float(np.exp(rng.uniform(*np.log(FACTORS))))
        if not 1 / NEAR_ONE < factor < NEAR_ONE:
            break
    steps = int(rng.integers(frames // 2, frames))
    start = int(rng.integers(0, frames - steps))
    return MotionScale(factor, start, start + steps)


def scale_motion(clip: Tensor, flow: Tensor, scale: MotionScale) -> Tensor:
    """Let what a clip shows move at another pace for a while.

    Args:
        clip: (C, T, H, W), of any type.
        flow: (T-1, 2, H, W), pixels, x first: from each frame to the next.

    Returns:
        (C, T, H, W), of the clip's type; frames outside the interval are as they were.
    """
    height, width = clip.shape[-2:]
    first = clip[None, :, scale.start].to(working_dtype(clip))
    identity = identity_grid(height, width, first)
    way = first.new_zeros(1, 2, height, width)  # pixels
    out = clip.clone()
    for frame in range(scale.start + 1, scale.stop + 1):
        # Where the content of each pixel of the first frame has come to, and goes from there.
        way = way + _sample(flow[frame - 1, None].to(first), identity + _units(way))
        scaled = _bounded(way * scale.factor)
        # A pixel shows what has come to it: its place less the way of what comes there.
        back = scaled
        for _ in range(ROUNDS):
            back = torch.lerp(back, _sample(scaled, identity - _units(back)), 0.5)
        moved = _sample(first, identity - _units(back))[0]
        out[:, frame] = (moved if clip.dtype.is_floating_point else moved.round()).to(clip.dtype)
    return out


def _bounded(way: Tensor) -> Tensor:
    """Ways (1, 2, H, W) in pixels, none too long, and the smoother the longer they are."""
    side = min(way.shape[-2:])
    longest = float(way.norm(dim=1).max())
    way = way * min(1.0, FARTHEST * side / max(longest, 1e-6))
    window = int(min(longest, SMOOTH * side)) // 2 * 2 + 1
    for kernel in ((window, 1), (1, window)):
        padding = (kernel[0] // 2, kernel[1] // 2)
        way = F.avg_pool2d(way, kernel, 1, padding, count_include_pad=False)
    return way


def _units(way: Tensor) -> Tensor:
    """(1, 2, H, W) in pixels to a field (1, H, W, 2) in normalised units."""
    height, width = way.shape[-2:]
    return way.permute(0, 2, 3, 1) * way.new_tensor([2 / width, 2 / height])


def _sample(picture: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(picture, grid, mode="bilinear", padding_mode="border", align_corners=False)


def at_pace(clip: Tensor, scale: MotionScale | None) -> Tensor:
    """A clip as it is read, uint8 (T, H, W, 3) or flow (T-1, H, W, 2), with its motion scaled; or as it is.

    Raises:
        UserError: OpenCV, which computes the flow of colours, is not installed.
    """
    if scale is None:
        return clip
    if clip.dtype != torch.uint8:
        clip = clip.clone()
        clip[scale.start : scale.stop] *= scale.factor
        return clip
    flow = torch.from_numpy(compute_flow(clip.numpy()))
    return scale_motion(clip.permute(3, 0, 1, 2), flow, scale).permute(1, 2, 3, 0).contiguous()
