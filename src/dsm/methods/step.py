"""What every method gives back, and what the engine asks of it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor

from dsm.models.heads import Classifier, Embedder
from dsm.views import View


class StepOutput(NamedTuple):
    """The outcome of one step.

    Embeddings are unit vectors, without gradient, of this process's clips; without positives there are none.
    """

    loss: Tensor
    """A scalar to be minimised."""
    anchor: Tensor | None = None
    """(B, D)."""
    positive: Tensor | None = None
    """(B, D)."""
    negatives: Tensor | None = None
    """(B, N, D): the clip's own, with the motion broken."""
    keys: Tensor | None = None
    """(P B, D), of all P processes, to be pushed on a queue."""
    metrics: dict[str, Tensor] | None = None
    """Scalars to be logged, without gradient."""


class Method(Protocol):
    """A training method: an ``nn.Module`` with these attributes besides."""

    views: tuple[View, ...]
    """What it wants to see of each video."""
    query: Embedder | Classifier
    """The encoder it trains with its head; checkpoints are read by this name."""

    def __call__(self, views: dict[str, Tensor]) -> StepOutput:
        """Views by name, each (B, C, T, H, W), to the loss; ``label`` (B,) holds classes, -1 unknown."""
        ...

    def after_step(self, keys: Tensor | None, progress: float) -> None:
        """Update queue and momentum encoder, once the optimiser has made its step.

        Args:
            keys: those of the step's outputs, all its parts put together, or None where it gives none.
            progress: from 0 to 1 over training.
        """
        ...
