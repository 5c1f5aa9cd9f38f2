"""What every method gives back, and what the engine asks of it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from dsm.disturb.views import View
from dsm.models.heads import Embedder


class StepOutput(NamedTuple):
    """The outcome of one step."""

    loss: Tensor
    """A scalar to be minimised."""
    metrics: dict[str, Tensor]
    """Scalars to be logged, without gradient."""
    keys: Tensor | None = None
    """(B, D), kept for :meth:`Method.after_step`."""


class Method(Protocol):
    """A training method: an ``nn.Module`` with these attributes besides."""

    views: tuple[View, ...]
    """What it wants to see of each video."""
    query: Embedder
    """The encoder it trains with its projection head; checkpoints are read by this name."""

    def __call__(self, views: dict[str, Tensor]) -> StepOutput:
        """Views by name, each (B, C, T, H, W), to the loss."""
        ...

    def after_step(self, output: StepOutput, progress: float) -> None:
        """Update queue and momentum encoder; ``progress`` runs from 0 to 1 over training."""
        ...


@torch.no_grad()
def margin_metrics(anchor: Tensor, positive: Tensor, negatives: Tensor | None) -> dict[str, Tensor]:
    """How the three lie: mean cosines, and how often the positive is nearer than a negative.

    Args:
        anchor, positive: (B, D) unit vectors. negatives: (B, N, D) or None.

    Returns:
        ``positive`` and, with negatives, ``negative`` (cosines in [-1, 1]) and ``motion``, the
        share of pairs in [0, 1]: at 0.5 the encoder does not see motion at all.
    """
    near = (anchor * positive).sum(1)
    if negatives is None:
        return {"positive": near.mean()}
    far = torch.einsum("bd,bnd->bn", anchor, negatives)
    return {
        "positive": near.mean(),
        "negative": far.mean(),
        "motion": (near[:, None] > far).float().mean(),
    }
