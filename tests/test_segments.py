"""Segments of long videos are read, extracted, packed and checked like videos, without cutting files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import frame_numbers, numbered_frames

from dsm.cli import main
from dsm.data.groups import read_groups
from dsm.data.lists import needed, read_list
from dsm.data.reading import Reader
from dsm.data.settings import ClipConfig, Grouping
from dsm.errors import UserError
from dsm.evaluate.features import Features
from dsm.video.decode import probe, read_frames
from dsm.video.ledger import judge
from dsm.video.segments import frames_between, segment_name, segment_of
from dsm.video.source import VideoError
from dsm.video.times import frame_times
from dsm.video.write import folders_for, write_video


@pytest.fixture
def long(tmp_path: Path) -> Path:
    """A list of two segments of one video of 40 frames, 10 a second, and of the whole."""
    write_video(tmp_path / "v" / "long.mp4", numbered_frames(40), fps=10)
    (tmp_path / "l.txt").write_text("v/long.mp4 0 0.5 1.5\nv/long.mp4 1 2 3\nv/long.mp4 1 1.5 2.25\n")
    return tmp_path / "l.txt"


def test_a_segment_has_its_own_name_and_reads_like_a_file(long: Path) -> None:
    videos = read_list(long)
    assert list(videos.paths) == ["v/long.mp4#0.5-1.5", "v/long.mp4#2-3", "v/long.mp4#1.5-2.25"]
    assert videos.labels.tolist() == [0, 1, 1]
    file = videos.file(0)
    assert probe(file).frames == 10
    assert frame_numbers(read_frames(file, [0, 9, 3, 10])) == [5, 14, 8, 5]
    assert frame_times(file) == pytest.approx(np.arange(10) / 10, abs=1e-6)
    reader = Reader(videos, ClipConfig(frames=3, stride=1, resize=48, size=48))
    assert reader.total(2) == 8
    assert frame_numbers(reader.read(1, [np.array([0, 1, 9])])[0]) == [20, 21, 29]
    slow = Reader(videos, ClipConfig(frames=2, stride=1, fps=5, resize=48, size=48))
    assert slow.total(0) == 5
    assert frame_numbers(slow.read(0, [np.array([0, 4])])[0]) == [5, 13]
    assert set(needed(videos)) == {long, long.parent / "v" / "long.mp4"}


def test_a_file_named_like_a_segment_is_not_one(tmp_path: Path) -> None:
    (tmp_path / "walk#1-2").mkdir()
    assert segment_of(tmp_path / "walk#1-2") is None
    assert segment_of("a.mp4#2-1") is None
    assert segment_of(segment_name("a#b.mp4", 0, 1 / 3)) == (Path("a#b.mp4"), 0, 0.333333)


def test_a_segment_has_at_least_the_frame_on_screen() -> None:
    times = np.arange(20) / 10

    def numbers(name: str) -> range:
        segment = segment_of(name)
        assert segment is not None
        return frames_between(times, segment)

    assert numbers("a.mp4#0-1") == range(10)
    assert numbers("a.mp4#0.52-0.53") == range(5, 6)
    assert numbers("a.mp4#1.5-99") == range(15, 20)
    with pytest.raises(VideoError, match=r"cannot start at second 2\.5"):
        numbers("a.mp4#2.5-3")


def test_segments_are_packed_cut_and_checked(long: Path, tmp_path: Path) -> None:
    for verb in ("pack", "frames"):
        main.run(["data", verb, str(long), "--out", str(tmp_path / verb), "--workers", "1"])
        made = read_list(tmp_path / verb / "list.txt")
        assert made.frames.tolist() == [10, 10, 8]
        assert made.labels.tolist() == [0, 1, 1]
        assert "long_2-3" in made.paths[1]
        assert frame_numbers(read_frames(made.file(1), [0, 9])) == [20, 29]
    words = ["data", "check", str(long), "--json", str(tmp_path / "l.json"), "--workers", "1"]
    main.run([*words, "--frames", "9", "--clean", str(tmp_path / "clean.txt")])
    entries = json.loads((tmp_path / "l.json").read_text())["files"]
    assert [one["verdict"] for one in entries] == ["ok", "ok", "short"]
    clean = read_list(tmp_path / "clean.txt")
    assert list(clean.paths) == list(read_list(long).paths)
    assert clean.frames.tolist() == [10, 10, 8]


def test_a_segment_beyond_the_end_of_its_file_is_reported(long: Path) -> None:
    assert judge(f"{long.parent}/v/long.mp4#7-8").verdict == "undecodable"
    with pytest.raises(VideoError, match="cannot start at second 7"):
        read_frames(f"{long.parent}/v/long.mp4#7-8", [0])
    assert judge(f"{long.parent}/v/none.mp4#7-8").verdict == "missing"


def test_segments_are_read_in_any_list_form(long: Path) -> None:
    header = long.with_name("h.csv")
    header.write_text("video,start,end,label\nv/long.mp4,0:00.5,0:01.5,0\nv/long.mp4,,,1\n")
    assert list(read_list(header).paths) == ["v/long.mp4#0.5-1.5", "v/long.mp4"]
    first = long.with_name("first.txt")
    first.write_text("v/long.mp4 0.5 1.5 walk\nv/long.mp4 2 3 run\n")
    assert read_list(first).labels.tolist() == [1, 0]
    wrong = long.with_name("wrong.csv")
    wrong.write_text("video,start,end\nv/long.mp4,3,2\n")
    with pytest.raises(UserError, match="line 2: a segment cannot go from '3' to '2' seconds"):
        read_list(wrong)


def test_a_segment_has_its_own_place() -> None:
    names = ["v/a.mp4#1-2", "v/a.mp4", "/x/a.mp4#2-3.5"]
    assert [str(place) for place in folders_for(names)] == ["v/a_1-2", "v/a", "x/a_2-3.5"]


def test_segments_are_extracted_under_their_names(long: Path, tmp_path: Path) -> None:
    small = ["--weights", "none", "--backbone", "tiny", "--frames", "4", "--stride", "1"]
    small += ["--resize", "32", "--size", "32", "--workers", "0"]
    main.run(["extract", *small, "--data", str(long), "--out", str(tmp_path / "f.npz")])
    found = np.load(tmp_path / "f.npz")
    assert found["paths"].tolist() == list(read_list(long).paths)
    assert len(np.unique(found["features"], axis=0)) == 3


def test_segments_of_a_file_stay_in_one_split(tmp_path: Path) -> None:
    lines = [f"v/{file}.mp4#{start}-{start + 1} 0" for file in "abcd" for start in range(5)]
    (tmp_path / "l.txt").write_text("\n".join(lines))
    main.run(["data", "split", str(tmp_path / "l.txt"), "--out", str(tmp_path / "lists")])
    parts = [
        {path.split("#")[0] for path in read_list(tmp_path / "lists" / f"{part}.txt").paths}
        for part in ("train", "test")
    ]
    assert not parts[0] & parts[1]
    (tmp_path / "groups.tsv").write_text("path\tgroup\nv/a.mp4\t1\nv/b.mp4\t1\n")
    assert read_groups(tmp_path / "groups.tsv", ["v/a.mp4#1-2", "v/b.mp4"]) == ["1", "1"]


def test_segments_of_a_file_are_one_group_unless_groups_are_given() -> None:
    paths = ["a.mp4#0-5", "a.mp4#5-10", "b.mp4#0-5", "c.mp4"]
    assert Grouping().of(paths) == ["a.mp4", "a.mp4", "b.mp4", "c.mp4"]
    assert Grouping(group_regex=r"#(\d)|c").of(paths) == ["0", "5", "0", "c"]
    assert Grouping().of(["a.mp4", "b.mp4", "b.mp4"]) is None
    features = Features(np.zeros((4, 2), np.float32), np.arange(4), paths, {"root": "/x"})
    assert features.groups(Grouping()) == ["a.mp4", "a.mp4", "b.mp4", "c.mp4"]
    clips = replace(features, times=np.zeros((4, 2), np.float32))
    assert clips.groups(Grouping()) == ["a.mp4", "a.mp4", "b.mp4", "c.mp4"]
