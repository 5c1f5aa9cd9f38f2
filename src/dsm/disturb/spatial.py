"""Spatial Local Disturbance (SLD): break the scene, keep the motion (DSM, section 3.2).

All frames of a sample get the same disturbance: still things look different but stay still, and moving things
keep moving. This file holds the kinds that warp the picture, including the local warp of DSM's published
code, which pulls the picture aside around one to three points. ``appearance.py`` holds the kinds that
change the content of the picture; ``spatial_mix.py`` draws from all of them by weight.

``draw`` draws the random parameters of one sample as a small array; everything else works on a batch of such
arrays, stacked, on any device. Calling a kind with clips does both::

    bent = SmoothWarp(strength=0.5)(clips, seed=0)  # (B, C, T, H, W)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dsm.disturb.draws import Draw, Padding, Seed
from dsm.disturb.grid import constant, identity_grid, warp
from dsm.errors import UserError


@dataclass(frozen=True)
class Disturbance(ABC):
    """A kind of SLD; subclasses define how it disturbs."""

    strength: float = 1.0
    """0 changes nothing, 1 is the strength in the source, larger is stronger."""

    def __post_init__(self) -> None:
        if not 0 <= self.strength < float("inf"):
            raise UserError(f"the strength of a disturbance must be 0 or more, not {self.strength}.")

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> Draw:
        """Draw the random parameters of one sample: always the same shape, and all zeros for the identity."""

    def draw_batch(self, count: int, seed: Seed, like: Tensor) -> Tensor:
        """Draws of ``count`` samples, stacked, on the device of ``like``."""
        rng = np.random.default_rng(seed)
        return torch.from_numpy(np.stack([self.draw(rng) for _ in range(count)])).to(like.device)


@dataclass(frozen=True)
class Warp(Disturbance):
    """A kind that warps the picture."""

    @abstractmethod
    def field(self, draws: Tensor, height: int, width: int) -> Tensor:
        """Displacements (B, H, W, 2), normalised, x first, from the stacked draws (B, …) of a batch."""

    def __call__(self, clip: Tensor, seed: Seed = None, padding: Padding = "reflection") -> Tensor:
        """Warp each of the clips (B, C, T, H, W) differently; keeps shape, type and range."""
        if self.strength == 0 or len(clip) == 0:
            return clip
        draws = self.draw_batch(len(clip), seed, clip)
        height, width = clip.shape[-2:]
        return warp(clip, identity_grid(height, width, clip) + self.field(draws, height, width), padding)


@dataclass(frozen=True)
class SmoothWarp(Warp):
    """A smooth random field: random displacements on a coarse grid of points, with cubic interpolation."""

    spread: float = 0.2
    """Standard deviation of a displacement at strength 1, as a share of half the picture's side."""
    points: int = 4
    """Control points along each side."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.spread < float("inf") or self.points < 2:
            raise UserError("sld: spread must be 0 or more, and points at least 2.")

    def draw(self, rng: np.random.Generator) -> Draw:
        """Displacements of the control points: (2, points, points)."""
        spread = self.strength * self.spread
        return (rng.normal(0, 1, (2, self.points, self.points)) * spread).astype(np.float32)

    def field(self, draws: Tensor, height: int, width: int) -> Tensor:
        dense = F.interpolate(draws, (height, width), mode="bicubic", align_corners=True)
        return dense.permute(0, 2, 3, 1)


@dataclass(frozen=True)
class ThinPlate(Warp):
    """A thin-plate spline through a grid of control points, each moved randomly (Bookstein 1989)."""

    reach: float = 0.1
    """Largest shift of a point along x and y at strength 1, as a share of half the side."""
    points: int = 5
    """Control points along each side."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.points < 2:
            raise UserError("sld: points must be at least 2.")

    def draw(self, rng: np.random.Generator) -> Draw:
        """Displacements of the control points: (points², 2), row by row, x first."""
        reach = self.strength * self.reach
        return rng.uniform(-reach, reach, (self.points**2, 2)).astype(np.float32)

    def field(self, draws: Tensor, height: int, width: int) -> Tensor:
        spline = _pixel_spline(self.points, height, width, draws.dtype, draws.device)
        return torch.einsum("pn,bnk->bpk", spline, draws).reshape(len(draws), height, width, 2)


def control_points(points: int) -> Tensor:
    """A grid over [-1, 1]²: (points², 2) float64, row by row, x first."""
    line = torch.linspace(-1, 1, points, dtype=torch.float64)
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1).reshape(-1, 2)


def thin_plate_spline(control: Tensor, values: Tensor, places: Tensor) -> Tensor:
    """Interpolate values (N, K) at control points (N, 2) to values (P, K) at places (P, 2).

    The spline is a weighted sum of r² log r, where r is the distance to each control point, plus an affine
    map: of all functions through these values, the one that bends least (Bookstein 1989). It is computed in
    the type of the control points; in float32 its values are accurate to about 1e-5.
    """
    count = len(control)
    system = control.new_zeros(count + 3, count + 3)
    system[:count] = _basis(control, control)
    system[count:, :count] = system[:count, count:].T
    # The inverse, as in the golden file: solving in float32 would round differently without being more
    # accurate.
    weights = torch.linalg.inv(system) @ torch.cat([values, values.new_zeros(3, values.shape[1])])
    return _basis(places, control) @ weights


def _basis(places: Tensor, control: Tensor) -> Tensor:
    squared = (places[:, None] - control).square().sum(-1)
    radial = 0.5 * squared * torch.where(squared > 0, squared, 1).log()
    return torch.cat([radial, torch.ones_like(places[:, :1]), places], dim=1)


@lru_cache(maxsize=16)
def _pixel_spline(points: int, height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The matrix (H W, points²) that interpolates values at the control points to all pixels."""
    control = control_points(points)
    pixels = identity_grid(height, width, control).reshape(-1, 2)
    spline = thin_plate_spline(control, torch.eye(len(control), dtype=torch.float64), pixels).float()
    return spline.to(device, dtype)


@dataclass(frozen=True)
class Affine(Warp):
    """Scale, turn, shear and shift the whole picture; the published code only scales."""

    scale: float = 0.15
    """Largest change of size at strength 1, as a share."""
    rotate: float = 20.0
    """Largest rotation, in degrees."""
    shear: float = 0.2
    """Largest shear: sideways shift per unit of height."""
    shift: float = 0.1
    """Largest shift, as a share of half the side."""
    reflect: float = 0.0
    """Share of clips that are mirrored; motion to the left becomes motion to the right."""

    def draw(self, rng: np.random.Generator) -> Draw:
        """(2, 3): the matrix on (x, y, 1), minus the identity."""
        scale, turn, shear, x, y = rng.uniform(-1, 1, 5) * self.strength
        mirrored = self.strength > 0 and rng.random() < self.reflect
        c, s = math.cos(angle := math.radians(self.rotate) * turn), math.sin(angle)
        matrix = np.array([[c, -s], [s, c]]) @ [[1, self.shear * shear], [0, 1]] / (1 + self.scale) ** scale
        matrix[:, 0] *= -1 if mirrored else 1
        return np.column_stack([matrix - np.eye(2), self.shift * np.array([x, y])]).astype(np.float32)

    def field(self, draws: Tensor, height: int, width: int) -> Tensor:
        grid = identity_grid(height, width, draws)
        return torch.einsum("bij,xhwj->bhwi", draws[:, :, :2], grid) + draws[:, None, None, :, 2]


@dataclass(frozen=True)
class LocalWarp(Warp):
    """Pull the picture aside around one to three points: the local warp of DSM's published code.

    In that code, on a picture of 224 pixels, p is in [60, 140)² and s in [10, 20)², and a pixel x within 3 s
    of p comes from ``x - h s``, with ``h = 0.5 / (3 (|x - (p + s)| / |s|)⁴ + 1)``. Here p and s are shares of
    the sides.
    """

    most: int = 3
    """Largest number of points; their warps are applied one after the other."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.most < 1:
            raise UserError("sld: most, the number of points, must be at least 1.")

    def draw(self, rng: np.random.Generator) -> Draw:
        """(most, 5): rows (py, px, sy, sx) in shares of the sides, and the strength; 0 for unused points."""
        place = rng.uniform(60 / 224, 140 / 224, (self.most, 2))
        shift = rng.uniform(10 / 224, 20 / 224, (self.most, 2))
        used = np.arange(self.most) < rng.integers(1, self.most + 1)
        return np.column_stack([place, shift, used * self.strength]).astype(np.float32)

    def field(self, draws: Tensor, height: int, width: int) -> Tensor:
        sides = constant((height, width), draws.dtype, draws.device)
        start = (identity_grid(height, width, draws).flip(-1) + 1) / 2 * sides - 0.5  # y first, pixels
        return ((self._source(start, draws, sides) - start) / sides * 2).flip(-1)

    def _source(self, place: Tensor, draws: Tensor, sides: Tensor) -> Tensor:
        """Where pixels (1, h, w, 2) come from, for each sample: (B, h, w, 2), y first."""
        # A pixel is traced back through the warps, starting with the last one.
        for row in range(draws.shape[1] - 1, -1, -1):
            point, shift = (draws[:, row, i : i + 2][:, None, None] * sides for i in (0, 2))
            place = place - draws[:, row, 4, None, None, None] * local_pull(place, point, shift)
        return place

    def __call__(self, clip: Tensor, seed: Seed = None, padding: Padding = "reflection") -> Tensor:
        """As :meth:`Warp.__call__`, but samples only the part of each clip that is pulled."""
        if len(clip) == 0:
            return clip
        draws = self.draw_batch(len(clip), seed, clip)
        height, width = clip.shape[-2:]
        grid = identity_grid(height, width, clip)
        sides = constant((height, width), draws.dtype, draws.device)
        out = clip.clone()
        for one, draw in enumerate(draws):
            used = draw[draw[:, 4] > 0]
            if len(used):
                y, x = _window(used[:, :2] * sides, used[:, 2:4] * sides)
                start = (grid[:, y, x].flip(-1).to(draws) + 1) / 2 * sides - 0.5
                field = (self._source(start, used[None], sides) - start) / sides * 2
                out[one, ..., y, x] = warp(clip[one, None], grid[:, y, x] + field.flip(-1), padding)[0]
        return out


def local_pull(place: Tensor, point: Tensor, shift: Tensor) -> Tensor:
    """h s of :class:`LocalWarp`: how far each place is pulled; 0 beyond 3 s from the point.

    Args:
        place: (…, 2) pixels. point, shift: broadcast with it; the shift is above 0.
    """
    within = ((place >= point - 3 * shift) & (place < point + 3 * shift)).all(-1, keepdim=True)
    ratio = (place - point - shift).square().sum(-1, keepdim=True) / shift.square().sum(-1, keepdim=True)
    return torch.where(within, 0.5 / (3 * ratio.square() + 1), 0) * shift


def local_warp_exact(clip: Tensor, points: Tensor) -> Tensor:
    """The local warp exactly as in DSM's published code: displacements truncated to whole pixels.

    Args:
        clip: (B, C, T, H, W) of any type.
        points: (N, 4), rows (py, px, sy, sx) in pixels, one after the other; the same for all samples.
    """
    height, width = clip.shape[-2:]
    out = clip.contiguous().clone()
    for row in points.to(torch.float64).cpu():
        point, shift = row[:2], row[2:]
        rows, columns = _window(point[None], shift[None])
        places = torch.arange(height)[rows], torch.arange(width)[columns]
        place = torch.stack(torch.meshgrid(*places, indexing="ij"), dim=-1)  # y first
        source = place + torch.trunc(-local_pull(place.double(), point, shift)).long()
        flat = source[..., 0].clamp(0, height - 1) * width + source[..., 1].clamp(0, width - 1)
        # Five times as fast as indexing by row and column.
        pulled = out.flatten(-2).index_select(-1, flat.flatten().to(clip.device))
        out[..., rows, columns] = pulled.reshape(*clip.shape[:-2], *flat.shape)
    return out


def _window(points: Tensor, shifts: Tensor) -> tuple[slice, slice]:
    """Rows and columns affected by points (N, 2) with shifts (N, 2), in pixels."""
    first = (points - 3 * shifts).amin(0).floor().clamp(min=0).int().tolist()
    last = (points + 3 * shifts).amax(0).ceil().clamp(min=0).int().tolist()
    return slice(first[0], last[0] + 1), slice(first[1], last[1] + 1)
