"""Spatial Local Disturbance (SLD): break the scene, keep the motion (DSM, section 3.2).

One displacement field a sample, the same for all its frames: what stands still is bent and
stays still, what moves goes on moving. A field is an array of displacements in normalised
units (the picture spans [-1, 1], x first), to be added to the identity.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dsm.errors import UserError


def identity_grid(height: int, width: int, like: Tensor) -> Tensor:
    """The sampling grid that changes nothing: (1, H, W, 2), x first, pixel centres (align_corners=False)."""
    ys = (torch.arange(height, device=like.device, dtype=like.dtype) + 0.5) * (2 / height) - 1
    xs = (torch.arange(width, device=like.device, dtype=like.dtype) + 0.5) * (2 / width) - 1
    return torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1)[None]


def warp(clip: Tensor, grid: Tensor) -> Tensor:
    """Sample every frame of a clip at the same places, bilinear, mirrored at the border.

    Args:
        clip: (B, C, T, H, W), floating point.
        grid: (B, H', W', 2), where each output pixel comes from, x first, in [-1, 1].

    Returns:
        (B, C, T, H', W').
    """
    b, c, t, h, w = clip.shape
    # Time rides along as channels: one field a sample, and about twice as fast as (B*T, C, H, W).
    out = F.grid_sample(
        clip.reshape(b, c * t, h, w), grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    return out.reshape(b, c, t, *grid.shape[1:3])


@dataclass(frozen=True)
class SmoothWarp:
    """A smooth random field: random displacements at a coarse grid of points, cubic between."""

    strength: float = 0.2
    """Standard deviation of a displacement, as a share of half the picture's side; 0 is the identity."""
    points: int = 4
    """Control points along each side."""

    def __post_init__(self) -> None:
        if not 0 <= self.strength < float("inf") or self.points < 2:
            raise UserError("sld: strength must be 0 or more, and points at least 2.")

    def draw(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """The displacements of one sample's control points: (2, points, points)."""
        return (rng.normal(0, 1, (2, self.points, self.points)) * self.strength).astype(np.float32)

    def field(self, control: Tensor, height: int, width: int) -> Tensor:
        """Control displacements (B, 2, points, points) to a field (B, H, W, 2)."""
        dense = F.interpolate(control, (height, width), mode="bicubic", align_corners=True)
        return dense.permute(0, 2, 3, 1)
