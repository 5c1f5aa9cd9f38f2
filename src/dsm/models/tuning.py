"""Adapting an encoder without training all of it: ``head``, ``last:K`` and ``lora``.

Frozen parts have no gradients, and layers before the first trained one are not in the graph.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsm.errors import UserError

SCALE = 2.0
"""Scale of the low-rank update: alpha / rank in Hu et al. 2022, with alpha twice the rank."""


class LowRank(nn.Module):
    """A frozen linear layer plus a trained product of two narrow ones (LoRA, Hu et al. 2022).

    y = W x + b + scale * U D x, with D (rank, inputs) and U (outputs, rank), which starts at 0.
    """

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__()
        self.linear = linear.requires_grad_(False)
        like = linear.weight
        self.down = nn.Parameter(torch.empty(rank, linear.in_features, device=like.device, dtype=like.dtype))
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank, device=like.device, dtype=like.dtype))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        added = F.linear(F.linear(x, self.down), self.up)
        return cast("Tensor", self.linear(x)) + SCALE * added

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """A single linear layer that computes the same."""
        linear = copy.deepcopy(self.linear)
        linear.weight += SCALE * (self.up @ self.down)
        return linear


class Mapped(nn.Module):
    """A frozen encoder and a trained linear map of its features, which starts as the identity."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.feature_dim = cast("int", encoder.feature_dim)
        self.map = nn.Linear(self.feature_dim, self.feature_dim)
        nn.init.eye_(self.map.weight)
        nn.init.zeros_(self.map.bias)

    def forward(self, clip: Tensor) -> Tensor:
        return cast("Tensor", self.map(self.encoder(clip)))


def tuned(encoder: nn.Module, how: str, rank: int = 8) -> tuple[nn.Module, dict[str, Any]]:
    """Prepare an encoder, in place, so that only a part of it is trained.

    Args:
        how: ``all``; ``head``, a linear map after the encoder; ``last:K``, its last K blocks or stages and
            what follows them; or ``lora``, low-rank additions to the linear layers of its blocks.
        rank: rank of ``lora``.

    Returns:
        The encoder to train, and what checkpoints record about it: empty, or ``tuned``.

    Raises:
        UserError: the encoder has no such parts.
    """
    kind, _, count = how.partition(":")
    if kind == "all":
        return encoder, {}
    if kind == "head":
        mapped = encoder if isinstance(encoder, Mapped) else Mapped(encoder)
        mapped.encoder.requires_grad_(False)
        return mapped, {"tuned": {"kind": "head"}}
    if kind == "last":
        _free_last(encoder, int(count))
        return encoder, {}
    encoder.requires_grad_(False)
    return add_low_rank(encoder, rank), {"tuned": {"kind": "lora", "rank": rank}}


def rows_of(encoder: nn.Module) -> list[nn.Module]:
    """The blocks of a transformer, or the stages with weights of another encoder; empty if it has neither."""
    while isinstance(inner := getattr(encoder, "encoder", None), nn.Module):
        encoder = inner
    rows = getattr(encoder, "blocks", None)
    if rows is None:
        rows = getattr(encoder, "stages", nn.Sequential()).children()
    return [one for one in rows if any(True for _ in one.parameters())]


def _free_last(encoder: nn.Module, count: int) -> None:
    rows = rows_of(encoder)
    if not rows:
        raise UserError("--tune last: this encoder has neither blocks nor stages; use head or all.")
    if count > len(rows):
        raise UserError(f"--tune last:{count}: this encoder has only {len(rows)} blocks or stages.")
    trained = [one for one in encoder.parameters() if one.requires_grad]
    first = next(iter(rows[-count].parameters()))
    place = next((i for i, one in enumerate(trained) if one is first), 0)
    for parameter in trained[:place]:
        parameter.requires_grad_(False)


def add_low_rank(encoder: nn.Module, rank: int) -> nn.Module:
    """Replace the linear layers of a transformer's blocks with :class:`LowRank` ones, in place.

    Raises:
        UserError: it has no blocks with linear layers.
    """
    found, rows = 0, rows_of(encoder)
    for block in rows:
        for parent in list(block.modules()):
            for name, child in list(parent.named_children()):
                if type(child) is nn.Linear and not isinstance(parent, LowRank):
                    setattr(parent, name, LowRank(child, rank))
                    found += 1
    if not found:
        others = "head, last:K or all" if rows else "head or all"
        raise UserError(f"--tune lora is for transformers; use {others} for this encoder.")
    return encoder


def merge(encoder: nn.Module) -> nn.Module:
    """Merge the low-rank updates into their linear layers, in place."""
    for parent in list(encoder.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LowRank):
                setattr(parent, name, child.merged())
    return encoder


def retuned(encoder: nn.Module, about: Mapping[str, Any]) -> nn.Module:
    """An encoder with the parts that a checkpoint records in ``tuned``, to be filled.

    Raises:
        ValueError: the record is invalid.
    """
    if about["kind"] == "head":
        return Mapped(encoder)
    return add_low_rank(encoder, about["rank"])


def settle(encoder: nn.Module, twin: nn.Module | None = None) -> None:
    """Keep the frozen modules of an encoder in evaluation mode: their norms must not learn statistics.

    Args:
        twin: a copy of it, whose modules are put into evaluation mode instead of its own.
    """
    copies = dict((twin or encoder).named_modules())
    for name, module in encoder.named_modules():
        own = list(module.parameters())
        if own and not any(one.requires_grad for one in own):
            copies[name].eval()
