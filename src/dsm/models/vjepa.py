"""``vjepa2``: the encoder of V-JEPA 2 and 2.1 (Assran et al. 2025), for reading its authors' ``.pt`` files.

A vision transformer over tubelets of 2 frames x 16 x 16 pixels. Positions are rotations of queries and keys
(Su et al. 2021), a third of each head's numbers for time, height and width. The two versions differ in how:
2 pairs neighbouring numbers but gives them the angles of numbers half a part apart, because its authors
trained it so; 2.1 gives a pair one angle, measures height and width on a grid of 16 x 16 whatever the
picture's size, and adds an offset to all patches.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Version = Literal["2", "2.1"]
TUBELET, PATCH = 2, 16
_GRID = 16
"""Patches along a side of 256 pixels, the picture size that 2.1's positions refer to."""


class Patches(nn.Module):
    """(B, C, T, H, W) -> (B, D, T/2, H/16, W/16)."""

    def __init__(self, inputs: int, width: int, version: Version) -> None:
        super().__init__()
        size = (TUBELET, PATCH, PATCH)
        self.proj = nn.Conv3d(inputs, width, size, size)
        self.offset = nn.Parameter(torch.zeros(1, 1, width)) if version == "2.1" else None

    def forward(self, clip: Tensor) -> Tensor:
        if clip.shape[2] < TUBELET:
            clip = clip.repeat_interleave(TUBELET, 2)
        patches: Tensor = self.proj(clip)
        return patches if self.offset is None else patches + self.offset.view(1, -1, 1, 1, 1)


class Attention(nn.Module):
    """Attention of tokens (B, N, D) whose queries and keys are rotated by position."""

    def __init__(self, width: int, heads: int, version: Version) -> None:
        super().__init__()
        self.heads, self.version = heads, version
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, sides: tuple[int, int, int]) -> Tensor:
        b, n, d = tokens.shape
        query, key, value = self.qkv(tokens).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        cos, sin = _angles(sides, d // self.heads, self.version, tokens)
        out = F.scaled_dot_product_attention(_rotated(query, cos, sin), _rotated(key, cos, sin), value)
        return self.proj(out.transpose(1, 2).reshape(b, n, d))


def _angles(sides: tuple[int, int, int], head: int, version: Version, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the angles of each token's numbers: (N, head) each."""
    part = 2 * (head // 3 // 2)  # numbers of a head for each axis; the rest is not rotated
    speeds = 10000 ** -(torch.arange(part // 2, device=like.device, dtype=like.dtype) / (part / 2))
    axes = [torch.arange(side, device=like.device, dtype=like.dtype) for side in sides]
    if version == "2.1":
        axes[1:] = [axis * (_GRID - 1) / max(len(axis) - 1, 1) for axis in axes[1:]]
    angles = []
    for axis in torch.meshgrid(*axes, indexing="ij"):
        angle = axis.flatten()[:, None] * speeds
        angles.append(angle.repeat(1, 2) if version == "2" else angle.repeat_interleave(2, 1))
    rest = torch.zeros(len(angles[0]), head - 3 * part, device=like.device, dtype=like.dtype)
    whole = torch.cat([*angles, rest], 1)
    return whole.cos(), whole.sin()


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each pair of neighbouring numbers of x (…, N, head)."""
    first, second = x.unflatten(-1, (-1, 2)).unbind(-1)  # type: ignore[no-untyped-call]
    return x * cos + torch.stack((-second, first), -1).flatten(-2) * sin


class Block(nn.Module):
    """Attention and an MLP, each after a norm and with a shortcut; maps a map to a map."""

    def __init__(self, width: int, heads: int, hidden: int, version: Version) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads, version)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(
            OrderedDict(fc1=nn.Linear(width, hidden), act=nn.GELU(), fc2=nn.Linear(hidden, width))
        )

    def forward(self, x: Tensor) -> Tensor:
        t, h, w = x.shape[2:]
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.attn(self.norm1(tokens), (t, h, w))
        tokens = tokens + self.mlp(self.norm2(tokens))
        return tokens.transpose(1, 2).unflatten(2, (t, h, w))


class Norm(nn.Module):
    """LayerNorm at each location of a map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)


class VJepa(nn.Module):
    """See the module docstring. ``forward`` (B, C, T, H, W) -> (B, ``width``), the mean of the tokens."""

    def __init__(
        self,
        in_channels: int = 3,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        hidden: int = 3072,
        version: Version = "2",
    ) -> None:
        super().__init__()
        stages: dict[str, nn.Module] = {"patches": Patches(in_channels, width, version)}
        stages |= {f"block{place}": Block(width, heads, hidden, version) for place in range(depth)}
        self.stages = nn.Sequential(OrderedDict({**stages, "norm": Norm(width)}))
        self.feature_dim = width
        self.not_in_tensors = {"heads": heads, "version": version}

    @property
    def blocks(self) -> list[nn.Module]:
        """The layers that tokens pass through."""
        return [stage for stage in self.stages if isinstance(stage, Block)]

    def feature_map(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, D, T/2, H/16, W/16)."""
        return self.stages(x)

    def tokens(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, N, D)."""
        return self.feature_map(x).flatten(2).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.feature_map(x).mean((2, 3, 4))
