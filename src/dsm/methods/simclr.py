"""``simclr``: two augmented versions of the same frames against the rest of the batch (Chen et al. 2020).

There is one encoder, no queue and no momentum encoder, so the batch must be large.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dsm.methods.gather import gather, own_rows
from dsm.methods.losses import nt_xent
from dsm.methods.settings import SimclrConfig
from dsm.methods.step import StepOutput
from dsm.models.heads import Embedder
from dsm.views import View


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
