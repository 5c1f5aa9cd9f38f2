"""The health of a run, watched as it goes: embeddings of the newest clips, and words when they collapse."""

from __future__ import annotations

import torch
from torch import Tensor

from dsm.engine.progress import console
from dsm.methods.health import alignment, effective_rank, margins, spread, uniformity
from dsm.methods.step import StepOutput

WINDOW = 256
"""Embeddings looked at together. A batch may be too small to tell a rank by."""

COLLAPSED_SPREAD = 0.01
"""Below it the mean cosine of two clips is above 0.99."""

COLLAPSED_RANK = 1.5

PATIENCE = 100
"""Steps that embeddings may lie on one spot before it is said: many runs begin with that."""


class Health:
    """Gathers what the steps give; reads it when a line is logged."""

    def __init__(self, step: int = 0) -> None:
        self._newest: list[Tensor] = []
        self._sound = step
        """The last step at which the embeddings were not collapsed."""
        self._told = False

    def add(self, output: StepOutput) -> None:
        """Take up one step's embeddings, and forget the oldest; what is not finite tells nothing."""
        if output.anchor is not None and torch.isfinite(output.anchor).all():
            self._newest.append(output.anchor)
        while len(self._newest) > 1 and sum(map(len, self._newest[1:])) >= WINDOW:
            del self._newest[0]

    def read(self, output: StepOutput, step: int) -> dict[str, float]:
        """The figures of a step, by the names they are logged under; a collapse is announced."""
        tensors = dict(output.metrics or {})
        if output.anchor is None or output.positive is None:
            return {name: float(value) for name, value in tensors.items()}
        tensors |= {
            **margins(output.anchor, output.positive, output.negatives),
            "alignment": alignment(output.anchor, output.positive),
        }
        if not self._newest:
            return {name: float(value) for name, value in tensors.items()}
        newest = torch.cat(self._newest)[-WINDOW:]
        tensors |= {
            "uniformity": uniformity(newest),
            "effective_rank": effective_rank(newest),
            "spread": spread(newest),
        }
        figures = {name: float(value) for name, value in tensors.items()}
        self._announce(figures, len(newest), step)
        return figures

    def _announce(self, figures: dict[str, float], count: int, step: int) -> None:
        rank, width = figures["effective_rank"], figures["spread"]
        if width >= COLLAPSED_SPREAD and (rank >= COLLAPSED_RANK or count < 8):
            if self._told:
                console.print(f"step {step}: the embeddings spread again.", style="green")
            self._sound, self._told = step, False
            return
        if step - self._sound < PATIENCE or self._told:
            return
        self._told = True
        console.print(
            f"step {step}: for {step - self._sound} steps all clips have looked nearly the same to the "
            f"encoder (spread {width:.4f} of at most 1, effective rank {rank:.1f}): it has "
            "collapsed. If this lasts, stop, and try a lower --optim.lr, a longer --optim.warmup, a larger "
            "--data.batch-size or temperature, or a head with BatchNorm (`mlp`).",
            style="bold yellow",
        )
