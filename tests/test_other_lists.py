"""Lists in other forms are read if one reading fits, and refused with a question if two do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import numbered_frames
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dsm import terminal
from dsm.cli import main
from dsm.data.clips import EvaluationClips
from dsm.data.lists import VideoList, read_list, write_list
from dsm.data.loading import load_clips
from dsm.data.reading import Reader
from dsm.data.settings import ClipConfig
from dsm.errors import UserError
from dsm.train.finetune import FinetuneData, read_lists
from dsm.verbs.settings.data import check_columns
from dsm.video.write import write_video


@pytest.fixture(autouse=True)
def _forget_notes() -> None:
    terminal._noted.clear()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with v/a.mp4 and v/b.mp4 of 50 frames, and others with spaces in their names."""
    folder = tmp_path_factory.mktemp("place")
    for name in ("v/a.mp4", "v/b.mp4", "my films/c d.mp4", "my films/e, f.mp4"):
        write_video(folder / name, numbered_frames(50, 32, 32) // 8)
    return folder


def read(place: Path, text: str, name: str = "l.txt", **more: object) -> VideoList:
    (place / name).write_bytes(text.encode())
    return read_list(place / name, **more)  # type: ignore[arg-type]


FORMS = {
    "commas": "v/a.mp4,0\nv/b.mp4,1\n",
    "commas and spaces": "v/a.mp4, 0\r\nv/b.mp4, 1\r\n",
    "a header": "path,label\nv/a.mp4,0\nv/b.mp4,1\n",
    "pandas' header": ",Label,File Name,split\n0,0,v/a.mp4,train\n1,1,v/b.mp4,train\n",
    "an unknown header": "clip_id,what\nv/a.mp4,0\nv/b.mp4,1\n",
    "a header of words": "video label\nv/a.mp4 0\nv/b.mp4 1\n",
    "floats": "path,label\nv/a.mp4,0.0\nv/b.mp4,1.0\n",
    "quotes": '"v/a.mp4" 0\n"v/b.mp4" 1\n',
    "other quotes": "'v/a.mp4' 0\n'v/b.mp4' 1\n",
    "quotes and commas": '"v/a.mp4","0"\n"v/b.mp4","1"\n',
    "semicolons": "v/a.mp4;0\nv/b.mp4;1\n",
    "backslashes": "v\\a.mp4 0\nv\\b.mp4 1\n",
    "backslashes and commas": "v\\a.mp4,0\nv\\b.mp4,1\n",
    "lines of JSON": '{"video": "v/a.mp4", "label": 0}\n{"video": "v/b.mp4", "label": 1}\n',
    "JSON": '[{"label": [0], "path": "v/a.mp4"},\n {"label": [1], "path": "v/b.mp4", "x": 3}]\n',
    "JSON, labels by path": '{\n "v/a.mp4": 0,\n "v/b.mp4": 1\n}\n',
    "JSON, class names by path": '{"v/a.mp4": "fight", "v/b.mp4": "noFight"}',
    "class names": "v/a.mp4 fight\nv/b.mp4 noFight\n",
    "class names of words": "v/a.mp4 air drumming\nv/b.mp4 zumba\n",
    "class names and numbers": "v/a.mp4,fight,0\nv/b.mp4,noFight,1\n",
    "the label first": "0 v/a.mp4\n1 v/b.mp4\n",
    "frames before labels, from 0": "v/a.mp4 50 0\nv/b.mp4 50 1\n",
    "frames before labels, commas": "v/a.mp4,50,0\nv/b.mp4,48,1\n",
    "frames behind labels, commas": "v/a.mp4,0,50\nv/b.mp4,1,48\n",
    "frames and class names": "v/a.mp4 50 fight\nv/b.mp4 50 noFight\n",
    "tabs": "v/a.mp4\tfight\nv/b.mp4\tno fight\n",
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_common_list_forms_are_read_and_reported(
    place: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = read(place, text)
    assert list(videos.paths) == ["v/a.mp4", "v/b.mp4"]
    assert videos.labels.tolist() == [0, 1]
    assert "l.txt: read as " in capsys.readouterr().err


def test_a_header_above_bare_paths_is_not_a_video(place: Path) -> None:
    assert list(read(place, "video\nv/a.mp4\n").paths) == ["v/a.mp4"]


def test_utf16_lists_of_powershell_are_read(place: Path) -> None:
    (place / "wide.txt").write_bytes("v/a.mp4 0\r\nv/b.mp4 1\r\n".encode("utf-16"))
    assert read_list(place / "wide.txt").labels.tolist() == [0, 1]


def test_our_own_form_is_recognised(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "my films/c d.mp4 0 50\nmy films/e, f.mp4 1 50\n"
    assert list(read(place, text).paths) == ["my films/c d.mp4", "my films/e, f.mp4"]
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "v/a.mp4,50\nv/b.mp4,50\n",
            "may be the frame count or the label.*--columns path,frames --out NEW.txt",
        ),
        ("v/a.mp4 50\nv/b.mp4 50\n", "may be the frame count or the label"),
        ("v/a.mp4 1 3 5\nv/b.mp4 0 2 4\n", "several labels per line"),
        ("v/a.mp4 1 3 5\nv/b.mp4 0 2\n", "several labels per line"),
        ('v/a.mp4,"1,3"\nv/b.mp4,"2,4"\n', "several labels per line"),
        ('{"path": "v/a.mp4", "label": [1, 2]}\n', "several labels per line"),
        ("x/a.mp4 50 0\nx/b.mp4 50 1\n", "--columns path,frames,label"),
        ("x/a.mp4,30,3\nx/b.mp4,40,2\n", "two numbers per line.*--columns path,label,frames"),
        (
            "label,youtube_id,time_start\nx,v/a.mp4,3\n",
            "header does not name every column.*--columns label,path,start ",
        ),
        ("video,start_frame,end_frame\nv/a.mp4,0,9\n", "in seconds"),
        ("path,label\nv/a.mp4,0\nv/b.mp4,x\n", "line 3: the label 'x' is not an integer"),
        ("path,label\nv/a.mp4,0\nv/b.mp4\n", "line 3: expected `path,label`"),
        ('{"path": "v/a.mp4"}\n{"file": "v/b.mp4"}\n', "line 2: expected a JSON object with path"),
    ],
)
def test_an_ambiguous_list_is_refused(place: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=f"(?s){message}"):
        read(place, text)


def test_frame_counts_of_the_list_are_compared_with_the_files(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = read(place, "v/a.mp4 50 1\nv/b.mp4 40 2\n")
    assert videos.labels.tolist() == [1, 2]
    assert videos.frames.tolist() == [50, 40]
    output = capsys.readouterr().err
    assert "read as path,frames,label" in output
    assert "of 2 videos opened, 1 has a different number of frames" in output
    assert "v/b.mp4 has 50, not 40" in output
    terminal._noted.clear()
    reader = Reader(videos, ClipConfig(frames=4, stride=1, resize=32, size=32))
    for index in range(2):
        reader.read(index, [np.arange(4)])
    reader.tell_lengths()
    assert "1 of the 2 videos that were read has a different number of frames" in capsys.readouterr().err
    read_list(videos.source)
    assert "videos opened" not in capsys.readouterr().err  # once


@pytest.mark.parametrize(("stride", "looped"), [(13, 0), (16, 1), (17, 2)])
def test_videos_that_are_shorter_than_a_clip_are_reported_once(
    place: Path, capsys: pytest.CaptureFixture[str], stride: int, looped: int
) -> None:
    videos = read(place, "v/a.mp4 0 50\nv/b.mp4 1 40\n")
    clip = ClipConfig(frames=4, stride=stride, resize=32, size=32)
    for _ in range(2):
        list(load_clips(EvaluationClips(videos, clip, windows=1), 2))
    output = capsys.readouterr().err
    assert output.count("shorter than a clip") == bool(looped), output
    if looped:
        assert f"{looped} of the videos that were read" in output
        assert f"spans {3 * stride + 1} frames (4 at stride {stride})" in output


def test_labels_that_start_at_1_are_reported_with_the_remedy(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "v/a.mp4 1 50\nv/b.mp4 2 50\n"
    assert read(place, text, "one.txt").labels.tolist() == [1, 2]
    output = capsys.readouterr().err
    assert "class 0 has no video" in output
    words = output[output.index("`dsm ") + 5 : output.rindex("`")].replace(
        "NEW.txt", str(place / "new" / "n.txt")
    )
    main.run(words.split())
    again = read_list(place / "new" / "n.txt")
    assert again.labels.tolist() == [0, 1]
    assert again.frames.tolist() == [50, 50]
    (place / "half.txt").write_text("v/a.mp4 1 50\n")
    capsys.readouterr()
    read_list(place / "half.txt")
    assert not capsys.readouterr().err


def test_named_classes_have_the_same_numbers_in_train_and_test(place: Path, tmp_path: Path) -> None:
    read(place, "v/a.mp4 fight\nv/b.mp4 noFight\n", "train.csv")
    read(place, "v/b.mp4 noFight\n", "test.csv")
    for name in ("train", "test"):
        main.run(["data", "convert", str(place / f"{name}.csv"), "--out", str(tmp_path / f"{name}.txt")])
    assert (tmp_path / "classes.txt").read_text() == "fight\nnoFight\n"
    assert read_list(tmp_path / "test.txt").labels.tolist() == [1]
    read(place, "v/b.mp4 dance\n", "odd.csv")
    with pytest.raises(UserError, match="line 1: 'dance' is not one of the 2 classes"):
        main.run(["data", "convert", str(place / "odd.csv"), "--out", str(tmp_path / "odd.txt")])
    _, test = read_lists(FinetuneData(place / "train.csv", test=place / "test.csv"))  # not converted
    assert test is not None
    assert test.labels.tolist() == [1]


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("v/gone.mp4 0 5 9\nv/lost.mp4 1 2 7\n", "--columns path,label,start,end --out NEW.txt"),
        ("v/a.mp4 0 5 9\nv/b.mp4 1 2 7\n", "--columns path,label,start,end --out NEW.txt"),
        ("id1,v/a.mp4,3,x,0.1\nid2,v/b.mp4,4,y,0.2\n", "--columns label,path,_,_,_ --out NEW.txt"),
    ],
)
def test_an_unrecognised_list_names_the_command_that_converts_it(place: Path, text: str, right: str) -> None:
    listed = place / "odd.csv"
    listed.write_text(text)
    with pytest.raises(UserError, match=f"`dsm data convert {listed} {right}`"):
        read_list(listed)


def test_ignored_columns_are_reported(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = place / "acts.csv"
    listed.write_text("clip,from,to,act\nv/a.mp4,0,1,run\nv/b.mp4,0,1,walk\n")
    assert not read_list(listed).labelled
    output = capsys.readouterr().err
    assert "3 columns are not used" in output
    assert f"`dsm data convert {listed} --columns path,_,_,_ --out NEW.txt`" in output
    assert read_list(listed, columns=("path", "start", "end", "class")).labels.tolist() == [0, 1]
    assert "not used" not in capsys.readouterr().err


def test_columns_can_be_named_by_a_flag(place: Path, tmp_path: Path) -> None:
    read_from = place / "odd.txt"
    read_from.write_text("7 v/a.mp4 50 3\n8 v/b.mp4 50 4\n")
    words = ["data", "convert", str(read_from), "--out", str(tmp_path / "n.txt"), "--overwrite"]
    main.run([*words, "--columns", "_,path,frames,label"])
    videos = read_list(tmp_path / "n.txt")
    assert [videos.file(index) for index in range(2)] == [place / "v" / "a.mp4", place / "v" / "b.mp4"]
    assert videos.labels.tolist() == [3, 4]
    for wrong in ("path,labels", "label", "path,path", "path,start", "path,label,class"):
        with pytest.raises(UserError, match="--columns: "):
            main.run([*words, "--columns", wrong])


_NAMES = st.text(st.sampled_from("ab ,;|\"'\\{[#.5"), min_size=1, max_size=12).map(lambda text: f"v{text}w")


@given(st.lists(_NAMES, min_size=1, max_size=4), st.booleans(), st.booleans())
def test_our_lists_are_never_taken_for_another_form(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], labelled: bool, counted: bool
) -> None:
    folder = tmp_path_factory.mktemp("lists")
    ours = np.arange(len(names)) if labelled else np.full(len(names), -1)
    frames = np.full(len(names), 9 if counted else -1)
    write_list(folder / "l.txt", VideoList(names, ours, frames, folder))
    again = read_list(folder / "l.txt")
    assert list(again.paths) == names
    assert again.labels.tolist() == ours.tolist()


def test_broken_json_is_reported(place: Path) -> None:
    with pytest.raises(UserError, match=r"not JSON|expected"):
        read(place, json.dumps({"path": "v/a.mp4"}) + "\n{half\n")


@pytest.fixture(scope="module")
def raw(place: Path) -> Path:
    """``place`` with folders of 30 and 40 frames, as mmaction2's denseflow writes them."""
    for name, count in (("raw/A/x", 30), ("raw/B/y z", 40)):
        (place / name).mkdir(parents=True)
        for number in range(1, count + 1):
            Image.new("RGB", (16, 16)).save(place / name / f"img_{number:05}.jpg")
    return place


ANNOTATIONS = {
    "mmaction2, videos": ("v/a.mp4 0\nv/b.mp4 1\n", ["v/a.mp4", "v/b.mp4"], [-1, -1]),
    "mmaction2, rawframes": ("raw/A/x 30 0\nraw/B/y z 40 1\n", ["raw/A/x", "raw/B/y z"], [30, 40]),
    "SlowFast, blanks": ("PLACE/v/a.mp4 0\nPLACE/v/b.mp4 1\n", ["PLACE/v/a.mp4", "PLACE/v/b.mp4"], [-1, -1]),
    "SlowFast, commas": ("v/a.mp4,0\nv/b.mp4,1\n", ["v/a.mp4", "v/b.mp4"], [-1, -1]),
    "JSON": (
        '[{"filename": "v/a.mp4", "label": 0, "box": [1]}, {"filename": "v/b.mp4", "label": 1, "box": []}]',
        ["v/a.mp4", "v/b.mp4"],
        [-1, -1],
    ),
}


@pytest.mark.parametrize(("text", "paths", "frames"), ANNOTATIONS.values(), ids=ANNOTATIONS)
def test_annotations_of_other_tools_are_read_as_they_are(
    raw: Path, text: str, paths: list[str], frames: list[int]
) -> None:
    videos = read(raw, text.replace("PLACE", str(raw)), "train.csv")
    assert list(videos.paths) == [path.replace("PLACE", str(raw)) for path in paths]
    assert videos.labels.tolist() == [0, 1]
    assert videos.frames.tolist() == frames


@pytest.mark.parametrize(
    ("text", "columns", "label", "frames"),
    [
        ("raw/A/x 30 0 1 5\nraw/A/x 40 1\n", "path,frames,label,_", [0, 1], [30, 40]),
        ("raw/A/x 30 0 1 5\nraw/A/x 40 1\n", "path,frames,_", [-1, -1], [30, 40]),
        ("v/a.mp4 0 1 3\nv/b.mp4 1\n", "path,label,_", [0, 1], [-1, -1]),
        ("v/a.mp4 0 1 3\nv/b.mp4\n", "path,_", [-1, -1], [-1, -1]),
        ("v/a.mp4 0,1\nv/b.mp4 1\n", "path,_", [-1, -1], [-1, -1]),
        ("path,label,x\nv/a.mp4,0,1,3\nv/b.mp4,1\n", "path,label,_", [0, 1], [-1, -1]),
        ("a,0,x\nb,1,y\n", "path,label,_", [0, 1], [-1, -1]),
    ],
)
def test_several_labels_are_left_out_on_request(
    raw: Path, text: str, columns: str, label: list[int], frames: list[int]
) -> None:
    videos = read(raw, text, columns=check_columns(columns))
    assert videos.labels.tolist() == label
    assert videos.frames.tolist() == frames
    assert [path.split(" ")[0] for path in videos.paths] == list(videos.paths)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raw/A/x 30 0 1\nraw/B/y z 40 1\n", "--columns path,frames,label,_ --out NEW.txt` keeps the first"),
        (
            "raw/A/x 30 0 1\nraw/B/y z 40 1 3\n",
            "--columns path,frames,label,_ --out NEW.txt` keeps the first",
        ),
        ("v/a.mp4 0 1 3\nv/b.mp4 1\n", "--columns path,label,_ --out NEW.txt` keeps the first"),
        ('[{"filename": "v/a.mp4", "label": {"concept": [1]}}]', "dsm takes one per video; keep one."),
        (
            'original_vido_id video_id frame_id path labels\nx 0 0 raw/A/x/img_1.jpg ""\n',
            "lists single frames",
        ),
        ('{"a": {"duration_second": 2.0, "annotations": []}}', "is one JSON object; a JSON list"),
        ('{\n "a": {\n  "annotations": []}}', "is one JSON object; a JSON list"),
    ],
)
def test_annotations_that_do_not_fit_are_refused_with_a_remedy(raw: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        read(raw, text)
    assert message in str(error.value)
