"""Optimisers and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from dsm.train.config import OptimConfig


def build_optimizer(
    config: OptimConfig,
    method: nn.Module,
    saved: dict[str, Any] | None = None,
    device_type: str = "cpu",
    *,
    fused: bool = True,
) -> torch.optim.Optimizer:
    """An optimiser of the trainable parameters; ``method.rate(name)``, if it exists, scales the rate of each.

    AdamW decays weights with two or more dimensions, but not norms and biases, where decay does not
    regularise (Loshchilov & Hutter leave it open; timm, MAE and V-JEPA do the same).

    Args:
        saved: the optimiser state of a resumed run; see :func:`decays_all`.
        device_type: where the parameters will be.
        fused: update a parameter by one kernel, where that is faster (AdamW everywhere, SGD on ``cuda``). It
            rounds otherwise than one operation after the other: a run that began without it goes on without.
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
    faster = device_type == "cuda" or (device_type == "cpu" and config.name == "adamw")
    began_so = not saved or any(one.get("fused") for one in saved["param_groups"])
    one_kernel = True if fused and faster and began_so else None
    shared: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay, "fused": one_kernel}
    if config.name == "sgd":
        return torch.optim.SGD(trained, momentum=config.momentum, **shared)
    return torch.optim.AdamW(trained, **shared)


def decays_all(config: OptimConfig, saved: dict[str, Any]) -> bool:
    """Whether an optimiser state is from an AdamW that also decays norms and biases, as in older versions.

    A run started with that decay must continue with it.
    """
    groups = saved.get("param_groups", [])
    return config.name == "adamw" and all(group.get("weight_decay") for group in groups)


def learning_rate(config: OptimConfig, step: int, total: int, batch_size: int) -> float:
    """The rate at ``step`` (from 0) of ``total``: a pure function, so resuming needs no state."""
    lr = config.lr * batch_size / config.lr_batch if config.lr_batch else config.lr
    warm = min((step + 1) / config.warmup, 1.0) if config.warmup else 1.0
    progress = step / total
    if config.schedule == "cosine":
        return lr * warm * 0.5 * (1 + math.cos(math.pi * progress))
    passed = sum(progress >= milestone for milestone in config.milestones)
    return float(lr * warm * config.decay**passed)
