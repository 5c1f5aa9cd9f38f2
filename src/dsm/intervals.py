"""95 % bootstrap intervals over videos, or over groups of similar videos.

Videos from one source, camera or person are similar, so an interval over single videos is too narrow.
If groups are given, whole groups are drawn (the cluster bootstrap; Davison & Hinkley 1997, section 3.8).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsm.errors import UserError
from dsm.terminal import many

DRAWS = 2000
# Weights held at a time.
MAX_NUMBERS_AT_ONCE = 20_000_000

Weights = NDArray[np.float64]
"""(draws, n): how often each video was drawn."""


class Interval(NamedTuple):
    """A number with its 95 % percentile interval; NaN if there is none."""

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
    """The interval of a statistic of weighted videos.

    Args:
        statistic: weights (m, count) -> (m,), one number per draw; weights of one give the sample itself.
            Draws for which it returns NaN are ignored.
        groups: the group of each video; groups are drawn whole. None draws single videos.

    Returns:
        The sample's number with its interval; the interval is NaN if there is a single video or group.

    Raises:
        UserError: there is no video, or the number of groups differs from the number of videos.
    """
    if count < 1:
        raise UserError("an interval needs at least one video.")
    if groups is not None and len(groups) != count:
        raise UserError(f"{many(len(groups), 'group')} for {many(count, 'video')}; give one group per video.")
    members = np.unique(np.asarray(groups), return_inverse=True)[1] if groups is not None else None
    units = count if members is None else int(members.max()) + 1
    value = float(statistic(np.ones((1, count)))[0])
    if units == 1:
        return Interval(value, float("nan"), float("nan"))
    rng = np.random.default_rng(seed)
    values = []
    at_once = max(1, MAX_NUMBERS_AT_ONCE // max(units, count))
    for first in range(0, draws, at_once):
        drawn = rng.multinomial(units, np.full(units, 1 / units), min(at_once, draws - first)).astype(float)
        values.append(statistic(drawn if members is None else drawn[:, members]))
    low, high = np.nanquantile(np.concatenate(values), [0.025, 0.975])
    return Interval(value, float(low), float(high))


def mean_interval(values: NDArray[Any], *, groups: Sequence[str] | None = None) -> Interval:
    """The mean of (n,) values; for differences on the same videos, a paired interval."""
    values = np.asarray(values, float)
    return bootstrap(lambda weights: weights @ values / weights.sum(1), len(values), groups=groups)


def class_mean_interval(
    values: NDArray[Any], labels: NDArray[np.int64], *, groups: Sequence[str] | None = None
) -> Interval:
    """The mean over classes of the class means; a class missing from a draw does not count in that draw."""
    return bootstrap(mean_of_classes(values, labels), len(values), groups=groups)


def mean_of_classes(
    values: NDArray[Any], labels: NDArray[np.int64]
) -> Callable[[Weights], NDArray[np.float64]]:
    """The mean over classes of the class means of (n,) values, as a statistic of weights."""
    values = np.asarray(values, float)
    member = (labels[:, None] == np.unique(labels)).astype(float)  # (n, classes)

    def statistic(weights: Weights) -> NDArray[np.float64]:
        drawn = weights @ member
        with np.errstate(invalid="ignore"):
            return np.asarray(np.nanmean((weights @ (member * values[:, None])) / drawn, axis=1))

    return statistic
