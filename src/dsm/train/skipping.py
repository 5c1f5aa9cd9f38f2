"""Steps whose gradient is not finite: skipped, within limits."""

from __future__ import annotations

import math

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from dsm.distributed import greatest

SKIPS = 10
"""Most steps in a row that may be skipped; those that lower a high loss scale do not count."""
LOW_SCALE = 1.0
"""Down to this scale, fp16 skips steps in search of its loss scale, say 12 in a row. At lower
scales the gradient itself is too large."""


class Skipping:
    """Decides which steps are skipped, and counts them."""

    def __init__(self, method: nn.Module, fabric: Fabric, *, allowed: bool) -> None:
        """``allowed``: whether to skip steps for any reason, not only to lower the loss scale of fp16."""
        self._method, self._fabric, self._allowed = method, fabric, allowed
        self.total = 0
        self.in_a_row = 0
        self._before: list[Tensor] = []

    def begin_step(self) -> None:
        """Remember the method's buffers, which a step changes before its gradient is known."""
        if self._allowed:
            self._before = [buffer.clone() for buffer in self._method.buffers()]

    def take(self) -> None:
        """Note that the gradient of this step is finite."""
        self.in_a_row = 0

    def skip(self, loss: float, scaler: torch.amp.GradScaler) -> bool:
        """Put the buffers back, and tell whether the run may go on without this step.

        The gradient is that of all processes together, the loss is this one's. They decide alike: if some
        raised and others went on, these would wait for the former.
        """
        for buffer, value in zip(self._method.buffers() if self._allowed else (), self._before, strict=True):
            buffer.copy_(value)
        (infinite,) = greatest(self._fabric, int(not math.isfinite(loss)))
        scale_too_high = scaler.is_enabled() and not infinite
        self.total += 1
        self.in_a_row += not (scale_too_high and scaler.get_scale() > LOW_SCALE)
        return self.in_a_row < SKIPS and (scale_too_high or self._allowed)
