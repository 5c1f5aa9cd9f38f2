"""ReLU in bfloat16 on CPU, where PyTorch's own takes longer than BatchNorm: the same numbers, sooner.

``python benchmarks/relu.py`` measures both.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def relu(x: Tensor, inplace: bool = False) -> Tensor:
    """``F.relu`` of a bfloat16 tensor of any shape."""
    if not x.requires_grad or not torch.is_grad_enabled():
        return _relu(x, inplace)
    found: Tensor = _Relu.apply(x, inplace)  # type: ignore[no-untyped-call]
    return found


def _relu(x: Tensor, inplace: bool) -> Tensor:
    """Of its sixteen bits, read as a whole number: nothing is widened and rounded there and back.

    Numbers below zero have the highest bit and are negative as whole numbers too; those above -128 are the
    NaNs among them, which must not be lost: the guard against them looks for them later.
    """
    bits = x.view(torch.int16)
    if inplace:
        torch.threshold_(bits, -128, 0)
        return x
    return torch.threshold(bits, -128, 0).view(torch.bfloat16)


class _Relu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, inplace: bool) -> Tensor:
        found = _relu(x, inplace)
        if inplace:
            ctx.mark_dirty(x)
        ctx.save_for_backward(found)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (found,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(gradients[0], found, 0), None
