"""The pace of a curriculum: how hard the scenes are broken depends on what the encoder can already do.

If all scenes are exchanged before an encoder sees motion, nothing is left to learn from, and it collapses. So
the level, from 0 to 1, rises only as long as the encoder finds positives among all clips of the batch, and
falls when it does not. At level 0, clips keep various shares of their scenes; at 1, none
(:meth:`dsm.disturb.spatial_mix.SpatialMix.mix`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dsm.methods.gather import gather, own_rows
from dsm.models.precision import compute_exactly

TIMES_CHANCE = 5.0
"""The level rises while positives are found this many times as often as by chance."""
RISE, FALL = 2.0, 3.0
"""How fast the level rises and falls: at best it is at 1 after half of the ramp, so that an able encoder
meets scenes that are exchanged as far as the ramp allows."""
MEMORY = 0.9
"""Share of the running rate of positives found that is kept at each step."""


class Pace(nn.Module):
    """Its state is in buffers, so that a resumed run continues at the same level.

    Args:
        ramp: the share of the training over which scenes are exchanged more and more.
    """

    level: Tensor
    """A scalar in [0, 1]."""
    found: Tensor
    """The running rate of positives found, in times of chance."""
    progress: Tensor
    """Of the training, from 0 to 1, at the last step."""

    def __init__(self, ramp: float) -> None:
        super().__init__()
        self.ramp = max(ramp, 1e-6)
        for name, value in (("level", 0.0), ("found", 2 * TIMES_CHANCE), ("progress", 0.0)):
            self.register_buffer(name, torch.tensor(value))
        self._rates: list[Tensor] = []

    @torch.no_grad()
    def see(self, anchor: Tensor, all_keys: Tensor) -> None:
        """Count how many anchors (B, D) are nearest to their own positive among the keys (P B, D)."""
        with compute_exactly(anchor.device.type):
            nearest = (anchor.float() @ all_keys.float().T).argmax(1)
        own = own_rows(all_keys)
        right = nearest == torch.arange(own.start, own.stop, device=anchor.device)
        self._rates.append(gather(right.float()).mean() * len(all_keys))

    def after_step(self, progress: float) -> None:
        """Move the level after the optimiser's step; ``progress`` is from 0 to 1 over the training."""
        if self._rates:
            self.found.lerp_(torch.stack(self._rates).mean().to(self.found), 1 - MEMORY)
            self._rates = []
        passed = (progress - self.progress).clamp(min=0) / self.ramp
        self.level.add_(torch.where(self.found > TIMES_CHANCE, RISE * passed, -FALL * passed)).clamp_(0, 1)
        self.progress.fill_(progress)
