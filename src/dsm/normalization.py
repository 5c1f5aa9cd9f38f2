"""Pictures as networks take them: of about zero mean and unit spread."""

from __future__ import annotations

from torch import Tensor

# One mean and spread for all channels, so that colour jitter and warps commute with it and flow
# or grey video need no numbers of their own.
MEAN, STD = 0.45, 0.225


def normalize(clip: Tensor) -> Tensor:
    """A clip in [0, 1] to about zero mean and unit spread."""
    return (clip - MEAN) / STD
