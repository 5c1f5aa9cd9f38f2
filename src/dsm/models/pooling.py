"""From a feature map to one vector a clip."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Pooling = Literal["avg", "max", "avgmax"]


def pool(feature_map: Tensor, pooling: Pooling) -> Tensor:
    """Pool a map (B, C, T, H, W) over time and space: (B, C); ``avgmax`` joins both: (B, 2C)."""
    dims = (-3, -2, -1)
    if pooling == "avg":
        return feature_map.mean(dims)
    if pooling == "max":
        return feature_map.amax(dims)
    return torch.cat([feature_map.mean(dims), feature_map.amax(dims)], dim=1)
