"""The local warp of DSM's published code: the picture is pulled aside around one to three points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dsm.disturb.spatial import Draw, Seed, Warp
from dsm.disturb.warp import Padding, identity_grid, warp
from dsm.errors import UserError


@dataclass(frozen=True)
class LocalWarp(Warp):
    """Pull the picture aside around one to three points: the local warp of DSM's published code.

    There, on a picture of 224 pixels, p in [60, 140)² and s in [10, 20)², and a pixel x within 3 s of p comes
    from ``x - h s``, with ``h = 0.5 / (3 (|x - (p + s)| / |s|)⁴ + 1)``. Here the same in shares of the sides.
    """

    most: int = 3
    """Points at most; one after the other."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.most < 1:
            raise UserError("sld: most, the number of points, must be at least 1.")

    def draw(self, rng: np.random.Generator) -> Draw:
        """(most, 5): rows (py, px, sy, sx) in shares of the sides, and the strength; 0 for one not used."""
        place = rng.uniform(60 / 224, 140 / 224, (self.most, 2))
        shift = rng.uniform(10 / 224, 20 / 224, (self.most, 2))
        used = np.arange(self.most) < rng.integers(1, self.most + 1)
        return np.column_stack([place, shift, used * self.strength]).astype(np.float32)

    def field(self, draws: Tensor, height: int, width: int) -> Tensor:
        sides = draws.new_tensor([height, width])
        start = (identity_grid(height, width, draws).flip(-1) + 1) / 2 * sides - 0.5  # y first, pixels
        return ((self._source(start, draws, sides) - start) / sides * 2).flip(-1)

    def _source(self, place: Tensor, draws: Tensor, sides: Tensor) -> Tensor:
        """Where pixels (1, h, w, 2) come from, for each sample: (B, h, w, 2), y first."""
        # The last warp is the first that a pixel is led back through.
        for row in range(draws.shape[1] - 1, -1, -1):
            point, shift = (draws[:, row, i : i + 2][:, None, None] * sides for i in (0, 2))
            place = place - draws[:, row, 4, None, None, None] * local_pull(place, point, shift)
        return place

    def __call__(self, clip: Tensor, seed: Seed = None, padding: Padding = "reflection") -> Tensor:
        """As of any warp, but only the part of each clip that is pulled at all is sampled."""
        draws = self.draw_batch(len(clip), seed, clip)
        height, width = clip.shape[-2:]
        grid = identity_grid(height, width, clip)
        sides = draws.new_tensor([height, width])
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
    """h s of :class:`LocalWarp`: how far each place is pulled; none more than 3 s from the point.

    Args:
        place: (…, 2) pixels. point, shift: to be broadcast with it; the shift is above 0.
    """
    within = ((place >= point - 3 * shift) & (place < point + 3 * shift)).all(-1, keepdim=True)
    ratio = (place - point - shift).square().sum(-1, keepdim=True) / shift.square().sum(-1, keepdim=True)
    return torch.where(within, 0.5 / (3 * ratio.square() + 1), 0) * shift


def local_warp_exact(clip: Tensor, points: Tensor) -> Tensor:
    """The local warp to the pixel as DSM's published code has it: displacements cut to whole pixels.

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
        # Five times as fast as by two indices.
        pulled = out.flatten(-2).index_select(-1, flat.flatten().to(clip.device))
        out[..., rows, columns] = pulled.reshape(*clip.shape[:-2], *flat.shape)
    return out


def _window(points: Tensor, shifts: Tensor) -> tuple[slice, slice]:
    """Rows and columns that points (N, 2) with shifts (N, 2), in pixels, have any say in."""
    first = (points - 3 * shifts).amin(0).floor().clamp(min=0).int().tolist()
    last = (points + 3 * shifts).amax(0).ceil().clamp(min=0).int().tolist()
    return slice(first[0], last[0] + 1), slice(first[1], last[1] + 1)
