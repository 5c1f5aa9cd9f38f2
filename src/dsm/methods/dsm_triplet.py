"""``dsm-triplet``: DSM with a triplet loss instead of InfoNCE (Wang et al. 2021, eq. 4).

One encoder sees anchor, positive and negative. The intra-video triplet pushes from the clip's own
motion-broken version, the inter-video one from the next clip of the batch.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from dsm.disturb.spatial_mix import SpatialMix
from dsm.disturb.temporal import TemporalMix
from dsm.disturb.views import NegativeLook, View, broken_motion
from dsm.methods.contrast import triplet
from dsm.methods.step import StepOutput, margin_metrics
from dsm.models.heads import Embedder, HeadKind


@dataclass(frozen=True)
class DsmTripletConfig:
    """Settings of the method `dsm-triplet`."""

    margin: float = 0.5
    """By how much the negative must be farther than the positive."""
    dim: int = 128
    """Dimensions of the space in which clips are compared."""
    head: HeadKind = "mlp"
    """The projection head: `linear` as in the paper, or `mlp` with BatchNorm."""
    sld: SpatialMix = field(default_factory=SpatialMix)
    """How the anchor's scene is broken: the weight of each kind."""
    tld: TemporalMix = field(default_factory=TemporalMix)
    """How the negative's motion is broken: the weight of each kind."""
    look: NegativeLook = "anchor"
    """A negative's crop, colours and SLD: its anchor's, so that nothing but the motion sets the two apart;
    or, as in the paper's code, its `own`."""


class DsmTriplet(nn.Module):
    """See the module's text."""

    def __init__(self, encoder: nn.Module, config: DsmTripletConfig) -> None:
        super().__init__()
        self.config = config
        self.query = Embedder(encoder, config.dim, config.head)
        self.views = (
            View("anchor", spatial=config.sld),
            View("positive"),
            broken_motion("negative", config.sld, config.tld, config.look),
        )

    def forward(self, views: dict[str, Tensor]) -> StepOutput:
        anchor, positive, negative = (
            self.query(views[name]) for name in ("anchor", "positive", "negative")
        )  # (B, D) each
        other = negative.roll(1, dims=0)  # another video's, never the clip's own
        margin = self.config.margin
        loss = triplet(anchor, positive, negative, margin) + triplet(anchor, positive, other, margin)
        return StepOutput(
            loss, margin_metrics(anchor.detach(), positive.detach(), negative.detach()[:, None])
        )

    def after_step(self, output: StepOutput, progress: float) -> None:
        """Nothing follows: there is neither queue nor momentum encoder."""
