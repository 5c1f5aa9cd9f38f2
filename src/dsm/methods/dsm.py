"""``dsm``: decoupling of scene and motion (Wang et al. 2021), in its InfoNCE form.

Anchor and positive show the same frames in scenes that are broken (SLD), each in its own way; in the paper,
only the anchor's scene is broken. The loss pulls the two together and pushes them away from other videos and
from the *same* video with broken motion (TLD), so only motion distinguishes positive from negative. Momentum
encoder, queue and loss are those of ``moco``.
"""

from __future__ import annotations

from torch import nn

from dsm.methods.moco import Moco
from dsm.methods.settings import DsmConfig
from dsm.views import View

__all__ = ["Dsm", "DsmConfig"]


class Dsm(Moco):
    """See the module docstring."""

    def __init__(self, encoder: nn.Module, config: DsmConfig) -> None:
        anchor = View("anchor", spatial=config.sld if config.sld_on != "positive" else None)
        positive = View("positive", spatial=config.sld if config.sld_on != "anchor" else None)
        super().__init__(encoder, config, anchor, positive)
