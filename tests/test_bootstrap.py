"""Intervals compared with textbook formulas, and groups that are drawn whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dsm.data.groups import find_groups, read_groups
from dsm.errors import UserError
from dsm.intervals import bootstrap, class_mean_interval, mean_interval
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
    alone, together = mean_interval(values), mean_interval(values, groups=list(groups))
    assert together.value == pytest.approx(alone.value)
    assert (together.high - together.low) / (alone.high - alone.low) == pytest.approx(3, rel=0.1)


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
    found = class_mean_interval(hits, labels)
    assert found.value == 0.5
    assert found.low == found.high == 0.5
    assert class_mean_interval(np.ones(5), np.zeros(5, np.int64)).value == 1


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
    with pytest.raises(UserError, match=r"names no group for d\.mp4"):
        read_groups(table, ["c.mp4", "d.mp4"])
    with pytest.raises(UserError, match="no such table of groups"):
        read_groups(tmp_path / "none.tsv", ["c.mp4"])
    with pytest.raises(UserError, match="give only one"):
        find_groups(["c.mp4"], file=table, regex="c")


def test_wrong_counts_are_refused() -> None:
    with pytest.raises(UserError, match="3 groups for 2 videos"):
        mean_interval(np.zeros(2), groups=["a", "b", "c"])
    with pytest.raises(UserError, match="at least one video"):
        mean_interval(np.zeros(0))
