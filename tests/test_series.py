"""Frames of a folder: in natural order with any prefix, grouped into videos."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_data_verbs import output_of
from warm_dsm import dsm

from dsm.data.folders import find_list, find_videos
from dsm.data.lists import read_list
from dsm.video.decode import probe, read_frames
from dsm.video.frame_folder import frame_files, pattern_of, read_series, series_in, the_one
from dsm.video.ledger import judge
from dsm.video.source import Deadline, VideoError
from dsm.video.write import folders_for, place_of

ONE_VIDEO = {
    "a clock and a counter": [f"cam_2024-05-01_12-00-{s:02}_{n}.jpg" for s in range(3) for n in range(11)],
    "a clock over midnight": ["20240501_235959_0.png", "20240501_235959_1.png", "20240502_000000_0.png"],
    "a clock over midnight, no date": [f"cam_23-59-{s}.jpg" for s in (58, 59)] + ["cam_00-00-00.jpg"],
    "a clock alone": [f"cam_2024-05-01_12-{m:02}-{s:02}.jpg" for m in range(2) for s in (0, 20, 40)],
    "seconds since 1970": [f"13050311{s:02}.{n:06}.png" for s in range(2, 5) for n in (12, 100012, 900012)],
    "decimal seconds": [f"frame_{s}.{n:03}.jpg" for s in (8, 9, 10) for n in (0, 500)],
    "a number without zeros": [f"img_{n}.webp" for n in range(8, 13)],
    "a number and how many": [f"frame_{n}_of_12.bmp" for n in range(8, 13)],
    "a number and a time": [f"{n}_171456{n:04}.tif" for n in range(8, 13)],
    "hours apart, one each": ["2024-05-01_12-00-00_0.jpg", "2024-05-01_15-00-00_0.jpg"],
}


@pytest.mark.parametrize("kind", ONE_VIDEO)
def test_frames_are_sorted_in_natural_order(kind: str) -> None:
    names = ONE_VIDEO[kind]
    shuffled = np.random.default_rng(0).permutation(names).tolist()
    (found,) = series_in([*shuffled, "._" + names[0], "notes.txt"])
    assert found.names == names


def test_clips_in_one_folder_are_separated() -> None:
    names = [f"Abuse{clip:03}_x264_{n}.png" for clip in (1, 2, 10) for n in (0, 9, 10, 100)]
    found = the_one(series_in(reversed(names)))
    assert [pattern_of(one) for one in found] == [f"Abuse{clip:03}_x264_*.png" for clip in (1, 2, 10)]
    assert [name for one in found for name in one.names] == names
    recordings = [f"cam_2024-05-01_{h}-00-00_{n:04}.jpg" for h in (12, 13) for n in range(40)]
    assert [len(one.names) for one in series_in(recordings)] == [40, 40]


def test_flow_and_single_pictures_are_not_clips() -> None:
    frames = [f"shot-{n:03}.jpg" for n in range(4)]
    other = [f"flow_{axis}_{n:05}.jpg" for axis in "xy" for n in range(9)]
    (found,) = the_one(series_in([*frames, *other, "thumbnail1.jpg"]))
    assert found.names == frames
    assert {
        one.prefix for one in the_one(series_in(["toy_1.png", "toy_2.png", "cat_1.png", "cat_2.png"]))
    } == {
        "toy_",
        "cat_",
    }


def save(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((32, 32, 3), level, np.uint8)).save(path)


@pytest.mark.parametrize("ending", ["tif", "tiff", "bmp", "webp", "png", "jpg"])
def test_pictures_of_every_format_are_read(ending: str, tmp_path: Path) -> None:
    for number in range(12):
        save(tmp_path / "v" / f"img_{number}.{ending}", 20 * number)
    assert probe(tmp_path / "v").frames == 12
    levels = read_frames(tmp_path / "v", [11, 2, 10]).mean(axis=(1, 2, 3))
    assert np.allclose(levels, [220, 40, 200], atol=3)
    assert judge(tmp_path / "v").verdict == "ok"
    assert find_videos(tmp_path) == [tmp_path / "v"]


def test_a_picture_is_recognised_by_content(tmp_path: Path) -> None:
    for number in range(2):
        save(tmp_path / f"{number}.png", 100)
        (tmp_path / f"{number}.png").rename(tmp_path / f"{number}.jpg")
    assert read_frames(tmp_path, [1]).mean() == 100


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """A class folder with the frames of two clips."""
    for clip, count in ((1, 12), (2, 9)):
        for number in range(count):
            save(tmp_path / "data" / "Abuse" / f"Abuse{clip:03}_x264_{10 * number}.png", 20 * clip + number)
    return tmp_path / "data"


def test_clips_in_a_folder_are_indexed_read_and_packed_separately(flat: Path, tmp_path: Path) -> None:
    result = dsm("data", "index", flat, "--out", flat / "list.txt")
    assert result.returncode == 0, output_of(result)
    videos = read_list(flat / "list.txt")
    assert list(videos.paths) == ["Abuse/Abuse001_x264_*.png", "Abuse/Abuse002_x264_*.png"]
    assert videos.frames.tolist() == [12, 9]
    assert round(read_frames(videos.file(1), [8]).mean()) == 48
    assert judge(videos.file(0)).frames == 12
    assert list(find_list(flat / "Abuse").paths) == list(videos.paths)
    assert place_of(videos.paths[0]) == Path("Abuse/Abuse001_x264")
    result = dsm("data", "pack", flat / "list.txt", "--out", tmp_path / "pack", "--short-side", "32")
    assert result.returncode == 0, output_of(result)
    assert read_list(tmp_path / "pack" / "list.txt").frames.tolist() == [12, 9]


def test_no_folder_is_named_with_a_space_at_its_end() -> None:
    assert place_of("a/walk .mp4") == Path("a/walk")
    assert folders_for(["a/walk .mp4", "a/walk.mp4"]) == [Path("a/walk .mp4"), Path("a/walk.mp4")]


def test_no_folder_is_named_like_a_url() -> None:
    places = folders_for(["https://host/v/a.mp4", "s3:/bucket/a.mp4"])
    assert places == [Path("https/host/v/a"), Path("s3/bucket/a")]


def test_a_folder_of_several_clips_is_not_read_as_one(flat: Path) -> None:
    with pytest.raises(VideoError, match=r"frames of 2 clips, such as Abuse001_x264_\*.png .* list each"):
        read_frames(flat / "Abuse", [0])
    with pytest.raises(VideoError, match=r"no numbered picture Abuse003"):
        frame_files(flat / "Abuse" / "Abuse003_x264_*.png")


def test_a_picture_of_a_long_folder_is_read_without_a_table_of_all(tmp_path: Path) -> None:
    file = tmp_path / "img_00001.png"
    Image.new("RGB", (16, 16)).save(file)
    tracemalloc.start()
    pictures, broken = read_series([file] * 200_000, [100_000], None, Deadline(file, None))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(pictures) == 1
    assert not broken
    assert peak < 4e6  # the list itself takes 1.6 MB
