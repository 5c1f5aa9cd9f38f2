"""Chooses scenes of other videos to put behind a video: of another class, but similar."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dsm.errors import UserError
from dsm.evaluate.variants import SCENES


def draw_order(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """An order in which to process videos (n,), such that scenes of other labels come before each.

    Returns:
        (n + 1,): a random order, preceded by one extra video that provides a scene for the next one.

    Raises:
        UserError: all videos have one label.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    unlike = np.flatnonzero(labels[order] != labels[order[0]])
    if not len(unlike):
        raise UserError("swapping backgrounds needs videos of at least two classes.")
    return np.concatenate([order[unlike[:1]], order])


POOL, LEAST = 24, 8
"""Number of the newest scenes to keep, to choose similar ones from. With fewer scenes of other labels than
the second number, a video waits until all others have been processed."""
LOOK = 8
"""Side of the small pictures used to compare scenes, in pixels."""


@dataclass(frozen=True)
class Lent:
    """What a video supplies to others."""

    video: int
    label: int
    scene: Tensor
    """(1, C, 1, H, W)."""
    actor: Tensor
    """(1, C + 1, 1, H, W), as in :class:`dsm.evaluate.variants.Seen`."""

    @property
    def look(self) -> Tensor:
        return F.adaptive_avg_pool2d(self.scene[:, :, 0], LOOK)


class OtherScenes:
    """The scenes of the latest videos: as few as give every label ``SCENES`` scenes of other labels, two of
    each label, and the last :data:`POOL`."""

    def __init__(self) -> None:
        self._kept: list[Lent] = []  # the latest first

    def __len__(self) -> int:
        return len(self._kept)

    def behind(self, label: int) -> list[Lent]:
        """The latest ``SCENES`` videos of other labels, the latest first.

        If there are fewer, they repeat; empty if there are none.
        """
        other = self.unlike(label)[:SCENES]
        return [other[place % len(other)] for place in range(SCENES)] if other else []

    def unlike(self, label: int) -> list[Lent]:
        """All of other labels, the latest first."""
        return [one for one in self._kept if one.label != label]

    def same(self, video: int, label: int) -> Lent | None:
        """The latest other video of this label; None if there is none."""
        return next((one for one in self._kept if one.label == label and one.video != video), None)

    def near_and_far(self, own: Lent) -> tuple[Lent, Lent]:
        """Of the scenes of other labels, the most and the least similar, compared as small pictures."""
        other = self.unlike(own.label)
        distance = [float((one.look - own.look).abs().mean()) for one in other]
        return other[int(np.argmin(distance))], other[int(np.argmax(distance))]

    def add(self, one: Lent) -> None:
        """Add what a video supplies, and drop what no label needs any more."""
        kept: list[Lent] = []
        of_label: Counter[int] = Counter()
        for each in [one, *self._kept]:
            others = (count for label, count in of_label.items() if label != each.label)
            # Among the newer scenes, the most frequent label has the fewest scenes of other labels.
            needed = len(kept) - max(others, default=0) < SCENES
            if needed or len(kept) < POOL or of_label[each.label] < 2:
                kept.append(each)
                of_label[each.label] += 1
        self._kept = kept
