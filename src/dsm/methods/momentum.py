"""The momentum encoder and the queue of keys (MoCo, He et al. 2020)."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn


class MomentumTwin(nn.Module):
    """A copy of a network that follows it slowly, without gradients.

    It runs in training mode, so its BatchNorms keep their own running statistics. Frozen weights are shared
    with the network rather than copied, which saves memory.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(
            network, {id(one): one for one in network.parameters() if not one.requires_grad}
        )
        self.network.requires_grad_(False)

    @torch.no_grad()
    def forward(self, clip: Tensor) -> Tensor:
        return self.network(clip)

    @torch.no_grad()
    def follow(self, network: nn.Module, momentum: float) -> None:
        """key <- momentum * key + (1 - momentum) * query (He et al. 2020, eq. 2)."""
        for key, query in zip(self.network.parameters(), network.parameters(), strict=True):
            if key is not query:
                key.lerp_(query, 1 - momentum)


def ramped(momentum: float, progress: float) -> float:
    """A momentum that rises to 1 along a cosine as training goes from 0 to 1 (BYOL, Grill et al. 2020)."""
    return 1 - (1 - momentum) * 0.5 * (1 + math.cos(math.pi * progress))


class Queue(nn.Module):
    """A ring of the newest keys; queue, pointer and fill are buffers, so checkpoints contain them."""

    keys: Tensor
    pointer: Tensor
    filled: Tensor

    def __init__(self, length: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("keys", torch.zeros(length, dim))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))

    def current(self) -> Tensor | None:
        """The keys pushed so far, (K, D), or None; unfilled slots are not negatives."""
        return self.keys[: int(self.filled)] if int(self.filled) else None

    @torch.no_grad()
    def push(self, keys: Tensor) -> None:
        """Replace the oldest keys by ``keys`` (B, D); B may exceed the length of the queue."""
        length = len(self.keys)
        if not length:
            return
        keys = keys[-length:].to(self.keys.dtype)
        places = (int(self.pointer) + torch.arange(len(keys), device=self.keys.device)) % length
        # A new tensor: the step's graph still needs the old one.
        self.keys = self.keys.index_copy(0, places, keys)
        self.pointer.fill_((int(self.pointer) + len(keys)) % length)
        self.filled.fill_(min(int(self.filled) + len(keys), length))


def queue_age(method: nn.Module, batch_size: int) -> dict[str, float]:
    """``queue_age``: age in steps of the oldest key in a method's queue; empty if there is none."""
    queue = getattr(method, "queue", None)
    if not isinstance(queue, Queue) or not int(queue.filled):
        return {}
    return {"queue_age": int(queue.filled) / batch_size}
