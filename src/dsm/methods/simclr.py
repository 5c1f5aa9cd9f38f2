"""``simclr``: two augmented versions of the same frames against the rest of the batch (Chen et al. 2020).

There is one encoder, no queue and no momentum encoder, so the batch must be large.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dsm.errors import UserError
from dsm.methods.gather import gather, own_rows
from dsm.methods.losses import nt_xent
from dsm.methods.step import StepOutput
from dsm.models.heads import Embedder, HeadKind
from dsm.views import View


@dataclass(frozen=True)
class SimclrConfig:
    """Settings of the method `simclr`."""

    temperature: float = 0.1
    """Temperature of the softmax: cosines are divided by it."""
    dim: int = 128
    """Dimensions of the embedding in which clips are compared."""
    head: HeadKind = "mlp"
    """The projection head: `linear`, or `mlp` with BatchNorm."""

    def __post_init__(self) -> None:
        if self.dim < 1 or self.temperature <= 0:
            raise UserError("simclr: dim must be at least 1, temperature above 0.")


class Simclr(nn.Module):
    """See the module docstring."""

    views = (View("anchor"), View("positive"))

    def __init__(self, encoder: nn.Module, config: SimclrConfig) -> None:
        super().__init__()
        self.config = config
        self.query = Embedder(encoder, config.dim, config.head)

    def forward(self, views: dict[str, Tensor]) -> StepOutput:
        both = self.query(torch.cat([views["anchor"], views["positive"]]))  # one batch for BatchNorm
        anchor, positive = both.chunk(2)  # (B, D) each
        anchors, positives = gather(anchor), gather(positive)  # (P B, D)
        loss = nt_xent(anchors, positives, temperature=self.config.temperature, rows=own_rows(anchors))
        return StepOutput(loss, anchor.detach(), positive.detach())

    def after_step(self, keys: Tensor | None, progress: float) -> None:
        """Do nothing: there is neither queue nor momentum encoder."""
