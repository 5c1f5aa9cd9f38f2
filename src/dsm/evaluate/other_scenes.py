"""Whose scenes the motion of a video is put before, as videos come by one after the other."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dsm.errors import UserError

SCENES = 3
"""Scenes that each video's motion is put before."""


def draw_order(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """An order to go through videos (n,) in, so that each finds scenes of other labels behind it.

    Returns:
        (n + 1,): a random order, behind one video that comes first only to give its scene to the second.

    Raises:
        UserError: all videos have one label.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    unlike = np.flatnonzero(labels[order] != labels[order[0]])
    if not len(unlike):
        raise UserError("to swap backgrounds, videos of two classes at least are needed.")
    return np.concatenate([order[unlike[:1]], order])


class OtherScenes:
    """The scenes of the videos that came last: as few as give every label its :data:`SCENES` others."""

    def __init__(self) -> None:
        self._kept: list[tuple[int, int, Tensor]] = []  # video, label, scene; the last first

    def __len__(self) -> int:
        return len(self._kept)

    def behind(self, label: int) -> tuple[list[int], list[Tensor]] | None:
        """The last :data:`SCENES` videos of other labels and their scenes, the last first.

        Where there are fewer they come again; None where there is none.
        """
        other = [(video, scene) for video, its, scene in self._kept if its != label][:SCENES]
        if not other:
            return None
        other = [other[place % len(other)] for place in range(SCENES)]
        return [video for video, _ in other], [scene for _, scene in other]

    def add(self, video: int, label: int, scene: Tensor) -> None:
        """Take in the scene of a video, and let go of those that came too long ago for any label."""
        kept: list[tuple[int, int, Tensor]] = []
        of_label: Counter[int] = Counter()
        for each in [(video, label, scene), *self._kept]:
            others = (count for its, count in of_label.items() if its != each[1])
            # Of those after it, fewest are of other labels for the most frequent label among them.
            if len(kept) - max(others, default=0) < SCENES:
                kept.append(each)
                of_label[each[1]] += 1
        self._kept = kept
