"""``dsm data convert``: official annotations become lists."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_data_verbs import output_of
from warm_dsm import dsm

from dsm.data.lists import read_list
from dsm.data.official.reading import read_official
from dsm.errors import UserError


@pytest.mark.parametrize("name", ["ucf101", "hmdb51"])
def test_official_splits_have_the_published_counts(name: str, shared: Path) -> None:
    official = read_official(name, shared / "data" / "splits" / name)
    counts = {split: len(entries) for split, entries in official.lists.items()}
    assert counts | {"classes": len(official.classes)} == official.published
    for entries in official.lists.values():
        assert all(entry.path.split("/")[0] == official.classes[entry.label] for entry in entries)


def test_kinetics_lists_downloaded_videos_and_names_missing_ones(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "train.csv").write_text(
        "label,youtube_id,time_start,time_end,split\n"
        "air drumming,-abc_d,12,22,train\nzumba,xyz,0,10,train\nzumba,gone,5,15,train\n"
    )
    (notes / "val.csv").write_text("label,youtube_id,time_start,time_end,split\nzumba,val1,3,13,val\n")
    videos = tmp_path / "k400"
    for place in (
        "train/air drumming/-abc_d_000012_000022.mp4",
        "zumba/xyz_000000_000010.webm",
        "val1_000003_000013.mkv",
    ):
        (videos / place).parent.mkdir(parents=True, exist_ok=True)
        (videos / place).touch()
    for ending in (".jpg", ".txt", ".zip"):  # other files with a video's name are not videos
        (videos / "zumba" / f"xyz_000000_000010{ending}").touch()
    convert = (
        "data", "convert", "kinetics", "--annotations", notes, "--videos", videos, "--out", tmp_path / "l",
    )  # fmt: skip
    out = dsm(*convert)
    assert out.returncode == 0, output_of(out)
    assert "train: 3, of which 1 are absent" in out.stderr
    assert "gone_000005_000015.mp4" in (tmp_path / "l" / "absent.txt").read_text()
    train = read_list(tmp_path / "l" / "train.txt", videos)
    assert list(train.paths) == [
        "train/air drumming/-abc_d_000012_000022.mp4",
        "zumba/xyz_000000_000010.webm",
    ]
    assert train.labels.tolist() == [0, 1]
    assert (tmp_path / "l" / "classes.txt").read_text() == "air drumming\nzumba\n"
    (videos / "zumba" / "gone_000005_000015.mp4").touch()
    out = dsm(*convert, "--overwrite")
    assert out.returncode == 0, output_of(out)
    assert not (tmp_path / "l" / "absent.txt").exists()
    (videos / "val1_000003_000013.mkv").unlink()
    out = dsm(*convert, "--overwrite")
    assert out.returncode == 0, output_of(out)
    assert not (tmp_path / "l" / "val.txt").exists()
    (tmp_path / "elsewhere").mkdir()
    out = dsm(
        "data", "convert", "kinetics", "--annotations", notes, "--videos", tmp_path / "elsewhere",
        "--out", tmp_path / "none",
    )  # fmt: skip
    assert out.returncode == 2
    assert "elsewhere: contains none of the 4 videos that the annotations name" in output_of(out)
    assert not (tmp_path / "none").exists()


def test_something_something_names_folders_of_frames(tmp_path: Path) -> None:
    prefix = "something-something-v1"
    (tmp_path / f"{prefix}-labels.csv").write_text("Holding something\nTurning something; or not\n")
    (tmp_path / f"{prefix}-train.csv").write_text(
        "100218;Turning something; or not\n24413;Holding something\n"
    )
    (tmp_path / f"{prefix}-validation.csv").write_text("7;Holding something\n")
    (tmp_path / f"{prefix}-test.csv").write_text("9\n")
    lists = read_official("something-something-v1", tmp_path).lists
    assert lists["train"] == [("100218", 1, -1), ("24413", 0, -1)]
    assert lists["val"] == [("7", 0, -1)]
    assert lists["test"] == [("9", -1, -1)]


def test_the_numbers_of_ucf101s_classes_count_not_their_order(tmp_path: Path) -> None:
    (tmp_path / "classInd.txt").write_text("1 Archery\n10 Yo Yo\n2 Diving\n")
    (tmp_path / "trainlist01.txt").write_text("Diving/v.avi 2\nYo Yo/v.avi 10\n")
    official = read_official("ucf101", tmp_path)
    assert official.classes == ["Archery", "Diving", "Yo Yo"]
    assert official.lists["train1"] == [("Diving/v.avi", 1, -1), ("Yo Yo/v.avi", 2, -1)]


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("hmdb51", {"run_test_split1.txt": "a.avi 1\n"}),
        ("kinetics", {"train.csv": "label,youtube_id,time_start,time_end,split\nrun,abc,1,11,train\n"}),
        ("kinetics", {"train.json": '{"abc": {"annotations": {"label": "run", "segment": [1, 11]}}}'}),
    ],
)
def test_hidden_files_beside_annotations_are_left_alone(
    name: str, files: dict[str, str], tmp_path: Path
) -> None:
    for file, text in {**files, "labels.csv": "id,name\n0,run\n"}.items():
        (tmp_path / file).write_text(text)
        (tmp_path / f"._{file}").write_bytes(b"\0\5\26\7Mac OS X")
    official = read_official(name, tmp_path)
    assert official.classes == ["run"]
    assert [len(entries) for entries in official.lists.values()] == [1]


def test_diving48_lists_have_frame_counts(tmp_path: Path) -> None:
    row = {"vid_name": "_8Vy3dlHg2w_00000", "label": 12, "start_frame": 0, "end_frame": 133}
    for name in ("train", "test"):
        (tmp_path / f"Diving48_V2_{name}.json").write_text(json.dumps([row]))
    official = read_official("diving48", tmp_path)
    assert official.lists["train"] == [("_8Vy3dlHg2w_00000.mp4", 12, 133)]
    assert official.published["train"] == 15027


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        ("ucf101", {}, "classInd.txt: no such annotation file"),
        (
            "ucf101",
            {"classInd.txt": "1 A\n", "trainlist01.txt": "B/v.avi 1\n"},
            "'B' is not one of the 1 class",
        ),
        ("ucf101", {"classInd.txt": "Archery\n"}, "expected `number name` on each line"),
        ("ucf101", {"classInd.txt": "one Archery\n"}, "the number 'one' is not an integer"),
        (
            "diving48",
            dict.fromkeys(("Diving48_V2_train.json", "Diving48_V2_test.json"), "[]"),
            "name no video",
        ),
        ("hmdb51", {"x.txt": ""}, "contains no CLASS_test_split1.txt"),
        ("hmdb51", {"run_test_split1.txt": "a.avi 3\n"}, "expected `NAME 0|1|2`"),
        ("kinetics", {"a.csv": "label,id\nx,y\n"}, "lacks the columns youtube_id"),
        ("ucf101", {"classInd.txt": "1 A\n"}, "trainlist01.txt: no such annotation file"),
        ("something-something-v2", {"labels.json": "[]"}, "expected a JSON object"),
        ("something-something-v2", {"labels.json": '{"a": "1"}'}, "numbers, from 0 on"),
        ("diving48", {"Diving48_V2_train.json": "{"}, "not valid JSON"),
        ("diving48", {"Diving48_V2_train.json": "[1]"}, "expected entries with vid_name"),
    ],
)
def test_wrong_annotations_are_named(name: str, files: dict[str, str], message: str, tmp_path: Path) -> None:
    for file, text in files.items():
        (tmp_path / file).write_text(text)
    with pytest.raises(UserError) as error:
        read_official(name, tmp_path)
    assert message in str(error.value)
