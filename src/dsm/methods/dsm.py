"""``dsm``: decouple the scene and the motion (Wang et al. 2021), in its InfoNCE form.

The anchor's scene is broken (SLD); it is pulled towards the same frames with their scene
intact, pushed from other videos, and pushed from the *same* video with its motion broken
(TLD). What is left to tell positive from negative is the motion. Momentum encoder, queue and loss are
those of ``moco``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from dsm.disturb.spatial_mix import SpatialMix
from dsm.disturb.temporal import TemporalMix
from dsm.methods.moco import Moco, MocoConfig
from dsm.views import View


@dataclass(frozen=True)
class DsmConfig(MocoConfig):
    """Settings of the method `dsm`: those of `moco`, and the disturbances."""

    sld: SpatialMix = field(default_factory=SpatialMix)
    """How the scene is broken: the weight of each kind. `--dsm.sld.strength 0` leaves it whole."""
    sld_on: Literal["anchor", "positive", "both"] = "anchor"
    """Whose scene is broken (the paper's code: the anchor's)."""
    negatives: int = 1
    """Motion-broken negatives a clip; 0 leaves TLD out."""


# No shift and no speed among TLD's kinds: where motions are periodic and keep no fixed pace, another window
# of one, or another pace, is the same motion still, and no negative.
PLUS = DsmConfig(sld=SpatialMix(strength=1.25), tld=TemporalMix(shift=0, speed=0), negatives=2)
"""What proved better than the paper's own disturbances where it was measured (docs/rankings.md)."""


class Dsm(Moco):
    """See the module's text."""

    def __init__(self, encoder: nn.Module, config: DsmConfig) -> None:
        anchor = View("anchor", spatial=config.sld if config.sld_on != "positive" else None)
        positive = View("positive", spatial=config.sld if config.sld_on != "anchor" else None)
        super().__init__(encoder, config, anchor, positive)
