"""95 % intervals by the bootstrap: over videos, or over groups of videos that are alike.

Videos of one source, camera or person are alike, so that an interval over videos is too narrow: where groups
are given, whole groups are drawn (the cluster bootstrap; Davison & Hinkley 1997, section 3.8).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsm.errors import UserError
from dsm.notes import many

DRAWS = 2000
# Weights held at a time.
MOST = 20_000_000

Weights = NDArray[np.float64]
"""(draws, n): how often each video was drawn."""


class Interval(NamedTuple):
    """A number with its 95 % percentile interval, which is NaN where it cannot be told."""

    value: float
    low: float
    high: float


def bootstrap(
    statistic: Callable[[Weights], NDArray[np.float64]],
    count: int,
    *,
    groups: Sequence[str] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """The interval of any statistic of weighted videos.

    Args:
        statistic: weights (m, count) -> (m,), one number a draw; all ones is the sample itself. A draw
            for which it has no number (NaN) does not count.
        groups: of each video; drawn whole. None draws videos.

    Returns:
        The sample's own number; of a single video, or of videos that are all of one group, without interval.

    Raises:
        UserError: there is no video, or not one group a video.
    """
    if count < 1:
        raise UserError("an interval needs at least one video.")
    if groups is not None and len(groups) != count:
        raise UserError(f"{many(len(groups), 'group')} for {many(count, 'video')}; each video needs one.")
    members = np.unique(np.asarray(groups), return_inverse=True)[1] if groups is not None else None
    units = count if members is None else int(members.max()) + 1
    value = float(statistic(np.ones((1, count)))[0])
    if units == 1:
        return Interval(value, float("nan"), float("nan"))
    rng = np.random.default_rng(seed)
    found = []
    at_once = max(1, MOST // max(units, count))
    for first in range(0, draws, at_once):
        drawn = rng.multinomial(units, np.full(units, 1 / units), min(at_once, draws - first)).astype(float)
        found.append(statistic(drawn if members is None else drawn[:, members]))
    low, high = np.nanquantile(np.concatenate(found), [0.025, 0.975])
    return Interval(value, float(low), float(high))


def mean_interval(values: NDArray[Any], *, groups: Sequence[str] | None = None) -> Interval:
    """The mean of (n,) values; of differences of the same videos, a paired interval."""
    values = np.asarray(values, float)
    return bootstrap(lambda weights: weights @ values / weights.sum(1), len(values), groups=groups)


def class_mean_interval(
    values: NDArray[Any], labels: NDArray[np.int64], *, groups: Sequence[str] | None = None
) -> Interval:
    """The mean over classes of their means; a class that a draw misses does not count in it."""
    return bootstrap(mean_of_classes(values, labels), len(values), groups=groups)


def mean_of_classes(
    values: NDArray[Any], labels: NDArray[np.int64]
) -> Callable[[Weights], NDArray[np.float64]]:
    """The mean over classes of the means of (n,) values, as a statistic of weights."""
    values = np.asarray(values, float)
    member = (labels[:, None] == np.unique(labels)).astype(float)  # (n, classes)

    def statistic(weights: Weights) -> NDArray[np.float64]:
        drawn = weights @ member
        with np.errstate(invalid="ignore"):
            return np.asarray(np.nanmean((weights @ (member * values[:, None])) / drawn, axis=1))

    return statistic
