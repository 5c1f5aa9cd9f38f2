"""Optimisers and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from dsm.errors import UserError


@dataclass(frozen=True)
class OptimConfig:
    """How weights are updated; the paper's long recipe is sgd, lr 0.003, weight decay 1e-4, step."""

    name: Literal["sgd", "adamw"] = "adamw"
    lr: float = 1e-3
    """Peak learning rate."""
    momentum: float = 0.9
    """Momentum of sgd."""
    weight_decay: float = 0.05
    schedule: Literal["step", "cosine"] = "cosine"
    """`cosine` falls to 0; `step` multiplies by `decay` at each milestone."""
    milestones: tuple[float, ...] = (0.5, 2 / 3, 5 / 6)
    """Where `step` decays, as shares of the training (the paper: epochs 120, 160, 200 of 240)."""
    decay: float = 0.1
    warmup: int = 20
    """Steps over which the learning rate rises to its peak."""

    def __post_init__(self) -> None:
        if self.lr <= 0 or min(self.weight_decay, self.momentum, self.decay, self.warmup) < 0:
            raise UserError("optim: lr must be above 0; the other numbers must not be below 0.")


def build_optimizer(config: OptimConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if config.name == "sgd":
        return torch.optim.SGD(
            trained, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
    return torch.optim.AdamW(trained, lr=config.lr, weight_decay=config.weight_decay)


def learning_rate(config: OptimConfig, step: int, total: int) -> float:
    """The rate of step ``step`` (from 0) of ``total``: a pure function, so resuming needs no state."""
    warm = min((step + 1) / config.warmup, 1.0) if config.warmup else 1.0
    progress = step / total
    if config.schedule == "cosine":
        return config.lr * warm * 0.5 * (1 + math.cos(math.pi * progress))
    passed = sum(progress >= milestone for milestone in config.milestones)
    return float(config.lr * warm * config.decay**passed)
