"""``dsm``: decouple the scene and the motion (Wang et al. 2021), in its InfoNCE form.

The anchor's scene is broken (SLD); it is pulled towards the same frames with their scene
intact, pushed from other videos, and pushed from the *same* video with its motion broken
(TLD). What is left to tell positive from negative is the motion.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from dsm.disturb.spatial_mix import SpatialMix
from dsm.disturb.temporal import TemporalMix
from dsm.disturb.views import NegativeLook, View, broken_motion
from dsm.errors import UserError
from dsm.methods.contrast import info_nce
from dsm.methods.moco import MocoConfig
from dsm.methods.momentum import MomentumTwin, Queue, ramped
from dsm.methods.step import StepOutput, margin_metrics
from dsm.models.heads import Embedder


@dataclass(frozen=True)
class DsmConfig(MocoConfig):
    """Settings of the method `dsm`: those of `moco`, and the disturbances."""

    sld: SpatialMix = field(default_factory=SpatialMix)
    """How the anchor's scene is broken: the weight of each kind."""
    tld: TemporalMix = field(default_factory=TemporalMix)
    """How the negatives' motion is broken: the weight of each kind."""
    negatives: int = 1
    """Motion-broken negatives a clip."""
    look: NegativeLook = "anchor"
    """A negative's crop, colours and SLD: its anchor's, so that nothing but the motion sets the two apart;
    or, as in the paper's code, its `own`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.negatives < 1:
            raise UserError(f"negatives must be at least 1, not {self.negatives}.")


class Dsm(nn.Module):
    """See the module's text."""

    def __init__(self, encoder: nn.Module, config: DsmConfig) -> None:
        super().__init__()
        self.config = config
        self.query = Embedder(encoder, config.dim, config.head)
        self.key = MomentumTwin(self.query)
        self.queue = Queue(config.queue, config.dim)
        self.views = (
            View("anchor", spatial=config.sld),
            View("positive"),
            *(
                broken_motion(f"negative{i}", config.sld, config.tld, config.look)
                for i in range(config.negatives)
            ),
        )

    def forward(self, views: dict[str, Tensor]) -> StepOutput:
        c = self.config
        anchor = self.query(views["anchor"])  # (B, D)
        # One batch for all keys: with statistics of their own, BatchNorm would level out what sets the
        # negatives apart. No gradient flows here.
        keys = self.key(torch.cat([views[view.name] for view in self.views[1:]]))  # ((1 + N) B, D)
        positive, *broken = keys.chunk(1 + c.negatives)  # (B, D) each
        negatives = torch.stack(broken, dim=1)  # (B, N, D)
        loss = info_nce(
            anchor,
            positive,
            temperature=c.temperature,
            queue=self.queue.current(),
            in_batch=c.in_batch,
            negatives=negatives,
        )
        return StepOutput(loss, margin_metrics(anchor, positive, negatives), keys=positive)

    def after_step(self, output: StepOutput, progress: float) -> None:
        c = self.config
        self.key.follow(self.query, ramped(c.momentum, progress) if c.ramp else c.momentum)
        if output.keys is not None:
            self.queue.push(output.keys)
