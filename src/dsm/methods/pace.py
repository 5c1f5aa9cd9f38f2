"""The pace of training: scenes are exchanged in full as long as the encoder can follow.

When all scenes are exchanged and an encoder does not see motion yet, little is left to learn from, and it may
collapse: all clips get the same embedding. So the level, which begins at 1, falls while the encoder hardly
finds positives among all clips of the batch, and rises while it does. At level 1, all scenes are exchanged;
below, clips keep various shares of theirs (:meth:`dsm.disturb.spatial_mix.SpatialMix.mix`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dsm.methods.gather import gather, own_rows
from dsm.models.precision import compute_exactly

TIMES_CHANCE = 2.5
"""The level falls while positives are found less than this many times as often as by chance."""
RISE, FALL = 2.0, 6.0
"""How fast the level moves, in lengths of the ramp: from 1 to 0 in a sixth of it, and back in half of it."""
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
        for name, value in (("level", 1.0), ("found", 2 * TIMES_CHANCE), ("progress", 0.0)):
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
