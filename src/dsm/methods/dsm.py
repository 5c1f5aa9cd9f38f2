"""``dsm``: decoupling of scene and motion (Wang et al. 2021), in its InfoNCE form.

Anchor and positive show the same frames in scenes that are broken (SLD), each in its own way; in the paper,
only the anchor's scene is. The loss pulls the two together, pushes them away from other videos, and away from
the *same* video with broken motion (TLD). Only the motion then tells positive from negative. Momentum
encoder, queue and loss are those of ``moco``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from dsm.disturb.spatial_mix import SpatialMix
from dsm.disturb.temporal import TemporalMix
from dsm.methods.moco import Moco, MocoConfig
from dsm.views import NegativeLook, View


@dataclass(frozen=True)
class DsmConfig(MocoConfig):
    """Settings of the method `dsm`: those of `moco`, plus the disturbances.

    The defaults were chosen on several data sets that have nothing in common, each time without the one they
    are reported on (docs/evidence.md). The paper's own settings are in its recipes (`dsm recipes`).
    """

    joint: bool = True
    """Encode all views in one batch with the trained encoder, with gradients, instead of the momentum
    encoder. BatchNorm then sees intact and broken motion together, so small motions are learned sooner."""
    sld: SpatialMix = field(
        default_factory=lambda: SpatialMix(smooth=1, exchange=1, together=True, strength=0.5, ramp=0.5)
    )
    """How the scene is broken: the weight of each kind. By default it is bent a little and, more and more
    over the first half of the training, exchanged for another. `--dsm.sld.strength 0
    --dsm.sld.mixing-strength 0` leaves it intact."""
    sld_on: Literal["anchor", "positive", "both"] = "both"
    """Whose scene is broken (the paper's code: the anchor's)."""
    negatives: int = 1
    """Motion-broken negatives per clip; 0 turns TLD off."""
    # Without shift and speed: a periodic motion without a fixed pace remains the same motion in another
    # window or at another pace, so it is no negative.
    tld: TemporalMix = field(default_factory=lambda: TemporalMix(shift=0, speed=0))
    """How the negatives' motion is broken: the weight of each kind."""
    motion_weight: float = 1.0
    """Weight of a separate loss that asks whether the positive is nearer than each motion-broken negative. 0
    puts these negatives into one softmax with the other videos, as the paper does; until the encoder sees
    motion, they then drown out what it learns from other videos."""
    look: NegativeLook = "positive"
    """A negative's crop, colours and SLD: `positive` copies the positive's, so that the two differ only in
    motion; `anchor` copies its anchor's, so that only the motion makes the negative less like the anchor;
    `own`, as in the paper's code, draws its own crop and colours, without SLD; `redrawn` draws SLD too."""


class Dsm(Moco):
    """See the module docstring."""

    def __init__(self, encoder: nn.Module, config: DsmConfig) -> None:
        anchor = View("anchor", spatial=config.sld if config.sld_on != "positive" else None)
        positive = View("positive", spatial=config.sld if config.sld_on != "anchor" else None)
        super().__init__(encoder, config, anchor, positive)
