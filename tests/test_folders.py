"""Folders as people have them: hidden files, splits, classes."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import numbered_frames

from dsm import terminal
from dsm.cli import main
from dsm.data.folders import find_list, find_parts, find_videos
from dsm.data.lists import VideoList, read_list, write_list
from dsm.data.official.reading import read_official
from dsm.errors import UserError
from dsm.files import is_hidden
from dsm.terminal import many
from dsm.video.write import folders_for, place_of, write_video


@pytest.fixture(autouse=True)
def _forget_notes() -> None:
    terminal._noted.clear()


def write_videos(folder: Path, *names: str) -> None:
    for name in names:
        write_video(folder / name, numbered_frames(12))


def index(folder: Path, out: Path, *more: str) -> VideoList:
    main.run(["data", "index", str(folder), "--out", str(out), *more])
    return read_list(out)


def test_hidden_and_system_folders_are_ignored_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "archive"
    write_videos(folder, "fight/a.mp4", "noFight/b.mp4", ".Trash-1000/files/gone.mp4", "$RECYCLE.BIN/x.mp4")
    for odd in (
        "__MACOSX/fight/._a.mp4",
        "fight/._a.mp4",
        ".DS_Store",
        "noFight/Thumbs.db",
        "fight/terminal.txt",
    ):
        (folder / odd).parent.mkdir(parents=True, exist_ok=True)
        (folder / odd).write_bytes(b"Mac OS X")
    videos = index(folder, tmp_path / "o" / "list.txt")
    assert sorted(Path(path).name for path in videos.paths) == ["a.mp4", "b.mp4"]
    assert (tmp_path / "o" / "classes.txt").read_text() == "fight\nnoFight\n"
    output = capsys.readouterr().err
    assert "left out 6 hidden or system files and folders" in output
    assert ".Trash-1000" in output
    assert "left out 1 file that is not a video: 1 .txt" in output
    assert len(find_list(folder)) == 2


def test_unfinished_downloads_and_earlier_versions_are_no_data(tmp_path: Path) -> None:
    write_videos(tmp_path, "a.mp4")
    others = ("b.mp4.part", "c.mp4.crdownload", "d.mp4~", "~$e.mp4", "LOST.DIR/f.mp4", "@tmp/g.mp4", "h.bak")
    for name in others:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((tmp_path / "a.mp4").read_bytes())
    assert [path.name for path in find_videos(tmp_path)] == ["a.mp4"]


def test_a_frame_folder_may_contain_a_hidden_folder(tmp_path: Path) -> None:
    frames = tmp_path / "videos" / "walk"
    (frames / ".ipynb_checkpoints").mkdir(parents=True)
    for number in range(3):
        (frames / f"img_{number:05d}.jpg").touch()
    assert find_videos(tmp_path / "videos") == [frames]
    assert not is_hidden("fight")


def test_only_folders_with_readable_videos_become_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "videos"
    write_videos(folder, "run/a.mp4", "walk/b.mp4")
    (folder / "broken").mkdir()
    (folder / "broken" / "c.mp4").write_bytes(b"rubbish")
    (folder / "empty").mkdir()
    assert index(folder, tmp_path / "o" / "list.txt").labels.tolist() == [0, 1]
    assert (tmp_path / "o" / "classes.txt").read_text() == "run\nwalk\n"
    assert "folders without a readable video: broken, empty" in capsys.readouterr().err


def test_train_and_val_folders_become_two_lists_with_the_same_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "set"
    write_videos(folder, "train/archery/1.mp4", "train/bowling/1.mp4", "Validation/bowling/2.mp4")
    main.run(["data", "index", str(folder), "--out", str(tmp_path / "o" / "list.txt")])
    assert read_list(tmp_path / "o" / "list_train.txt").labels.tolist() == [0, 1]
    assert read_list(tmp_path / "o" / "list_val.txt").labels.tolist() == [1]
    assert (tmp_path / "o" / "classes.txt").read_text() == "archery\nbowling\n"
    assert not (tmp_path / "o" / "list.txt").exists()
    assert "parts of one data set" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "two"),
    [
        (("ucf101_train_split1", "ucf101_test_split1"), True),
        (("train2017", "val2017"), True),
        (("train", "eval"), True),
        (("train_station", "bus_station"), False),
        (("train_station",), False),
    ],
)
def test_parts_with_other_words_in_their_names(names: tuple[str, ...], two: bool, tmp_path: Path) -> None:
    videos = [tmp_path / name / "c" / "a.mp4" for name in names]
    assert len(find_parts(tmp_path, videos)) == 2 * two


def test_folders_that_may_be_splits_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_videos(tmp_path / "set", "train/archery/1.mp4", "extra/archery/1.mp4")
    assert len(index(tmp_path / "set", tmp_path / "list.txt")) == 2
    assert "may be parts of a data set" in capsys.readouterr().err


def test_only_known_extensions_are_removed_and_only_from_files() -> None:
    assert [place_of(path) for path in ("walk_0.5", "a/x.MP4", "v1.2.avi")] == [
        Path("walk_0.5"), Path("a/x"), Path("v1.2"),
    ]  # fmt: skip
    both = ["walk_0.5", "walk_0.7", "x.mp4", "x.avi", "walk_0.5"]
    assert [str(place) for place in folders_for(both)] == [
        "walk_0.5",
        "walk_0.7",
        "x.mp4",
        "x.avi",
        "walk_0.5",
    ]
    with pytest.raises(UserError, match=r"would be written to a/x\.mp4"):
        folders_for(["../a/x.mp4", "a/x.mp4"])


def test_a_video_listed_twice_is_written_once_and_listed_twice(tmp_path: Path) -> None:
    write_videos(tmp_path, "a.mp4", "b.mp4")
    names = ["a.mp4", "b.mp4", "b.mp4"]
    write_list(tmp_path / "l.txt", VideoList(names, np.array([0, 1, 1]), np.full(3, 12), tmp_path))
    for verb in ("pack", "frames"):
        main.run(["data", verb, str(tmp_path / "l.txt"), "--out", str(tmp_path / verb), "--workers", "1"])
        made = read_list(tmp_path / verb / "list.txt")
        assert made.frames.tolist() == [12, 12, 12]
        assert Counter(Counter(made.paths).values()) == {1: 1, 2: 1}


def test_a_name_with_accents_is_found_in_any_unicode_form(tmp_path: Path) -> None:
    name = "café à vélo.mp4"
    write_videos(tmp_path / unicodedata.normalize("NFD", "été"), unicodedata.normalize("NFD", name))
    (tmp_path / "l.txt").write_text(f"été/{name} 0 12\n", encoding="utf-8")
    assert read_list(tmp_path / "l.txt").file(0).is_file()
    write_videos(tmp_path, "été2/" + name)
    (tmp_path / "l.txt").write_text(unicodedata.normalize("NFD", f"été2/{name} 0 12\n"), encoding="utf-8")
    assert read_list(tmp_path / "l.txt").file(0).is_file()


def test_ucf101_converts_present_videos_and_names_missing_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "classInd.txt").write_text("1 ApplyEyeMakeup\n2 Archery\n")
    (tmp_path / "trainlist01.txt").write_text("ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\n")
    (tmp_path / "testlist01.txt").write_text("Archery/v_Archery_g01_c01.avi\n")
    official = read_official("ucf101", tmp_path)
    assert list(official.lists) == ["train1", "test1"]
    assert "missing, so not converted: trainlist02.txt" in capsys.readouterr().err


def test_the_kinetics_test_list_has_no_labels(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(
        "label,youtube_id,time_start,time_end,split\nabseiling,xyz,1,11,train\n"
    )
    (tmp_path / "test.csv").write_text("youtube_id,time_start,time_end,split\nabc,1,11,test\n")
    lists = read_official("kinetics", tmp_path).lists
    assert lists["test"][0].label == -1
    assert lists["train"][0].label == 0


def test_something_something_v2_is_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = {
        "id": "78687", "label": "holding potato next to vicks", "placeholders": ["potato", "vicks"],
        "template": "Holding [something] next to [something]",
    }  # fmt: skip
    labels = {"Approaching something with your camera": "1", "Holding something next to something": "0"}
    for name, content in (("labels", labels), ("train", [entry]), ("test", [{"id": "1420"}])):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    official = read_official("something-something-v2", tmp_path)
    assert official.classes == [
        "Holding something next to something",
        "Approaching something with your camera",
    ]
    assert official.lists == {"train": [("78687.webm", 0, -1)], "test": [("1420.webm", -1, -1)]}
    assert "validation.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("count", "words", "text"),
    [
        (1, ("file",), "1 file"),
        (0, ("file",), "0 files"),
        (3, ("file",), "3 files"),
        (1, ("class", "classes"), "1 class"),
        (2, ("class", "classes"), "2 classes"),
    ],
)
def test_counts_have_singular_and_plural(count: int, words: tuple[str, ...], text: str) -> None:
    assert many(count, *words) == text
