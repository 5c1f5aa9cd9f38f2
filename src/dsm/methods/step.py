"""The interface between methods and the trainer: a step's output, and what a method provides."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor

from dsm.models.heads import Classifier, Embedder
from dsm.views import View


class StepOutput(NamedTuple):
    """The result of one step.

    Embeddings are unit vectors, without gradient, of this process's clips; None without positives.
    """

    loss: Tensor
    """A scalar to be minimised."""
    anchor: Tensor | None = None
    """(B, D)."""
    positive: Tensor | None = None
    """(B, D)."""
    negatives: Tensor | None = None
    """(B, N, D): versions of the clip with broken motion."""
    keys: Tensor | None = None
    """(P B, D), of all P processes, to push on a queue."""
    metrics: dict[str, Tensor] | None = None
    """Scalars to log, without gradient."""


class Method(Protocol):
    """A training method: an ``nn.Module`` with these additional attributes."""

    views: tuple[View, ...]
    """The views that it needs of each video."""
    query: Embedder | Classifier
    """The encoder and its head; loading a checkpoint relies on this name."""

    def __call__(self, views: dict[str, Tensor]) -> StepOutput:
        """Compute the loss from views by name, each (B, C, T, H, W); ``label`` (B,) is the class, or -1."""
        ...

    def after_step(self, keys: Tensor | None, progress: float) -> None:
        """Update queue and momentum encoder after the optimiser's step.

        Args:
            keys: the keys of the step's outputs, all parts joined, or None if there are none.
            progress: from 0 to 1 over training.
        """
        ...
