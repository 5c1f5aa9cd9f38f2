"""Embeddings of all processes, where there are several: a batch spread over them is one batch still.

Every process must call these as often as the others, with tensors of the same shape. With one process,
or none of ``torch.distributed``, they give back what they got.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if processes() > 1 else 0


def gather(x: Tensor) -> Tensor:
    """(B, ...) of each process to (P B, ...) in the order of the processes; gradients flow back to each."""
    return x if processes() == 1 else _Gather.apply(x)  # type: ignore[no-untyped-call]


def own_rows(gathered: Tensor) -> slice:
    """Where this process's rows are in what :func:`gather` gave."""
    count = len(gathered) // processes()
    return slice(rank() * count, (rank() + 1) * count)


def rows_of_others(gathered: Tensor) -> Tensor | None:
    """What :func:`gather` gave less this process's own rows; None where there is but one process."""
    if processes() == 1:
        return None
    own = own_rows(gathered)
    return torch.cat([gathered[: own.start], gathered[own.stop :]])


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(processes())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)  # each process's loss has its part in the gradient of these rows
        return gradient[own_rows(gradient)]
