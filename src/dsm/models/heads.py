"""Projection heads, and encoders with a projection head or a classifier."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsm.models.precision import compute_exactly
from dsm.models.settings import HeadKind


def projection_head(inputs: int, outputs: int, kind: HeadKind) -> nn.Module:
    """A map from features to the embedding in which clips are compared.

    ``linear`` is the paper's; ``mlp`` has a hidden layer with BatchNorm (Chen et al. 2020), which short
    schedules need; ``mlp-bn`` also has BatchNorm, without scale and shift, after its last layer (Chen, Xie &
    He 2021, MoCo v3). Embeddings of a batch then have mean 0 in each dimension, so they cannot all become
    alike. Without it they do when views are too different to be recognised, and hardly recover.
    """
    if kind == "linear":
        return nn.Linear(inputs, outputs)
    layers = [
        nn.Linear(inputs, inputs, bias=False),
        nn.BatchNorm1d(inputs),
        nn.ReLU(inplace=True),
        nn.Linear(inputs, outputs),
    ]
    return nn.Sequential(*layers, *([nn.BatchNorm1d(outputs, affine=False)] if kind == "mlp-bn" else []))


class Classifier(nn.Module):
    """An encoder with a linear classifier: clips (B, C, T, H, W) -> logits (B, classes)."""

    def __init__(self, encoder: nn.Module, classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(cast(int, encoder.feature_dim), classes)
        # All classes start about equally likely, whatever the scale of the features (Goyal et al. 2017,
        # section 5.1): a head that starts overconfident would undo what the encoder has learned.
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, clip: Tensor) -> Tensor:
        features = self.encoder(clip)
        with compute_exactly(features.device.type):
            return cast(Tensor, self.head(self.dropout(features.to(self.head.weight.dtype))))


class Embedder(nn.Module):
    """An encoder with a projection head: clips (B, C, T, H, W) -> unit vectors (B, dim)."""

    def __init__(self, encoder: nn.Module, dim: int, kind: HeadKind) -> None:
        super().__init__()
        self.spec = {"dim": dim, "kind": kind}
        self.encoder = encoder
        self.head = projection_head(cast(int, encoder.feature_dim), dim, kind)

    def forward(self, clip: Tensor) -> Tensor:
        features = self.encoder(clip)
        # The encoder may compute in bfloat16, which is too coarse to compare cosines.
        precise = features.float() if torch.is_autocast_enabled(features.device.type) else features
        with compute_exactly(features.device.type):
            return F.normalize(self.head(precise), dim=1)
