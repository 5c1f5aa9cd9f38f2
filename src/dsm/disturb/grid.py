"""Sampling every frame of a clip at the same positions.

A grid gives the source of each pixel, x first, in normalised units: the picture spans [-1, 1], and pixel
centres lie half a pixel inside (``align_corners=False``). A field is a grid minus the identity.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from dsm.disturb.draws import Padding


@lru_cache(maxsize=64)
def constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """These numbers, kept on their device: to copy them there anew, the CPU would wait for the GPU."""
    return torch.tensor(values, dtype=dtype, device=device)


def identity_grid(height: int, width: int, like: Tensor) -> Tensor:
    """The grid that changes nothing: (1, H, W, 2), float32 or better, on the device of ``like``."""
    dtype = working_dtype(like)
    ys = (torch.arange(height, device=like.device, dtype=dtype) + 0.5) * (2 / height) - 1
    xs = (torch.arange(width, device=like.device, dtype=dtype) + 0.5) * (2 / width) - 1
    return torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1)[None]


def working_dtype(like: Tensor) -> torch.dtype:
    """The type for positions, at least float32: bfloat16 can represent only 256 of them."""
    return torch.float64 if like.dtype == torch.float64 else torch.float32


def to_unit(clip: Tensor) -> Tensor:
    """Clips in [0, 1], in the type of :func:`working_dtype`; uint8 is divided by 255."""
    x = clip.to(working_dtype(clip))
    return x if clip.dtype.is_floating_point else x / 255


def from_unit(x: Tensor, like: Tensor) -> Tensor:
    """Undo :func:`to_unit`: back to the type and range of ``like``."""
    return (x if like.dtype.is_floating_point else (x * 255).round_()).to(like.dtype)


def warp(clip: Tensor, grid: Tensor, padding: Padding = "reflection") -> Tensor:
    """Sample every frame of a clip at the same positions, with bilinear interpolation.

    Args:
        clip: (B, C, T, H, W), of any type; results are rounded for integer types.
        grid: (B, H', W', 2), or (1, H', W', 2) for all.

    Returns:
        (B, C, T, H', W'), of the clip's type; integers keep their range.
    """
    b, c, t, h, w = clip.shape
    dtype = working_dtype(clip)
    # Frames become channels: one field per sample, and about twice as fast as (B*T, C, H, W).
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
    """Which pixels come from inside the picture: (B, H', W') bool; a loss may ignore the others."""
    return (grid.abs() <= 1).all(-1)
