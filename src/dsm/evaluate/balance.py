"""The balance of motion and scene: which of the two an encoder relies on, measured without labels.

Give a clip the scene of another video. Is it then closer to the clip with the same motion, or to the clip
with the same scene? Over methods and checkpoints, the answer ranks encoders as R@1 among other scenes does.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsm.render import MEAN, STD

LOW, HIGH = -MEAN / STD, (1 - MEAN) / STD
"""The values of black and white after normalisation."""


class InOtherScenes(nn.Module):
    """The features of clips, of the same clips in other scenes, and of the clips that supplied the scenes."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.lent: list[bool] = []
        """For each clip so far, whether another clip lent its scene; not if unreadable videos left it alone
        in its batch, so that it lent to itself."""

    def forward(self, clips: Tensor) -> Tensor:
        """Normalised RGB clips (B, 3, T, H, W) -> (B, 3D), concatenated; scenes come from the same batch."""
        own = self.encoder(clips)
        self.lent += [len(clips) > 1] * len(clips)
        return torch.cat([own, self.encoder(exchange_scenes(clips)), own.roll(1, 0)], 1)


def exchange_scenes(clips: Tensor) -> Tensor:
    """Give each clip the static scene of the one before it: the mean over time, as in ``ExchangeScene``.

    Args:
        clips: (B, 3, T, H, W), RGB, normalised.
    """
    scene = clips.mean(2, keepdim=True)
    return (clips + scene.roll(1, 0) - scene).clamp(LOW, HIGH)


def batch_without_single(videos: int, at_most: int) -> int:
    """A batch size, ``at_most`` if possible, that leaves no batch of one, whose clip would lend to itself.

    Args:
        videos: number of videos, at least 2.
    """
    sizes = (*range(at_most, 1, -1), *range(max(at_most, 1) + 1, videos + 1))
    return next(size for size in sizes if videos % size != 1)


BALANCE = "balance"
"""Its name in logs and results."""


def balance(own: Tensor, exchanged: Tensor, lender: Tensor) -> float:
    """The mean of :func:`balances`."""
    return float(balances(own, exchanged, lender).mean())


def balances(own: Tensor, exchanged: Tensor, lender: Tensor) -> Tensor:
    """(N,): the cosine to the clip of the same motion, minus that to the clip of the same scene.

    About 1 if only the motion counts, about -1 if only the scene does, and 0 for features that depend on
    neither. The mean feature is subtracted before the cosine.

    Args:
        own: (N, D), features of clips. exchanged: of the same clips, each in the scene of another one.
        lender: of the clips that supplied these scenes.
    """
    mean = own.mean(0)
    moved = F.normalize(exchanged - mean, dim=1)
    by_motion = (moved * F.normalize(own - mean, dim=1)).sum(1)
    by_scene = (moved * F.normalize(lender - mean, dim=1)).sum(1)
    return by_motion - by_scene
