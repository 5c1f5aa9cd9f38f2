"""Scaling the motion of a clip along its optical flow: the kind of TLD that works on pixels.

It makes new frames: over a random interval everything moves at another pace. The paper
scales the flow between neighbouring frames by a random factor and warps the frames along it. Warping each
frame by its own scaled flow, as the published code does, leaves a steady motion unchanged apart from an
offset. Here the flow is summed from the first frame of the interval, and that frame is warped along the
scaled sum: each frame is a plausible picture of the same scene, and moving objects soon end up elsewhere.
After the interval the video continues unchanged.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dsm.disturb.grid import identity_grid, working_dtype
from dsm.disturb.scene import box_mean
from dsm.disturb.temporal import MotionScale
from dsm.video.flow import compute_flow

FARTHEST = 0.25
"""Largest displacement, as a share of the picture's side; larger ones are scaled down, with all others."""


SMOOTH = 1 / 8
"""Displacements are smoothed over at most this share of the picture's side."""


# Iterations that invert the displacements, each a half step: where a moving object covers the background
# there are two solutions, and full steps would jump between them and tear the picture.
ROUNDS = 8


def scale_motion(clip: Tensor, flow: Tensor, scale: MotionScale) -> Tensor:
    """Change the pace of the motion in a clip for a while.

    Args:
        clip: (C, T, H, W), of any type.
        flow: (T-1, 2, H, W), pixels, x first: from each frame to the next.

    Returns:
        (C, T, H, W), of the clip's type; frames outside the interval are unchanged.
    """
    height, width = clip.shape[-2:]
    first = clip[None, :, scale.start].to(working_dtype(clip))
    identity = identity_grid(height, width, first)
    moved = first.new_zeros(1, 2, height, width)  # pixels
    out = clip.clone()
    for frame in range(scale.start + 1, scale.stop + 1):
        # How far the content of each pixel of the first frame has moved by this frame.
        moved = moved + _sample(flow[frame - 1, None].to(first), identity + _units(moved))
        scaled = _bounded(moved * scale.factor)
        # A pixel shows the content that moved to it, so its displacement must be inverted.
        back = scaled
        for _ in range(ROUNDS):
            back = torch.lerp(back, _sample(scaled, identity - _units(back)), 0.5)
        warped = _sample(first, identity - _units(back))[0]
        out[:, frame] = (warped if clip.dtype.is_floating_point else warped.round()).to(clip.dtype)
    return out


def _bounded(moved: Tensor) -> Tensor:
    """Limit displacements (1, 2, H, W) in pixels, and smooth them more the longer they are."""
    side = min(moved.shape[-2:])
    longest = float(moved.norm(dim=1).max())
    moved = moved * min(1.0, FARTHEST * side / max(longest, 1e-6))
    window = int(min(longest, SMOOTH * side)) // 2 * 2 + 1
    return box_mean(moved, window)


def _units(moved: Tensor) -> Tensor:
    """Displacements (1, 2, H, W) in pixels to a field (1, H, W, 2) in normalised units."""
    height, width = moved.shape[-2:]
    return moved.permute(0, 2, 3, 1) * moved.new_tensor([2 / width, 2 / height])


def _sample(picture: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(picture, grid, mode="bilinear", padding_mode="border", align_corners=False)


def at_pace(clip: Tensor, scale: MotionScale | None) -> Tensor:
    """Scale the motion of a clip as read, uint8 (T, H, W, 3) or flow (T-1, H, W, 2); None changes nothing.

    Raises:
        UserError: OpenCV, which computes flow from RGB, is not installed.
    """
    if scale is None:
        return clip
    if clip.dtype != torch.uint8:
        clip = clip.clone()
        clip[scale.start : scale.stop] *= scale.factor
        return clip
    flow = torch.from_numpy(compute_flow(clip.numpy()))
    return scale_motion(clip.permute(3, 0, 1, 2), flow, scale).permute(1, 2, 3, 0).contiguous()
