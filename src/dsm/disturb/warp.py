"""Sampling every frame of a clip at the same places.

A grid says where each pixel comes from, x first, in normalised units: the picture spans [-1, 1], pixel
centres lie half a pixel inside (``align_corners=False``). A field is what a grid adds to the identity.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Padding = Literal["reflection", "border", "zeros"]
"""What lies beyond the border: the picture mirrored, its outermost pixels, or black."""


def identity_grid(height: int, width: int, like: Tensor) -> Tensor:
    """The grid that changes nothing: (1, H, W, 2), float32 or better, on the device of ``like``."""
    dtype = working_dtype(like)
    ys = (torch.arange(height, device=like.device, dtype=dtype) + 0.5) * (2 / height) - 1
    xs = (torch.arange(width, device=like.device, dtype=dtype) + 0.5) * (2 / width) - 1
    return torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1)[None]


def working_dtype(like: Tensor) -> torch.dtype:
    """Places need float32 at least: bfloat16 tells but 256 of them apart."""
    return torch.float64 if like.dtype == torch.float64 else torch.float32


def to_unit(clip: Tensor) -> Tensor:
    """Clips in [0, 1] as what :func:`working_dtype` says; uint8 is divided by 255."""
    x = clip.to(working_dtype(clip))
    return x if clip.dtype.is_floating_point else x / 255


def from_unit(x: Tensor, like: Tensor) -> Tensor:
    """What :func:`to_unit` took, in the type and range it had."""
    return (x if like.dtype.is_floating_point else (x * 255).round_()).to(like.dtype)


def warp(clip: Tensor, grid: Tensor, padding: Padding = "reflection") -> Tensor:
    """Sample every frame of a clip at the same places, bilinear.

    Args:
        clip: (B, C, T, H, W), of any type; uint8 is rounded back.
        grid: (B, H', W', 2), or (1, H', W', 2) for all.

    Returns:
        (B, C, T, H', W'), of the clip's type and, for whole numbers, range.
    """
    b, c, t, h, w = clip.shape
    dtype = working_dtype(clip)
    # Time rides along as channels: one field a sample, and about twice as fast as (B*T, C, H, W).
    out = F.grid_sample(
        clip.reshape(b, c * t, h, w).to(dtype),
        grid.to(dtype).expand(b, -1, -1, -1),
        mode="bilinear",
        padding_mode=padding,
        align_corners=False,
    )
    if not clip.dtype.is_floating_point:
        out = out.round_()
    return out.to(clip.dtype).reshape(b, c, t, *grid.shape[1:3])


def inside(grid: Tensor) -> Tensor:
    """Which pixels come from within the picture: (B, H', W') bool; a loss may leave the others out."""
    return (grid.abs() <= 1).all(-1)
