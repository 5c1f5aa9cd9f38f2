"""What all backbones have in common: stages, pooling, and max pooling that fits clips of any size."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsm.models.settings import Pooling

Triple = tuple[int, int, int]

# Exponent of the generalised mean: 1 is the average, infinity the maximum (Radenovic et al. 2018: about 3).
GEM_POWER = 3.0


def pool(feature_map: Tensor, pooling: Pooling) -> Tensor:
    """Pool a map (B, C, T, H, W) over time and space: (B, C); ``avgmax`` joins both: (B, 2C)."""
    dims = (-3, -2, -1)
    if pooling == "avg":
        return feature_map.mean(dims)
    if pooling == "max":
        return feature_map.amax(dims)
    if pooling == "gem":
        return feature_map.clamp(min=1e-6).pow(GEM_POWER).mean(dims).pow(1 / GEM_POWER)
    return torch.cat([feature_map.mean(dims), feature_map.amax(dims)], dim=1)


def pooled_dim(channels: int, pooling: Pooling) -> int:
    """Output dimensions of :func:`pool` for a map with ``channels`` channels."""
    return channels * (2 if pooling == "avgmax" else 1)


class Backbone(nn.Module):
    """Stages one after the other, then pooling: (B, C, T, H, W) -> (B, ``feature_dim``).

    Args:
        stages: by name; the last one's output has ``channels`` channels.
    """

    def __init__(self, stages: Mapping[str, nn.Module], channels: int, pooling: Pooling) -> None:
        super().__init__()
        self.stages, self.pooling = nn.Sequential(OrderedDict(stages)), pooling
        self.feature_dim = pooled_dim(channels, pooling)

    def feature_map(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, ``channels``, T', H', W'), by the strides of the stages."""
        return self.stages(x)

    def forward(self, x: Tensor) -> Tensor:
        return pool(self.feature_map(x), self.pooling)


class MaxPool(nn.Module):
    """Max pooling whose window is never larger than the clip, so that short and small clips fit too."""

    def __init__(self, kernel: Triple, stride: Triple | None = None, padding: Triple = (0, 0, 0)) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = kernel, stride or kernel, padding

    def forward(self, x: Tensor) -> Tensor:
        room = zip(self.kernel, x.shape[2:], self.padding, strict=True)
        kernel = [min(k, n + 2 * p) for k, n, p in room]
        return F.max_pool3d(x, kernel, self.stride, self.padding)

    def extra_repr(self) -> str:
        return f"{self.kernel}, stride={self.stride}, padding={self.padding}"
