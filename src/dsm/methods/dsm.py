"""``dsm``: decoupling of scene and motion (Wang et al. 2021), in its InfoNCE form.

The anchor has a broken scene (SLD). The loss pulls it towards the same frames with an intact scene, pushes it
away from other videos, and away from the *same* video with broken motion (TLD). Only the motion then tells
positive from negative. Momentum encoder, queue and loss are those of ``moco``.
"""

from __future__ import annotations

from torch import nn

from dsm.methods.moco import Moco
from dsm.methods.settings import PLUS, DsmConfig
from dsm.views import View

__all__ = ["PLUS", "Dsm", "DsmConfig"]


class Dsm(Moco):
    """See the module docstring."""

    def __init__(self, encoder: nn.Module, config: DsmConfig) -> None:
        anchor = View("anchor", spatial=config.sld if config.sld_on != "positive" else None)
        positive = View("positive", spatial=config.sld if config.sld_on != "anchor" else None)
        super().__init__(encoder, config, anchor, positive)
