"""Tables of groups: which row is whose video."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from dsm.data.groups import read_groups
from dsm.errors import UserError

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
        ("a.mp4", "matches several of its rows"),
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
        with pytest.raises(UserError, match=group or "has no group for"):
            read_groups(table, [path])


def test_two_groups_for_one_video_are_refused(tmp_path: Path) -> None:
    table = tmp_path / "groups.tsv"
    table.write_text("path\tgroup\na.mp4\t1\nb.mp4\t2\na.mp4\t1\n")
    assert read_groups(table, ["a.mp4", "b.mp4"]) == ["1", "2"]
    table.write_text("path\tgroup\na.mp4\t1\nb.mp4\t2\na.mp4\t2\n")
    with pytest.raises(UserError, match=r"gives a\.mp4 two different groups"):
        read_groups(table, ["a.mp4", "b.mp4"])


def test_what_does_not_match_is_named_and_one_row_is_one_video(tmp_path: Path) -> None:
    table = tmp_path / "groups.tsv"
    table.write_text("path\tgroup\na.mp4\t1\n")
    with pytest.raises(UserError, match=r"has no group for y\.mp4, z\.mp4;"):
        read_groups(table, ["a.mp4", "y.mp4", "z.mp4"])
    with pytest.raises(UserError, match=r"its row a\.mp4 matches several videos: v/a\.mp4, w/a\.mp4"):
        read_groups(table, ["v/a.mp4", "w/a.mp4"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert read_groups(table, ["v/a.mp4#1-2", "v/a.mp4#3-4"]) == ["1", "1"]
