"""The pace of training: scenes are exchanged as far as the encoder can follow.

When all scenes are exchanged and an encoder does not see motion yet, little is left to learn from, and it may
collapse: all clips get the same embedding. So the level depends on how often the encoder finds positives
among all clips of the batch. It is the share of clips whose scenes are exchanged in full; the others keep
various shares of theirs (:meth:`dsm.disturb.spatial_mix.SpatialMix.mix`), so some positives are easy to find.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dsm.methods.gather import gather, own_rows
from dsm.models.precision import compute_exactly

LOST, ABLE = 2.0, 5.0
"""How many times as often as by chance positives are found at level 0 and at level 1; in between, the level
is proportional."""
MEMORY = 0.9
"""Share of the running rate of positives found that is kept at each step."""


class Pace(nn.Module):
    """Its state is in a buffer, so that a resumed run continues at the same level."""

    found: Tensor
    """The running rate of positives found, in times of chance. A scalar."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("found", torch.tensor(2 * ABLE))
        self._rates: list[Tensor] = []

    @property
    def level(self) -> Tensor:
        """A scalar in [0, 1]."""
        return ((self.found - LOST) / (ABLE - LOST)).clamp(0, 1)

    @torch.no_grad()
    def see(self, anchor: Tensor, all_keys: Tensor) -> None:
        """Count how many anchors (B, D) are nearest to their own positive among the keys (P B, D)."""
        with compute_exactly(anchor.device.type):
            nearest = (anchor.float() @ all_keys.float().T).argmax(1)
        own = own_rows(all_keys)
        right = nearest == torch.arange(own.start, own.stop, device=anchor.device)
        self._rates.append(gather(right.float()).mean() * len(all_keys))

    def forget(self) -> None:
        """Drop the positives found in a step that is not taken: checkpoints do not contain them."""
        self._rates = []

    def after_step(self) -> None:
        """Take the positives found since the last step, in all parts of the batch, into the running rate."""
        if self._rates:
            self.found.lerp_(torch.stack(self._rates).mean().to(self.found), 1 - MEMORY)
            self._rates = []
