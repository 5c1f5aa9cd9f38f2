"""Two lists with class names and without ``classes.txt``: a class has the same number in both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import numbered_frames
from warm_dsm import dsm

from dsm.data.classes import carry_classes, named, names_of, read_classes, write_classes
from dsm.data.lists import read_list
from dsm.errors import UserError
from dsm.evaluate.feature_files import load_features
from dsm.evaluate.features import Features, numbered_alike
from dsm.train.finetune import FinetuneData, read_lists
from dsm.verbs.bias import labelled
from dsm.video.write import write_video

CLIP = ("--weights", "none", "--backbone", "tiny", "--frames", "4", "--stride", "1", "--resize", "32",
        "--size", "32", "--workers", "0")  # fmt: skip


@pytest.fixture
def lists(tmp_path: Path) -> tuple[Path, Path]:
    """A list of three classes, and one of the last two of them."""
    for name in "abcdef":
        write_video(tmp_path / f"{name}.mp4", numbered_frames(8))
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    train.write_text("a.mp4,jump\nb.mp4,walk\nc.mp4,wave\nd.mp4,wave\n")
    test.write_text("e.mp4,wave\nf.mp4,walk\n")
    return train, test


def test_training_and_monitored_list_number_classes_alike(
    lists: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    train, test = read_lists(FinetuneData(lists[0], test=lists[1]))
    assert test is not None
    assert train.labels.tolist() == [0, 1, 2, 2]
    assert test.labels.tolist() == [2, 1]
    assert names_of(test) == names_of(train) == ["jump", "walk", "wave"]
    assert "count from 1" not in capsys.readouterr().err  # the second list only lacks class 0
    assert read_list(lists[1]).labels.tolist() == [1, 0]  # read alone


def test_a_class_missing_from_training_is_refused(lists: tuple[Path, Path]) -> None:
    lists[1].write_text("e.mp4,wave\nf.mp4,run\n")
    with pytest.raises(
        UserError, match=r"line 2: 'run' is not one of the 3 classes in .*train.csv; correct one of them\.$"
    ):
        read_lists(FinetuneData(lists[0], test=lists[1]))


def test_classes_txt_beside_a_list_has_priority(lists: tuple[Path, Path]) -> None:
    (lists[1].parent / "classes.txt").write_text("wave\nwalk\njump\n")
    like = named(["jump", "walk", "wave"], "train")
    assert read_list(lists[1], like=like).labels.tolist() == [0, 1]


def test_bias_numbers_the_classes_of_its_lists_alike(lists: tuple[Path, Path]) -> None:
    train = labelled(lists[0], None)
    assert labelled(lists[1], None, like=train).labels.tolist() == [2, 1]


def test_a_partly_labelled_list_does_not_take_other_names(lists: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "there"
    write_classes(folder, ["sit", "stand", "lie"])
    videos = read_list(lists[0])
    partly = replace(videos, labels=np.array([0, 1, 2, -1]))
    with pytest.raises(UserError, match="has other class names"):
        carry_classes(partly, folder)


@pytest.mark.parametrize(
    ("text", "names"), [("\ufeffwalk\nrun\n\n", ["walk", "run"]), ("", []), ("\n \n", [])]
)
def test_classes_txt_may_begin_with_a_mark_and_have_blank_lines(
    text: str, names: list[str], tmp_path: Path
) -> None:
    (tmp_path / "classes.txt").write_text(text, encoding="utf-8")
    assert read_classes(tmp_path) == names


def test_numeric_class_names_are_not_names() -> None:
    assert named(["0", "1"], "x") is None
    assert named([], "x") is None


def test_features_of_two_lists_are_matched_by_name(lists: tuple[Path, Path], tmp_path: Path) -> None:
    out = [tmp_path / f"{name}.npz" for name in ("train", "test")]
    for listed, file in zip(lists, out, strict=True):
        result = dsm("extract", *CLIP, "--data", listed, "--out", file)
        assert result.returncode == 0, result.stderr
    found = dsm("retrieve", "--gallery", out[0], "--queries", out[1], "--out", tmp_path / "r")
    assert found.returncode == 0, found.stderr
    assert "; matched by name" in found.stderr
    rows = (tmp_path / "r" / "neighbours.tsv").read_text().splitlines()[1:]
    assert [row.split("\t")[1] for row in rows] == ["2", "1"]
    probed = dsm("probe", "--train", out[0], "--test", out[1], "--out", tmp_path / "p")
    assert probed.returncode == 0, probed.stderr
    assert "of the test list are not in the training list" not in probed.stderr


def features(labels: list[int], classes: list[str] | None) -> Features:
    rows = np.zeros((len(labels), 2), np.float32)
    meta = {} if classes is None else {"classes": classes}
    return Features(rows, np.array(labels), [str(row) for row in range(len(rows))], meta)


@pytest.mark.parametrize(
    ("classes", "labels", "right"),
    [
        (["b", "c"], [0, 1, -1], [1, 2, -1]),
        (["a", "b"], [0, 1, -1], [0, 1, -1]),
        (["b", "d", "a", "e"], [1, 2, 3, 0], [3, 0, 4, 1]),
        (None, [0, 1, -1], [0, 1, -1]),
        (["b"], [0, 1, -1], [0, 1, -1]),  # has labels without names
    ],
)
def test_labels_of_features_are_matched_by_name(
    classes: list[str] | None, labels: list[int], right: list[int]
) -> None:
    one = features([0, 1, 2], ["a", "b", "c"])
    two = numbered_alike(one, features(labels, classes), ("one", "two"))
    assert two.labels.tolist() == right
    if classes and classes[0] == "b" and len(classes) == 4:
        assert two.meta["classes"] == ["a", "b", "c", "d", "e"]


def test_the_features_file_keeps_the_class_names_of_the_run(lists: tuple[Path, Path], tmp_path: Path) -> None:
    assert dsm("extract", *CLIP, "--data", lists[0], "--out", tmp_path / "f.npz").returncode == 0
    assert load_features(tmp_path / "f.npz").meta["classes"] == ["jump", "walk", "wave"]
