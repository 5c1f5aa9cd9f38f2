"""``be``: background erasing (Wang et al., Removing the Background by Adding the Background, CVPR 2021).

The positive of a clip is the same clip with one of its own frames mixed into all frames, so the static scene
cannot be what the two have in common. Momentum encoder, queue and loss are those of ``moco``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import cast

from torch import Tensor, nn

from dsm.disturb.spatial_mix import SpatialMix
from dsm.errors import UserError
from dsm.methods.losses import temporal_consistency
from dsm.methods.moco import Moco
from dsm.methods.settings import BeConfig
from dsm.methods.step import StepOutput
from dsm.views import View


class Be(Moco):
    """See the module docstring."""

    config: BeConfig

    def __init__(self, encoder: nn.Module, config: BeConfig) -> None:
        still = replace(SpatialMix.only("background", config.strength), source="clip")
        super().__init__(encoder, config, positive=View("positive", spatial=still))
        if config.consistency and not hasattr(encoder, "feature_map"):
            raise UserError(
                "be: consistency needs a backbone with a feature map, but this one has none; set it to 0."
            )

    def forward(self, views: dict[str, Tensor]) -> StepOutput:
        output = super().forward(views)
        if not self.config.consistency:
            return output
        feature_map = cast("Callable[[Tensor], Tensor]", self.query.encoder.feature_map)
        distance = temporal_consistency(feature_map(views["anchor"]), feature_map(views["positive"].flip(2)))
        return output._replace(loss=output.loss + self.config.consistency * distance)
