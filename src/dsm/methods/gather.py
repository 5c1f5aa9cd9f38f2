"""Gathers embeddings from all processes, so that a batch spread over them counts as one batch.

All processes must call these functions equally often, with tensors of the same shape. With one process, or
without ``torch.distributed``, the functions return their input.
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
    """The position of this process's rows in the output of :func:`gather`."""
    count = len(gathered) // processes()
    return slice(rank() * count, (rank() + 1) * count)


def rows_of_others(gathered: Tensor) -> Tensor | None:
    """The output of :func:`gather` without this process's own rows; None if there is only one process."""
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
        dist.all_reduce(gradient)  # the loss of every process depends on these rows
        return gradient[own_rows(gradient)]
