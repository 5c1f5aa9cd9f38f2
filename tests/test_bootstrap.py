"""Intervals compared with textbook formulas, and groups that are drawn whole."""

from __future__ import annotations

import warnings
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


ROWS = {"v/fight/a.mp4": "1", "v/calm/a.mp4": "2", "v/calm/b.avi": "3", "/mnt/x/long.mp4": "4"}


@pytest.mark.parametrize(
    ("path", "group"),
    [
        ("v/fight/a.mp4", "1"),
        ("./v/fight/a.mp4", "1"),
        ("/data/v/calm/a.mp4", "2"),
        ("../v/calm/a.mp4", "2"),
        ("calm/b.avi", "3"),
        ("b.avi", "3"),
        (r"D:\\footage\\v\\calm\\b.avi", "3"),
        ("long.mp4#2-3.5", "4"),
        ("/else/x/long.mp4", None),
        ("shard-00000.tar/v/fight/a", "1"),
        ("packs/shard-00001.tar/calm/b", "3"),
        ("shard-00000.tar/mnt/x/long_2-3.5", "4"),
        ("a.mp4", "fits several of its rows"),
        ("v/calm/a", None),
        ("m/a.mp4", None),
    ],
)
def test_groups_are_matched_by_the_ends_of_paths(tmp_path: Path, path: str, group: str | None) -> None:
    table = tmp_path / "groups.tsv"
    table.write_text("path\tgroup\n" + "".join(f"{row}\t{name}\n" for row, name in ROWS.items()))
    if group in ROWS.values():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert read_groups(table, [path, "v/calm/b.avi"]) == [group, "3"]
    else:
        with pytest.raises(UserError, match=group or "names no group for"):
            read_groups(table, [path])


def test_what_does_not_match_is_named_and_one_row_is_one_video(tmp_path: Path) -> None:
    table = tmp_path / "groups.tsv"
    table.write_text("path\tgroup\na.mp4\t1\n")
    with pytest.raises(UserError, match=r"names no group for y\.mp4, z\.mp4;"):
        read_groups(table, ["a.mp4", "y.mp4", "z.mp4"])
    with pytest.raises(UserError, match=r"its row a\.mp4 fits several videos: v/a\.mp4, w/a\.mp4"):
        read_groups(table, ["v/a.mp4", "w/a.mp4"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert read_groups(table, ["v/a.mp4#1-2", "v/a.mp4#3-4"]) == ["1", "1"]
