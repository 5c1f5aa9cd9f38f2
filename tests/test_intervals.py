"""Intervals compared with textbook formulas; their coverage, by simulation; groups that are drawn whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from dsm.data.groups import find_groups, read_groups
from dsm.errors import UserError
from dsm.intervals import (
    FEW_GROUPS,
    NORMAL,
    Interval,
    bootstrap,
    correlation,
    effective_groups,
    mean_interval,
    ratio_interval,
    remark_on,
    share_difference,
    share_interval,
)
from dsm.runs.results import share


def test_the_interval_of_a_mean_is_that_of_its_standard_error() -> None:
    values = np.random.default_rng(1).normal(3, 2, 400)
    found = mean_interval(values)
    error = values.std() / np.sqrt(len(values))
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)


def test_groups_of_identical_videos_widen_the_interval_by_the_root_of_their_size() -> None:
    each = np.random.default_rng(2).normal(size=100)
    values, groups = np.repeat(each, 9), np.repeat(np.arange(100).astype(str), 9)
    hits = (values > 0.5).astype(float)
    for interval_of, each_of in ((mean_interval, values), (share_interval, hits)):
        alone, together = interval_of(each_of), interval_of(each_of, groups=list(groups))
        assert together.value == pytest.approx(alone.value)
        assert (together.high - together.low) / (alone.high - alone.low) == pytest.approx(3, rel=0.1)


def test_with_few_groups_the_quantile_is_that_of_t() -> None:
    """Of 6 groups of one video each, 3 right: the score interval, solved as a quadratic equation."""
    hits = np.array([1, 1, 1, 0, 0, 0.0])
    found = share_interval(hits, groups=list("abcdef"))
    design = (6 / 5 * 3 + 1) / (3 + 1)  # of the variance over groups, with one more error that a group shares
    count, quantile = 6 / design, stats.t.ppf(0.975, 5)
    # (p - share)² = quantile² p (1 - p) / count
    a = 1 + quantile**2 / count
    low, high = sorted(np.roots([a, -(1 + quantile**2 / count), 0.25]).real)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_shares_by_group_and_by_video_agree_when_every_video_is_its_own_group() -> None:
    hits = np.arange(200) % 4 > 0
    one = share("r", 0, "t", "R@1", hits)
    two = share("r", 0, "t", "R@1", hits, groups=[str(i) for i in range(200)])
    assert one.value == two.value
    assert one.low == pytest.approx(two.low, abs=0.01)
    assert one.high == pytest.approx(two.high, abs=0.01)


def test_the_mean_over_classes_weighs_them_equally() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    hits = np.array([1] * 90 + [0] * 10)
    found = share_interval(hits, labels=labels)
    assert found.value == 0.5
    # Each class varies by what its own 90 or 10 videos leave open, not like a mixture of right and wrong.
    assert found.low == pytest.approx(0.42, abs=0.03)
    assert found.high == pytest.approx(0.58, abs=0.03)
    assert share_interval(np.ones(5), labels=np.zeros(5, np.int64)).value == 1


@pytest.mark.parametrize(("hits", "count"), [(20, 20), (0, 7), (3, 11), (95, 100), (1, 1)])
def test_the_interval_of_a_share_is_that_of_wilson(hits: int, count: int) -> None:
    found = share_interval(np.arange(count) < hits)
    known = stats.binomtest(hits, count).proportion_ci(method="wilson")
    assert (found.low, found.high) == (pytest.approx(known.low), pytest.approx(known.high))
    assert found.low <= found.value == hits / count <= found.high


@pytest.mark.parametrize("share", [0.5, 0.95])
@pytest.mark.parametrize("count", [30, 100, 500])
def test_nominal_95_percent_covers_by_simulation(count: int, share: float) -> None:
    """Of single videos, of the mean of ten classes, and of groups that are alike."""
    rng = np.random.default_rng(count)
    labels = np.arange(count) % 10
    covered = np.zeros(2)
    for _ in range(1000):
        hits = rng.random(count) < share
        for place, of in enumerate((None, labels)):
            low, high = share_interval(hits, labels=of)[1:]
            covered[place] += low <= share <= high
    assert (covered >= 920).all()
    assert (covered <= 970).all()


@pytest.mark.parametrize("share", [0.5, 0.95])
@pytest.mark.parametrize("groups", [6, 12, 30, 100])
def test_groups_that_are_alike_are_covered(groups: int, share: float) -> None:
    """Shares of groups of six from a beta distribution; the correlation within a group is 0.3."""
    rng = np.random.default_rng(groups)
    names = np.repeat(np.arange(groups), 6).astype(str)
    together = alone = 0
    for _ in range(500):
        own = rng.beta(share * 7 / 3, (1 - share) * 7 / 3, groups)
        hits = rng.random(len(names)) < np.repeat(own, 6)
        low, high = share_interval(hits, groups=names)[1:]
        together += low <= share <= high
        low, high = share_interval(hits)[1:]
        alone += low <= share <= high
    assert together >= 0.92 * 500
    assert alone < 0.92 * 500


def test_the_bootstrap_of_a_mean_covers_with_few_groups() -> None:
    rng = np.random.default_rng(9)
    covered = 0
    for _ in range(400):
        low, high = mean_interval(rng.normal(size=8))[1:]
        covered += low <= 0 <= high
    assert 0.92 * 400 <= covered <= 0.98 * 400  # plain percentiles: 0.88


def test_a_paired_difference_covers_and_never_claims_certainty() -> None:
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(1000):
        draw = rng.random(60)
        one, other = draw < 0.9, (draw > 0.08) & (draw < 0.9)
        low, high = share_difference(one, other)[1:]
        covered += low <= 0.08 <= high
    assert 920 <= covered <= 985
    same = share_difference(np.ones(20), np.ones(20))
    assert same.low < same.value == 0 < same.high


def test_a_ratio_is_that_of_fieller_for_normal_intervals() -> None:
    for top, bottom, alike in ((2.0, 4.0, 0.0), (2.0, 4.0, 0.7), (-1.0, 3.0, 0.4), (0.1, 2.0, -0.5)):
        one, other = 0.5, 0.6  # standard errors
        found = ratio_interval(
            Interval(top, top - NORMAL * one, top + NORMAL * one),
            Interval(bottom, bottom - NORMAL * other, bottom + NORMAL * other),
            alike,
        )
        # (top - r bottom)² = z² (one² - 2 r alike one other + r² other²)
        ends = np.roots([
            bottom**2 - (NORMAL * other) ** 2,
            -2 * (top * bottom - NORMAL**2 * alike * one * other),
            top**2 - (NORMAL * one) ** 2,
        ])  # fmt: skip
        assert found == (pytest.approx(top / bottom), pytest.approx(min(ends)), pytest.approx(max(ends)))
    assert np.isnan(ratio_interval(Interval(1, 0, 2), Interval(1, -1, 3)).low)


def test_the_correlation_of_shares() -> None:
    hits = np.random.default_rng(5).random((2, 400)) < 0.5
    assert correlation(hits[0], hits[0]) == pytest.approx(1)
    assert correlation(hits[0], ~hits[0]) == pytest.approx(-1)
    assert correlation(hits[0], hits[1]) == pytest.approx(np.corrcoef(*hits)[0, 1])
    assert correlation(hits[0], np.ones(400)) == 0


def test_the_effective_number_of_groups_is_that_of_equal_ones() -> None:
    assert effective_groups(list("aabbcc")) == pytest.approx(3)
    large = ["a"] * 200 + [str(place // 2) for place in range(38)]
    assert effective_groups(large) == pytest.approx(238**2 / (200**2 + 19 * 4))
    assert "The 20 groups of videos differ so much in size that they count as 1.4" in (remark_on(large) or "")
    # One group is nearly all there is, and nothing is known about the others like it.
    assert share_interval(np.arange(238) % 2, groups=large)[1:] == (
        pytest.approx(0, abs=0.02),
        pytest.approx(1, abs=0.02),
    )
    even = [str(place // 2) for place in range(238)]
    assert share_interval(np.arange(238) % 2, groups=even).high < 0.6


def test_few_groups_are_remarked_on() -> None:
    assert remark_on(None) is None
    assert remark_on([str(place) for place in range(FEW_GROUPS)]) is None
    assert "only 3 groups" in (remark_on(["a", "b", "c", "a"]) or "")
    assert "no intervals" in (remark_on(["a", "a"]) or "")


def test_any_weighted_statistic_can_be_bootstrapped() -> None:
    x = np.random.default_rng(3).normal(5, 1, 300)
    found = bootstrap(lambda w: (w @ x) / (w @ (2 * x)), 300)
    assert found == (pytest.approx(0.5), pytest.approx(0.5), pytest.approx(0.5))


def test_groups_are_read_from_a_table_or_found_in_paths(tmp_path: Path) -> None:
    table = tmp_path / "groups.tsv"
    table.write_text("path\tclass\tsource\na b.mp4\tx\t7\nc.mp4\ty\t8\n")
    assert find_groups(["c.mp4", "a b.mp4"], file=table, regex="") == ["8", "7"]
    assert find_groups(["cam1/a.mp4", "cam2/b.mp4"], file=None, regex=r"cam\d") == ["cam1", "cam2"]
    assert find_groups(["c.mp4"], file=None, regex="") is None
    with pytest.raises(UserError, match=r"has no group for d\.mp4"):
        read_groups(table, ["c.mp4", "d.mp4"])
    with pytest.raises(UserError, match="no such table of groups"):
        read_groups(tmp_path / "none.tsv", ["c.mp4"])
    with pytest.raises(UserError, match="give only one"):
        find_groups(["c.mp4"], file=table, regex="c")


def test_wrong_counts_are_refused() -> None:
    for interval_of in (mean_interval, share_interval):
        with pytest.raises(UserError, match="3 groups for 2 videos"):
            interval_of(np.zeros(2), groups=["a", "b", "c"])
        with pytest.raises(UserError, match="at least one video"):
            interval_of(np.zeros(0))
