"""Optimisers and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dsm.train.config import OptimConfig


class Lars(torch.optim.Optimizer):
    """SGD with momentum that scales each layer's step by the layer's norm (You et al. 2017, algorithm 1).

    Biases and norm weights take plain SGD steps and do not decay, as in SimCLR and BYOL.

    Args:
        trust: length of a step at learning rate 1, as a share of the layer's norm.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
    ) -> None:
        super().__init__(
            parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        if parameter.ndim > 1:
            decay = group["weight_decay"]
            size, slope = parameter.norm(), gradient.norm()
            ratio = group["trust"] * size / (slope + decay * size)
            # A layer that is all zeros, or has no gradient, uses the plain rate.
            ratio = torch.where((size > 0) & (slope > 0), ratio, torch.ones_like(ratio))
            gradient = (gradient + decay * parameter) * ratio
        state = self.state[parameter]
        velocity = state.get("momentum_buffer")
        if velocity is None:
            velocity = state["momentum_buffer"] = torch.zeros_like(parameter)
        velocity.mul_(group["momentum"]).add_(gradient, alpha=group["lr"])
        parameter.sub_(velocity)


def build_optimizer(
    config: OptimConfig, method: nn.Module, saved: dict[str, Any] | None = None
) -> torch.optim.Optimizer:
    """An optimiser of the trainable parameters, each at ``method.rate(name)`` of the rate if that exists.

    AdamW decays weights with two or more dimensions, but not norms and biases: pulling those to 0 regularises
    nothing (Loshchilov & Hutter leave it open; timm, MAE and V-JEPA do the same).

    Args:
        saved: the optimiser state of a resumed run; see :func:`decays_all`.
    """
    rate: Callable[[str], float] = getattr(method, "rate", lambda name: 1.0)
    decays = saved is not None and decays_all(config, saved)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in method.named_parameters():
        if parameter.requires_grad:
            spared = config.name == "adamw" and parameter.ndim < 2 and not decays
            decay = 0.0 if spared else config.weight_decay
            groups.setdefault((rate(name), decay), []).append(parameter)
    trained: Any = [
        {"params": group, "scale": scale, "weight_decay": decay} for (scale, decay), group in groups.items()
    ]
    if config.name == "lars":
        return Lars(trained, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)
    if config.name == "sgd":
        return torch.optim.SGD(
            trained, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
    return torch.optim.AdamW(trained, lr=config.lr, weight_decay=config.weight_decay)


def decays_all(config: OptimConfig, saved: dict[str, Any]) -> bool:
    """Whether an optimiser state is from an AdamW that also decays norms and biases, as dsm once did.

    A run that began so continues so; otherwise it would become a different run.
    """
    groups = saved.get("param_groups", [])
    return config.name == "adamw" and all(group.get("weight_decay") for group in groups)


def learning_rate(config: OptimConfig, step: int, total: int, batch_size: int) -> float:
    """The rate of step ``step`` (from 0) of ``total``: a pure function, so resuming needs no state."""
    lr = config.lr * batch_size / config.lr_batch if config.lr_batch else config.lr
    warm = min((step + 1) / config.warmup, 1.0) if config.warmup else 1.0
    progress = step / total
    if config.schedule == "cosine":
        return lr * warm * 0.5 * (1 + math.cos(math.pi * progress))
    passed = sum(progress >= milestone for milestone in config.milestones)
    return float(lr * warm * config.decay**passed)
