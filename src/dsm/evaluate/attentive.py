"""The attentive probe: a learned query attends to all tokens of frozen features before a linear classifier.

Token models have been compared this way since V-JEPA (Bardes et al. 2024, section 4), because the mean of
the tokens may lose what single tokens encode. It trains on cached tokens, from ``dsm extract --tokens``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from dsm.errors import UserError
from dsm.evaluate.features import Features, same_encoder
from dsm.evaluate.probe import need_classes

EPOCHS = 60
BATCH = 32
RATE, DECAY = 1e-3, 0.05
"""Settings of AdamW. The rate falls to 0 along a cosine."""


class Tokens(nn.Module):
    """The tokens of an encoder: clips (B, C, T, H, W) -> (B, K D), the K tokens concatenated.

    If it has more than K, neighbouring ones are averaged.
    """

    def __init__(self, encoder: nn.Module, count: int) -> None:
        super().__init__()
        self.encoder, self.count = encoder, count

    def forward(self, clip: Tensor) -> Tensor:
        tokens = tokens_of(self.encoder, clip)
        if tokens.shape[1] < self.count:
            raise UserError(
                f"--tokens {self.count}: the encoder has only {tokens.shape[1]} tokens for such a clip."
            )
        return F.adaptive_avg_pool1d(tokens.float().transpose(1, 2), self.count).transpose(1, 2).flatten(1)


def tokens_of(encoder: nn.Module, clip: Tensor) -> Tensor:
    """The tokens (B, N, D) of a transformer's last layer, or the locations of another encoder's feature map.

    Raises:
        UserError: it has neither.
    """
    for name in ("tokens", "feature_map"):
        method = getattr(encoder, name, None)
        if method is None:
            continue
        found: Tensor = method(clip)
        return found if found.ndim == 3 else found.flatten(2).transpose(1, 2)
    raise UserError("--tokens: this encoder has neither tokens nor a feature map; remove the flag.")


def in_tokens(features: Features) -> NDArray[np.float32] | None:
    """The rows of a file of tokens as (n, K, D); None if it holds features.

    Raises:
        UserError: the file's number of tokens does not fit its rows.
    """
    count = features.meta.get("tokens", 0)
    if not count:
        return None
    if not isinstance(count, int) or isinstance(count, bool) or count < 1 or features.dim % count:
        raise UserError(
            f"the features have {features.dim} numbers per row, which cannot be {count!r:.40} tokens."
        )
    return np.asarray(features.features).reshape(len(features), count, -1)


class AttentiveProbe(nn.Module):
    """Tokens (B, K, D) -> logits (B, classes): one query attends, then a norm and a linear layer."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.heads = next(heads for heads in (8, 4, 2, 1) if width % heads == 0)
        self.query = nn.Parameter(0.02 * torch.randn(1, self.heads, 1, width // self.heads))
        self.key, self.value = nn.Linear(width, width), nn.Linear(width, width)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        b, k, _ = tokens.shape
        key, value = (
            part(tokens).reshape(b, k, self.heads, -1).transpose(1, 2) for part in (self.key, self.value)
        )
        attended = F.scaled_dot_product_attention(self.query.expand(b, -1, -1, -1), key, value)
        logits: Tensor = self.head(self.norm(attended.flatten(1)))
        return logits


def attentive_probe(train: Features, tests: Sequence[Features]) -> list[NDArray[np.bool_]]:
    """Train an attentive probe on files of tokens, and test it.

    Returns:
        For each test, (n,): whether each video's label was predicted.

    Raises:
        UserError: a file does not hold tokens, dimensions or encoders differ, or the videos to train on have
            fewer than two labels, or no label.
    """
    need_classes(train)
    inside = in_tokens(train)
    if inside is None:
        raise UserError("an attentive probe needs tokens: `dsm extract --tokens 64` writes them.")
    for test in tests:
        same_encoder(train, test, ("train", "test"))
    known, labels = np.unique(train.labels, return_inverse=True)
    axes = (0, 1)
    mean, std = inside.mean(axes), inside.std(axes) + 1e-6
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AttentiveProbe(inside.shape[2], len(known))
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    steps = EPOCHS * math.ceil(len(inside) / BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    targets = torch.from_numpy(labels)
    for _ in range(EPOCHS):
        for rows in torch.split(torch.randperm(len(inside), generator=generator), BATCH):
            batch = torch.from_numpy((inside[rows.numpy()] - mean) / std)
            optimizer.zero_grad()
            loss: Tensor = F.cross_entropy(model(batch), targets[rows], label_smoothing=0.1)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    model.eval()
    found = []
    for test in tests:
        tokens = in_tokens(test)
        if tokens is None or tokens.shape[1] != inside.shape[1]:
            raise UserError("the test features must have as many tokens as the training features.")
        with torch.inference_mode():
            parts = [
                model(torch.from_numpy((tokens[first : first + 256] - mean) / std)).argmax(1)
                for first in range(0, len(tokens), 256)
            ]
        found.append(known[torch.cat(parts).numpy()] == test.labels)
    return found


def means_of_tokens(features: Features) -> Features:
    """Features with the mean of their tokens as rows; other features are unchanged."""
    tokens = in_tokens(features)
    return features if tokens is None else replace(features, features=tokens.mean(1))
