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
        both = zip(self.network.parameters(), network.parameters(), strict=True)
        pairs = [(key, query) for key, query in both if key is not query]
        if pairs:
            keys, queries = (list(one) for one in zip(*pairs, strict=True))
            torch._foreach_lerp_(keys, queries, 1 - momentum)  # a GPU does all in one go


def ramped(momentum: float, progress: float) -> float:
    """A momentum that rises to 1 along a cosine as training goes from 0 to 1 (BYOL, Grill et al. 2020)."""
    return 1 - (1 - momentum) * 0.5 * (1 + math.cos(math.pi * progress))


class Queue(nn.Module):
    """A ring of the newest keys; queue, pointer and fill are buffers, so checkpoints contain them.

    Pointer and fill are also kept as numbers: to read them from a GPU, the CPU would wait for it each step.
    """

    keys: Tensor
    pointer: Tensor
    filled: Tensor

    def __init__(self, length: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("keys", torch.zeros(length, dim))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))
        self._next, self.count = 0, 0
        self.register_load_state_dict_post_hook(Queue._read)  # type: ignore[no-untyped-call]

    def _read(self, _: object) -> None:
        self._next, self.count = int(self.pointer), int(self.filled)

    def current(self) -> Tensor | None:
        """The keys pushed so far, (K, D), or None; unfilled slots are not negatives."""
        return self.keys[: self.count] if self.count else None

    @torch.no_grad()
    def push(self, keys: Tensor) -> None:
        """Replace the oldest keys by ``keys`` (B, D); B may exceed the length of the queue."""
        length = len(self.keys)
        if not length:
            return
        keys = keys[-length:].to(self.keys.dtype)
        places = (self._next + torch.arange(len(keys), device=self.keys.device)) % length
        # A new tensor: the step's graph still needs the old one.
        self.keys = self.keys.index_copy(0, places, keys)
        self._next = (self._next + len(keys)) % length
        self.count = min(self.count + len(keys), length)
        self.pointer.fill_(self._next)
        self.filled.fill_(self.count)


def queue_age(method: nn.Module, batch_size: int) -> dict[str, float]:
    """``queue_age``: age in steps of the oldest key in a method's queue; empty if there is none."""
    queue = getattr(method, "queue", None)
    if not isinstance(queue, Queue) or not queue.count:
        return {}
    return {"queue_age": queue.count / batch_size}
