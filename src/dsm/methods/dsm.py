"""``dsm``: decoupling of scene and motion (Wang et al. 2021), in its InfoNCE form.

The anchor has a broken scene (SLD). The loss pulls it towards the same frames with an intact scene, pushes it
away from other videos, and away from the *same* video with broken motion (TLD). Only the motion then tells
positive from negative. Momentum encoder, queue and loss are those of ``moco``.
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
    """Settings of the method `dsm`: those of `moco`, plus the disturbances."""

    sld: SpatialMix = field(default_factory=SpatialMix)
    """How the scene is broken: the weight of each kind. `--dsm.sld.strength 0` leaves it intact."""
    sld_on: Literal["anchor", "positive", "both"] = "anchor"
    """Whose scene is broken (the paper's code: the anchor's)."""
    negatives: int = 1
    """Motion-broken negatives per clip; 0 turns TLD off."""


# TLD without shift and speed: a periodic motion without a fixed pace remains the same motion in another
# window or at another pace, so it is no negative.
PLUS = DsmConfig(sld=SpatialMix(strength=1.25), tld=TemporalMix(shift=0, speed=0), negatives=2)
"""Settings that measured better than the paper's own disturbances (docs/rankings.md)."""


class Dsm(Moco):
    """See the module docstring."""

    def __init__(self, encoder: nn.Module, config: DsmConfig) -> None:
        anchor = View("anchor", spatial=config.sld if config.sld_on != "positive" else None)
        positive = View("positive", spatial=config.sld if config.sld_on != "anchor" else None)
        super().__init__(encoder, config, anchor, positive)
