"""95 % intervals over videos, or over groups of similar videos: for shares, their differences and ratios, and
by bootstrap for anything else.

Videos from one source, camera or person are similar, so an interval over single videos is too narrow. If
groups are given, whole groups count as drawn. With fewer than ``FEW_GROUPS`` groups, or as few that make up
most of the videos, all intervals are wide, as they use Student's t, and :func:`remark_on` says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsm.errors import UserError
from dsm.terminal import many

DRAWS = 2000
NORMAL = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""
FEW_GROUPS = 15
# Most weights in memory at a time.
MAX_NUMBERS_AT_ONCE = 20_000_000

Drawn = NDArray[np.float64]
"""(draws, n): how often each video was drawn."""


def percent(share: float, digits: int = 0) -> str:
    """A share in %, such as ``45%``; never ``-0%``."""
    text = f"{share:.{digits}%}"
    return text if float(text[:-1]) else text.removeprefix("-")


def chance_text(share: float) -> str:
    """Chance in % with two digits that count, however many classes there are: `33%`, `0.25%`."""
    return percent(share) if share >= 0.1 else f"{100 * share:.2g}%"


class Interval(NamedTuple):
    """A number with its 95 % interval; NaN if there is none."""

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return not math.isnan(self.low)

    @property
    def ends(self) -> tuple[float, float]:
        """Its ends; without an interval, the value twice."""
        return (self.low, self.high) if self.known else (self.value, self.value)

    @property
    def percents(self) -> str:
        """The interval of a share in whole %, `[40, 50]`; empty without one."""
        return f"[{percent(self.low)[:-1]}, {percent(self.high)[:-1]}]" if self.known else ""

    def text(self, digits: int = 0) -> str:
        """A share in %, `45% [40, 50]`, with so many digits of the value; without an interval, `45%`."""
        return f"{percent(self.value, digits)} {self.percents}".rstrip()


class Spread(NamedTuple):
    """The mean of shares, such as one for each seed, and their sample standard deviation.

    The deviation of a single share is NaN.
    """

    mean: float
    deviation: float

    @property
    def around(self) -> str:
        """`± 3.4`, in %; empty for a single share."""
        return "" if math.isnan(self.deviation) else f"± {100 * self.deviation:.1f}"

    def __str__(self) -> str:
        """`71.2 ± 3.4 %`, or `71.2 %` for a single share."""
        return " ".join(filter(None, (f"{100 * self.mean:.1f}", self.around, "%")))


def spread_of(shares: Sequence[float]) -> Spread:
    """The mean and the standard deviation of shares."""
    deviation = float(np.std(shares, ddof=1)) if len(shares) > 1 else math.nan
    return Spread(float(np.mean(shares)), deviation)


def remark_on(groups: Sequence[str] | None) -> str | None:
    """A remark for readers of intervals over few groups; None if none is needed."""
    if groups is None:
        return None
    count, counts_as = len(set(groups)), effective_groups(groups)
    if count == 1:
        return "All videos are of one group, so there are no intervals."
    if counts_as > FEW_GROUPS - 0.5:
        return None
    if counts_as > count - 0.5:
        return (
            f"There are only {count} groups of videos, so the intervals are wide (Student's t): the evidence "
            f"is {count} independent groups, however many videos they hold."
        )
    return (
        f"The {count} groups of videos differ so much in size that they count as {counts_as:.1f} of equal "
        "size, so the intervals are wide (Student's t)."
    )


def wilson(share: float, count: float, quantile: float = NORMAL) -> Interval:
    """The score interval of a share (Wilson 1927; Brown, Cai & DasGupta 2001, section 3.1.1).

    Its ends are the shares p from which the found one is ``quantile`` standard errors sqrt(p (1 - p) / count)
    away. So it is inside [0, 1], and 20 of 20 right is [0.84, 1].

    Args:
        share: in [0, 1]. count: of independent draws, above 0; it need not be whole.
    """
    extra = quantile**2 / count
    middle = (share + extra / 2) / (1 + extra)
    half = math.sqrt(extra * (share * (1 - share) + extra / 4)) / (1 + extra)
    # Rounding must not leave the observed share outside.
    return Interval(share, min(max(middle - half, 0.0), share), max(min(middle + half, 1.0), share))


def share_interval(
    values: NDArray[Any], *, labels: NDArray[np.int64] | None = None, groups: Sequence[str] | None = None
) -> Interval:
    """The mean of shares, such as of hits, with the interval of Wilson.

    If draws are not independent, the count in Wilson's formula is the number of independent draws with
    the same variance (Korn & Graubard 1998), and with groups or several classes the quantile is that of t.
    The degrees of freedom are one less than the effective number of groups (:func:`effective_groups`), or
    Satterthwaite's over classes. The variance is that of the sum over classes or groups.

    Args:
        values: (n,) in [0, 1]; bool or number.
        labels: (n,): the mean is that of the class means, so each class counts the same. None: all are alike.
        groups: (n,): the group of each video. None: each video alone.

    Returns:
        The interval is NaN if there is a single group.

    Raises:
        UserError: there is no video, or the number of groups differs from the number of videos.
    """
    one = _sample_of(values, labels, groups)
    if one.groups == 1:
        return Interval(one.mean)
    return wilson(one.mean, one.count, one.quantile)


def widest_interval(share: float, count: int, groups: Sequence[str] | None = None) -> Interval:
    """Wilson's interval of a mean of shares that are all 0 or 1, and alike in a group: no other is wider.

    Args:
        count: number of videos. groups: the group of each video; there are at least two.
    """
    if groups is None:
        return wilson(share, count)
    counts_as = effective_groups(groups)
    return wilson(share, counts_as, t_quantile(counts_as - 1))


def share_difference(
    one: NDArray[Any], other: NDArray[Any], *, groups: Sequence[str] | None = None
) -> Interval:
    """How much greater the mean share ``one`` is than ``other``, on the same videos.

    The distances of both shares to the ends of their Wilson intervals are combined like standard errors of
    correlated numbers (Newcombe 1998, method 10). Arguments are as in :func:`share_interval`.
    """
    first, second = (share_interval(each, groups=groups) for each in (one, other))
    alike = correlation(one, other, groups=groups)
    value = first.value - second.value
    low = value - _combined(first.value - first.low, second.high - second.value, alike)
    high = value + _combined(first.high - first.value, second.value - second.low, alike)
    return Interval(value, low, high)


def ratio_interval(top: Interval, bottom: Interval, alike: float = 0.0) -> Interval:
    """The ratio of two numbers from their intervals: the ratios r for which top - r bottom may be 0.

    The interval of top - r bottom is found as in :func:`share_difference` (the method of variance estimates
    recovery for ratios; Donner & Zou 2012). For normal intervals this is Fieller's.

    Args:
        bottom: its value is above 0. Where its interval contains 0, the ratio has no bounds: NaN.
        alike: the correlation of the two numbers.
    """
    value = top.value / bottom.value
    if not top.known or not bottom.known or bottom.low <= 0:
        return Interval(value)

    def excess(ratio: float, upper: bool) -> float:
        """The upper or lower end of the interval of top - ratio bottom."""
        own = top.high - top.value if upper else top.value - top.low
        # The bottom pushes the other way if the ratio is positive.
        theirs = bottom.value - bottom.low if upper == (ratio > 0) else bottom.high - bottom.value
        half = _combined(own, abs(ratio) * theirs, alike if ratio > 0 else -alike)
        return top.value - ratio * bottom.value + (half if upper else -half)

    ends = []
    for upper in (False, True):
        # The lower end of top - r bottom is not above 0 at the found ratio, and far below it is.
        inside, outside = value, value + (1 if upper else -1)
        while (excess(outside, upper) > 0) == upper and abs(outside) < 1e6:
            outside = value + 2 * (outside - value)
        for _ in range(60):
            middle = (inside + outside) / 2
            if (excess(middle, upper) > 0) == upper:
                inside = middle
            else:
                outside = middle
        ends.append((inside + outside) / 2)
    return Interval(value, *ends)


def correlation(
    one: NDArray[Any],
    other: NDArray[Any],
    *,
    labels: NDArray[np.int64] | None = None,
    groups: Sequence[str] | None = None,
) -> float:
    """The correlation of the errors of two mean shares over the same videos; 0 if one has no errors."""
    first, second = (_sample_of(each, labels, groups).deviations for each in (one, other))
    size = math.sqrt(float((first**2).sum() * (second**2).sum()))
    return float(first @ second) / size if size > 1e-15 else 0.0


def _combined(one: float, other: float, alike: float) -> float:
    """The deviation of a difference of two numbers with these deviations and this correlation."""
    return math.sqrt(max(one**2 + other**2 - 2 * alike * one * other, 0.0))


@dataclass(frozen=True)
class _Sample:
    """A mean of shares, and how it varies."""

    mean: float
    count: float
    """Of independent draws whose mean would vary as much."""
    groups: int
    """Number of groups; 0 if each video is alone."""
    quantile: float
    """Of Student's t, for the degrees of freedom with which its variance is known."""
    deviations: NDArray[np.float64]
    """What each video, or group, adds to the error of the mean."""


def _sample_of(
    values: NDArray[Any], labels: NDArray[np.int64] | None, groups: Sequence[str] | None
) -> _Sample:
    """The mean of values (n,), or of their class means; arguments as in :func:`share_interval`."""
    values = np.asarray(values, float)
    members, units = _members(len(values), groups)
    of = np.unique(labels, return_inverse=True)[1] if labels is not None else np.zeros(len(values), int)
    sizes = np.bincount(of)
    means = np.bincount(of, values) / sizes
    count, rest = _count_of(values, of), values - means[of]
    deviations = rest / (len(sizes) * sizes[of])
    if members is None:
        freedom = _freedom_of_classes(1 / sizes, sizes.astype(float))
        return _Sample(float(means.mean()), count, 0, t_quantile(freedom), deviations)
    found = _groups_of(deviations, of, members)
    # One more error counts as shared by a whole group, because few errors cannot show whether groups share
    # them. A smaller effect than 1 is chance.
    errors = min(float(values.sum()), float(len(values) - values.sum()))
    effect = max((found.effect * errors + len(values) / units) / (errors + 1), 1.0)
    return _Sample(
        float(means.mean()), count / effect, units, t_quantile(found.freedom), found.deviations
    )  # fmt: skip


def _count_of(values: NDArray[np.float64], of: NDArray[np.int64]) -> float:
    """How many independent hits would have a mean that varies as much as the mean of class means.

    Args:
        of: (n,): the class of each value, from 0.
    """
    sizes = np.bincount(of)
    classes = len(sizes)
    means = np.bincount(of, values) / sizes
    mean = float(means.mean())
    spread = mean * (1 - mean)
    if not spread:
        return classes**2 / float((1 / sizes).sum())
    # Each class has few videos, so its share is drawn towards the mean by two videos' worth, which makes
    # its variance p (1 - p) too small by a known factor where all classes are the same.
    drawn = (sizes * means + 2 * mean) / (sizes + 2)
    known = 1 - (1 - 1 / classes) * sizes / (sizes + 2) ** 2
    variance = float((drawn * (1 - drawn) / known / sizes).sum()) / classes**2
    # Values between 0 and 1 vary less than hits with their mean; for hits this is 1.
    rest = values - means[of]
    smaller = float((rest**2).sum() + spread) / float((sizes * means * (1 - means)).sum() + spread)
    return spread / variance / smaller


def _freedom_of_classes(variances: NDArray[np.float64], each: NDArray[np.float64]) -> float:
    """Degrees of freedom of the variance of a mean of class means (Satterthwaite 1946).

    Most of the variance may come from one small class, whose own share is hardly known. With one class this
    is infinite, as the variance of a share follows from the share; with K classes K - 1 more shares enter.

    Args:
        variances: (K,), of the class means, up to a factor. each: (K,), the degrees of freedom of each.
    """
    classes = len(variances)
    if classes == 1:
        return math.inf
    return float(variances.sum() ** 2 / (variances**2 / each).sum()) * classes / (classes - 1)


class _Groups(NamedTuple):
    """What drawing whole groups of videos does to the error of a mean."""

    effect: float
    """How many times larger its variance is."""
    freedom: float
    """Degrees of freedom of that variance."""
    deviations: NDArray[np.float64]
    """What each group adds to the error."""


def _groups_of(deviations: NDArray[np.float64], of: NDArray[np.int64], members: NDArray[np.int64]) -> _Groups:
    """The design effect (Kish 1965) of groups, which may be of unequal size, on a mean of class means.

    The sum over a group's videos of a class is too near to 0, as they are part of the class mean; it is
    divided by the root of the share of the class that is not in the group (CR2; Bell & McCaffrey 2002). A
    class that is within one group says nothing; if all are, the videos of a group count as one.

    Args:
        deviations: (n,): what each video adds to the error. of: (n,): its class. members: (n,): its group.
    """
    classes, units = int(of.max()) + 1, int(members.max()) + 1
    sizes = np.bincount(of)
    cell = members * classes + of

    def by_group(values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums over the videos of each group and class: (groups, classes)."""
        return np.asarray(np.bincount(cell, values, units * classes).reshape(units, classes), float)

    inside = by_group(1 / sizes[of])  # the share of each class that is in each group
    several = np.asarray((inside < 1 - 1e-9).all(0))
    weights = inside.mean(1)
    freedom = 1 / float((weights**2).sum()) - 1
    if not several.any():
        return _Groups(len(of) / units, freedom, by_group(deviations).sum(1))
    own = by_group(deviations)[:, several] / np.sqrt(1 - inside[:, several])
    apart = float((deviations[several[of]] ** 2).sum())
    of_groups = np.asarray(own.sum(1), float)
    effect = float((of_groups**2).sum()) / apart if apart > 1e-15 else 1.0
    if classes > 1:
        groups_in = 1 / (inside[:, several] ** 2).sum(0)  # the effective number in each class
        shares = 1 / groups_in
        freedom = min(freedom, float(shares.sum() ** 2 / (shares**2 / (groups_in - 1)).sum()))
    return _Groups(effect, freedom, of_groups)


def effective_groups(groups: Sequence[str]) -> float:
    """How many groups of equal size tell as much about a mean over videos: n² / sum of squared sizes."""
    sizes = np.unique(np.asarray(groups), return_counts=True)[1].astype(float)
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def t_quantile(freedom: float) -> float:
    """The 97.5 % quantile of Student's t; at most a million, which it passes below 0.2 degrees of freedom."""
    from scipy.special import stdtrit

    if math.isinf(freedom):
        return NORMAL
    return float(np.nan_to_num(min(stdtrit(max(freedom, 0.05), 0.975), 1e6), nan=1e6))


def _members(count: int, groups: Sequence[str] | None) -> tuple[NDArray[np.int64] | None, int]:
    """The number of each video's group, or None if videos are single; and how many are drawn.

    Raises:
        UserError: there is no video, or the number of groups differs from the number of videos.
    """
    if count < 1:
        raise UserError("an interval needs at least one video.")
    if groups is None:
        return None, count
    if len(groups) != count:
        raise UserError(f"{many(len(groups), 'group')} for {many(count, 'video')}; give one group per video.")
    members = np.unique(np.asarray(groups), return_inverse=True)[1]
    return members, int(members.max()) + 1


def bootstrap(
    statistic: Callable[[Drawn], NDArray[np.float64]],
    count: int,
    *,
    groups: Sequence[str] | None = None,
    draws: int = DRAWS,
) -> Interval:
    """:func:`bootstraps` of one statistic: weights (m, count) -> (m,)."""
    return bootstraps(lambda weights: statistic(weights)[:, None], count, groups=groups, draws=draws)[0]


def bootstraps(
    statistics: Callable[[Drawn], NDArray[np.float64]],
    count: int,
    *,
    groups: Sequence[str] | None = None,
    draws: int = DRAWS,
) -> list[Interval]:
    """The intervals of statistics of weighted videos, for statistics that are not shares.

    The percentiles are those that make the interval of a mean as wide as that of t (the expanded percentile
    interval; Hesterberg 2015, section 5.3): plain percentiles are too narrow for few videos or groups. Groups
    are drawn whole (the cluster bootstrap; Davison & Hinkley 1997, section 3.8).

    Args:
        statistics: weights (m, count) -> (m, k), k numbers per draw; weights of one give the sample itself.
            Draws for which a number is NaN are ignored.
        groups: the group of each video; groups are drawn whole. None draws single videos.

    Returns:
        The sample's k numbers with their intervals, which are NaN if there is a single video or group.

    Raises:
        UserError: there is no video, or the number of groups differs from the number of videos.
    """
    from scipy.special import ndtr

    members, units = _members(count, groups)
    own = statistics(np.ones((1, count)))[0].tolist()
    if units == 1:
        return [Interval(value) for value in own]
    rng = np.random.default_rng(0)
    values = []
    at_once = max(1, MAX_NUMBERS_AT_ONCE // max(units, count))
    for first in range(0, draws, at_once):
        drawn = rng.multinomial(units, np.full(units, 1 / units), min(at_once, draws - first)).astype(float)
        values.append(statistics(drawn if members is None else drawn[:, members]))
    counts_as = effective_groups(groups) if groups is not None else units
    tail = float(ndtr(-math.sqrt(counts_as / (counts_as - 1)) * t_quantile(counts_as - 1)))
    ends = np.nanquantile(np.concatenate(values), [tail, 1 - tail], axis=0)
    return [Interval(*each) for each in zip(own, *ends.tolist(), strict=True)]


def mean_interval(values: NDArray[Any], *, groups: Sequence[str] | None = None) -> Interval:
    """The mean of (n,) values that are not shares, such as ranks, with its interval by bootstrap."""
    values = np.asarray(values, float)
    return bootstrap(lambda weights: weights @ values / weights.sum(1), len(values), groups=groups)
