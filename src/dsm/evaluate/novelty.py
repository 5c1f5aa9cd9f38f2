"""Finds what is new in footage: clips unlike an archive, at a given false alarm rate.

Split conformal prediction (Papadopoulos et al. 2002; Vovk et al. 2005). A part of the archive's videos is
held out. A clip's score is its mean cosine distance to the nearest clips of the other part, and it raises an
alarm if its score is above that of nearly all held-out clips. Clips of one video resemble each other, so
whole videos are held out, and each counts once, shared among its clips: the hierarchical form of Lee, Barber
& Willett 2023, section 4. Then a clip of a video like those of the archive raises an alarm at most at that
rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsm.errors import UserError
from dsm.evaluate.nearest import Matrix, nearest, unit_rows
from dsm.terminal import many

EQUAL = 1e-9
"""Relative difference by which rounding may change a rate."""


@dataclass(frozen=True)
class Novelty:
    """How new each clip is."""

    scores: NDArray[np.float64]
    """(n,): mean cosine distance to the nearest clips of the archive."""
    p_values: NDArray[np.float64]
    """(n,), p-values: share of held-out clips, with itself, that have at least its score, each video counting
    once; small if new."""
    alarms: NDArray[np.bool_]
    """(n,): whether the p-value is at most the rate."""
    threshold: float
    """The highest score that raises no alarm."""
    nearest: NDArray[np.int64]
    """(n,): the nearest row of the archive."""
    held: int
    """Number of videos held out."""


def novelty(
    archive: Matrix,
    archive_videos: Sequence[str],
    new: Matrix,
    *,
    rate: float = 0.01,
    k: int = 5,
    seed: int = 0,
) -> Novelty:
    """Score new clips (m, d) against an archive (n, d).

    Args:
        archive_videos: (n,), the video (or group of videos) of each row; whole ones are held out.
        rate: share of clips like the archive's that may be alarms.
        k: neighbours whose distance is averaged.
        seed: seed of the split.

    Raises:
        UserError: the archive has too few videos for this rate.
    """
    names, ids = np.unique(np.asarray(archive_videos), return_inverse=True)
    held_videos = -(-len(names) // 2)
    needed = max(2 * math.ceil((1 - EQUAL) / rate) - 3, 2)  # so that held_videos + 1 is at least 1 / rate
    if len(names) < needed:
        raise UserError(
            f"the archive has {many(len(names), 'video')}, half of which are held out; a false-alarm rate of "
            f"{rate:g} needs at least {needed}. Give a higher --false-alarms, or a larger archive."
        )
    order = np.random.default_rng(seed).permutation(len(names))
    is_held = np.isin(ids, order[:held_videos])
    middle = unit_rows(np.asarray(archive[~is_held], np.float32)).mean(0)
    base = _less(archive[~is_held], middle)
    calibration = _scores(base, _less(archive[is_held], middle), k)[0]
    scores, places = _scores(base, _less(new, middle), k)
    # Each held-out video weighs 1 / (videos + 1), shared among its clips; the new clip weighs the same.
    _, of, clips = np.unique(ids[is_held], return_inverse=True, return_counts=True)
    weights = 1 / (clips[of] * (held_videos + 1))
    rising = np.argsort(calibration, kind="stable")
    above = np.append(np.cumsum(weights[rising][::-1])[::-1], 0.0)  # weight of this and all greater scores
    p_values = above[np.searchsorted(calibration[rising], scores, side="left")] + 1 / (held_videos + 1)
    p_values = np.minimum(p_values, 1.0)
    quiet = above[:-1] + 1 / (held_videos + 1) > rate * (1 + EQUAL)
    threshold = float(calibration[rising][quiet].max()) if quiet.any() else -np.inf
    return Novelty(
        scores, p_values, scores > threshold, threshold, np.flatnonzero(~is_held)[places], held_videos
    )


def _less(features: Matrix, middle: Matrix) -> Matrix:
    return np.asarray(unit_rows(np.asarray(features, np.float32)) - middle, np.float32)


def _scores(base: Matrix, rows: Matrix, k: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    near = nearest(base, rows, k)
    return 1 - near.similarities.astype(np.float64).mean(1), near.places[:, 0]
