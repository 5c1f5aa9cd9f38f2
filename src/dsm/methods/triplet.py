"""``dsm-triplet``: DSM with a triplet loss instead of InfoNCE (Wang et al. 2021, eq. 4).

One encoder encodes anchor, positive and negative. The intra-video triplet takes the clip's own motion-broken
version as negative, the inter-video triplet the next clip of the batch.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from dsm.disturb.spatial_mix import SpatialMix
from dsm.disturb.temporal import TemporalMix
from dsm.errors import UserError
from dsm.methods.gather import gather, own_rows
from dsm.methods.losses import triplet
from dsm.methods.step import StepOutput
from dsm.models.heads import Embedder, HeadKind
from dsm.views import NegativeLook, View, broken_motion


@dataclass(frozen=True)
class DsmTripletConfig:
    """Settings of the method `dsm-triplet`."""

    margin: float = 0.5
    """How much farther than the positive the negative must be."""
    dim: int = 128
    """Dimensions of the embedding in which clips are compared."""
    head: HeadKind = "mlp"
    """The projection head: `linear` as in the paper, or `mlp` with BatchNorm."""
    sld: SpatialMix = field(default_factory=SpatialMix)
    """How the anchor's scene is broken: the weight of each kind."""
    tld: TemporalMix = field(default_factory=TemporalMix)
    """How the negative's motion is broken: the weight of each kind."""
    look: NegativeLook = "anchor"
    """A negative's crop, colours and SLD: `anchor` copies its anchor's, so that only the motion makes the
    negative less like the anchor; `positive` copies the positive's, so that the two differ only in motion;
    `own`, as in the paper's code, draws its own crop and colours, without SLD; `redrawn` draws SLD too."""
    intra: float = 1.0
    """Weight of the triplet with the clip's own motion-broken version."""
    inter: float = 1.0
    """Weight of the triplet with another video's version."""

    def __post_init__(self) -> None:
        if self.margin < 0 or self.dim < 1 or min(self.intra, self.inter) < 0 or not self.intra + self.inter:
            raise UserError(
                "dsm-triplet: margin must be at least 0, dim at least 1, and intra or inter above 0."
            )


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
        anchor, positive, negative = (
            self.query(views[name]) for name in ("anchor", "positive", "negative")
        )  # (B, D) each
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
