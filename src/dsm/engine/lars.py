"""LARS: a rate of its own for each layer, for batches of thousands (You et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class Lars(torch.optim.Optimizer):
    """SGD with momentum whose step of a layer goes with the layer's norm (You et al. 2017, algorithm 1).

    Biases and the weights of norms are stepped as by plain SGD and do not decay, as in SimCLR and BYOL.

    Args:
        trust: the share of a layer's norm that one step of rate 1 moves it by.
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
            # A layer that is all zeros, or has no gradient, goes by the plain rate.
            ratio = torch.where((size > 0) & (slope > 0), ratio, torch.ones_like(ratio))
            gradient = (gradient + decay * parameter) * ratio
        state = self.state[parameter]
        velocity = state.get("momentum_buffer")
        if velocity is None:
            velocity = state["momentum_buffer"] = torch.zeros_like(parameter)
        velocity.mul_(group["momentum"]).add_(gradient, alpha=group["lr"])
        parameter.sub_(velocity)
