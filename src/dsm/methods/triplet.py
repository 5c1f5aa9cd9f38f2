"""``dsm-triplet``: DSM with a triplet loss instead of InfoNCE (Wang et al. 2021, eq. 4).

One encoder encodes anchor, positive and negative, together in one batch or, with ``joint`` off, one after the
other. The intra-video triplet takes the clip's own motion-broken
version as negative, the inter-video triplet that of the clip before it in the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dsm.methods.gather import gather, own_rows
from dsm.methods.losses import triplet
from dsm.methods.settings import DsmTripletConfig
from dsm.methods.step import StepOutput
from dsm.models.heads import Embedder
from dsm.views import View, broken_motion


class DsmTriplet(nn.Module):
    """See the module docstring."""

    def __init__(self, encoder: nn.Module, config: DsmTripletConfig) -> None:
        super().__init__()
        self.config = config
        self.query = Embedder(encoder, config.dim, config.head)
        anchor = View("anchor", spatial=config.sld)
        self.views = (
            anchor,
            View("positive"),
            broken_motion("negative", anchor, config.tld, config.look),
        )

    def forward(self, views: dict[str, Tensor]) -> StepOutput:
        c = self.config
        clips = [views[view.name] for view in self.views]
        # With separate statistics, BatchNorm would remove what distinguishes the negatives.
        embedded = self.query(torch.cat(clips)).chunk(3) if c.joint else [self.query(one) for one in clips]
        anchor, positive, negative = embedded  # (B, D) each
        negatives = gather(negative)  # (P B, D)
        other = negatives.roll(1, dims=0)[own_rows(negatives)]  # another video's, never the clip's own
        intra = triplet(anchor, positive, negative, c.margin)
        inter = triplet(anchor, positive, other, c.margin)
        return StepOutput(
            c.intra * intra + c.inter * inter,
            anchor.detach(),
            positive.detach(),
            negative.detach()[:, None],
        )

    def after_step(self, keys: Tensor | None, progress: float) -> None:
        """Do nothing: there is neither queue nor momentum encoder."""
