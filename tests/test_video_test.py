"""`dsm test` beyond accuracies: intervals by group, a comparison, the page of confusions."""

from __future__ import annotations

import csv
import html.parser
import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browser import fits
from PIL import Image
from runs import CLIP

from dsm.cli import main
from dsm.data.lists import VideoList, read_list, write_list
from dsm.data.settings import Grouping
from dsm.errors import UserError
from dsm.evaluate.video_test import Answers, Predictions, compare, disagreements_csv, read_answers
from dsm.intervals import share_interval
from dsm.pages.confusion import MATRIX_UP_TO, draw_confusion, write_confusion_page
from dsm.train.finetune import FinetuneConfig, FinetuneData, finetune
from dsm.train.optim import OptimConfig
from dsm.verbs.settings.evaluation import VideoTestConfig, VideoTestData
from dsm.verbs.video_test import answers_of, rows_of
from dsm.verbs.video_test import test as video_test


def predictions(seed: int, count: int = 60, classes: int = 3, skill: float = 1.0) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    logits = rng.normal(size=(count, classes)) + skill * np.eye(classes)[labels]
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return Predictions(chances.astype(np.float32), labels, [f"{i}.mp4" for i in range(count)])


def test_several_processes_are_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    data = VideoTestData(tmp_path / "none.txt")
    with pytest.raises(UserError, match="start it without torchrun"):
        video_test(VideoTestConfig("none", data, tmp_path / "out"))


@pytest.fixture(scope="module")
def two_runs(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A classifier after a little training, and one after almost none."""
    out = tmp_path_factory.mktemp("runs")
    base = FinetuneConfig(
        data=FinetuneData(scenes / "train.txt", batch_size=8, workers=0), out=out / "one", backbone="tiny",
        clip=CLIP, steps=16, optim=OptimConfig("adamw", lr=3e-3, warmup=2),
    )  # fmt: skip
    return [finetune(base), finetune(replace(base, out=out / "two", steps=1, seed=1))]


def config(run: Path, scenes: Path, out: Path, **changes: object) -> VideoTestConfig:
    data = VideoTestData(scenes / "train.txt", workers=0)
    return replace(VideoTestConfig(str(run), data, out, windows=1), **changes)  # type: ignore[arg-type]


def test_a_comparison_counts_which_test_is_right(
    two_runs: list[Path], scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    video_test(config(two_runs[1], scenes, two))
    video_test(config(two_runs[0], scenes, one))
    capsys.readouterr()
    main.run(
        ["test", "--weights", str(two_runs[0]), "--data.test", str(scenes / "train.txt"),
         "--data.workers", "0", "--windows", "1", "--out", str(one), "--against", str(two)]
    )  # fmt: skip
    output = capsys.readouterr().out
    again = video_test(config(two_runs[0], scenes, one, against=two))  # afterwards, in the same folder
    rows, comparison = again.rows, again.comparison

    this, other = (
        {row["path"]: row for row in csv.DictReader((out / "predictions.csv").open())} for out in (one, two)
    )
    counts = {"both right": 0, "only this test right": 0, "only the other right": 0, "both wrong": 0}
    differ = {}
    for path, row in this.items():
        a, b = row["predicted1"] == row["class"], other[path]["predicted1"] == row["class"]
        name = (
            "both right"
            if a and b
            else "only this test right"
            if a
            else "only the other right"
            if b
            else "both wrong"
        )
        counts[name] += 1
        if row["predicted1"] != other[path]["predicted1"]:
            differ[path] = "this" if a else "other" if b else "neither"
    for name, count in counts.items():
        assert re.search(rf"{name} +{count}\n", output), output
    assert f"against {two}, of 40 videos:\n" in output, "a long path is not wrapped"
    assert comparison is not None
    assert list(counts.values()) == [
        comparison.both, comparison.only_this, comparison.only_other, comparison.neither,
    ]  # fmt: skip
    assert comparison.difference.value == pytest.approx(
        (counts["only this test right"] - counts["only the other right"]) / len(this)
    )
    difference = (counts["only this test right"] - counts["only the other right"]) / len(this)
    assert f"{difference:+.1%}" in output
    assert difference != 0  # whichever has learned more
    assert rows[0].value - difference == pytest.approx(
        json.loads((two / "results.json").read_text())["rows"][0]["value"]
    )
    lines = list(csv.DictReader((one / "disagreements.csv").open()))
    assert {line["path"]: line["right"] for line in lines} == differ
    for line in lines:
        assert line["class"] == this[line["path"]]["class"]
        assert (line["predicted"], line["probability"]) == (
            this[line["path"]]["predicted1"], this[line["path"]]["probability1"],
        )  # fmt: skip
        assert (line["other predicted"], line["other probability"]) == (
            other[line["path"]]["predicted1"], other[line["path"]]["probability1"],
        )  # fmt: skip


def test_an_incomparable_test_is_refused(two_runs: list[Path], scenes: Path, tmp_path: Path) -> None:
    out, run = tmp_path / "out", two_runs[0]
    with pytest.raises(UserError, match=r"has no predictions.csv"):
        video_test(config(run, scenes, out, against=tmp_path))
    with pytest.raises(UserError, match="needs the folder of another test"):
        config(run, scenes, out, against=out)
    videos = read_list(scenes / "train.txt")
    elsewhere = tmp_path / "elsewhere"
    fewer = tmp_path / "fewer.txt"
    write_list(fewer, videos.part(np.arange(12), scenes))
    data = VideoTestData(fewer, scenes, workers=0)
    video_test(config(run, scenes, elsewhere, data=data))
    with pytest.raises(UserError, match=r"another list \(12 videos, here 40"):
        video_test(config(run, scenes, out, against=elsewhere))
    swapped = tmp_path / "swapped.txt"
    part = videos.part(np.arange(12), scenes)
    write_list(swapped, replace(part, labels=(part.labels + 1) % 10))
    data = VideoTestData(swapped, scenes, workers=0)
    with pytest.raises(UserError, match="has the class"):
        video_test(config(run, scenes, out, data=data, against=elsewhere))
    (elsewhere / "predictions.csv").write_text("path,class\na,b\n")
    with pytest.raises(UserError, match="is not a table of predictions"):
        video_test(config(run, scenes, out, against=elsewhere))
    (elsewhere / "predictions.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is not a table of predictions"):
        read_answers(elsewhere)
    assert not out.exists()


def test_an_unreadable_video_is_left_out_and_reported(
    two_runs: list[Path], scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = read_list(scenes / "train.txt").part(np.arange(8), tmp_path)
    whole, holed = tmp_path / "whole.txt", tmp_path / "holed.txt"
    write_list(whole, videos)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    paths = [*videos.paths[:2], "broken.mp4", *videos.paths[3:]]
    write_list(holed, replace(videos, paths=paths))
    groups = tmp_path / "groups.tsv"
    groups.write_text(
        "path\tgroup\n" + "".join(f"{path}\t{number // 2}\n" for number, path in enumerate(paths))
    )

    with_hole, grouping = VideoTestData(holed, workers=0), Grouping(groups)
    rows = video_test(config(two_runs[0], scenes, tmp_path / "one", data=with_hole, grouping=grouping)).rows
    output = " ".join(capsys.readouterr().err.split())
    assert "left out: broken.mp4" in output
    assert "lists 1 video that cannot be read" in output
    assert [row.n for row in rows] == [7, 7, 7]
    lines = list(csv.DictReader((tmp_path / "one" / "predictions.csv").open()))
    assert [line["path"] for line in lines] == paths
    assert [line["predicted1"] == "" for line in lines] == [path == "broken.mp4" for path in paths]

    data = VideoTestData(whole, workers=0)
    full = video_test(config(two_runs[0], scenes, tmp_path / "full", data=data)).rows
    hits = [
        line["predicted1"] == line["class"]
        for line in csv.DictReader((tmp_path / "full" / "predictions.csv").open())
    ]
    assert full[0].value == pytest.approx(np.mean(hits))
    assert rows[0].value == pytest.approx(np.mean(hits[:2] + hits[3:]))

    two = config(two_runs[1], scenes, tmp_path / "two", data=with_hole)
    output = str(video_test(replace(two, against=tmp_path / "one", grouping=grouping)))
    assert sum(int(count) for count in re.findall(r"^  (?:both|only) .*?(\d+)$", output, re.MULTILINE)) == 7


@pytest.mark.parametrize("labelled", [0, 3])
def test_videos_without_labels_are_predicted_without_accuracies(
    two_runs: list[Path], scenes: Path, tmp_path: Path, labelled: int
) -> None:
    videos = read_list(scenes / "train.txt").part(np.arange(8), tmp_path)
    hidden = np.where(np.arange(8) < labelled, videos.labels, -1)
    write_list(tmp_path / "all.txt", videos)
    write_list(tmp_path / "some.txt", replace(videos, labels=hidden))
    outs = {}
    for name in ("all", "some"):
        data = VideoTestData(tmp_path / f"{name}.txt", workers=0)
        outs[name] = video_test(config(two_runs[0], scenes, tmp_path / name, data=data))
    given, bare = (list(csv.DictReader((tmp_path / name / "predictions.csv").open())) for name in outs)
    assert [line | {"class": ""} for line in given] == [line | {"class": ""} for line in bare]
    assert [line["class"] for line in bare] == [
        line["class"] if row < labelled else "" for row, line in enumerate(given)
    ]
    assert "so the accuracies (top-1, top-5, by class) and the confusion" in outs["some"].lines[0]
    assert list(outs["some"].rows) == []
    assert {file.name for file in outs["some"].files} == {"predictions.csv", "probabilities.npz"}
    assert not (tmp_path / "some" / "results.json").exists()
    data = VideoTestData(tmp_path / "some.txt", workers=0)
    two = video_test(config(two_runs[1], scenes, tmp_path / "two", data=data, against=tmp_path / "some"))
    assert two.comparison is None
    lines = list(csv.DictReader((tmp_path / "two" / "disagreements.csv").open()))
    assert lines
    assert all((line["right"] == "") == (line["class"] == "") for line in lines)


def test_the_difference_is_paired_and_by_group() -> None:
    """If two classifiers are right on the same videos but one, they differ by less than their own
    intervals."""
    classes = ["a"] * 50
    this = Answers(range(50), classes, ["a"] * 25 + ["b"] * 25, [0.9] * 50)  # type: ignore[arg-type]
    other = Answers(range(50), classes, ["a"] * 24 + ["c"] * 26, [0.8] * 50)  # type: ignore[arg-type]
    found = compare(this, other)
    assert (found.both, found.only_this, found.only_other, found.neither) == (24, 1, 0, 25)
    assert found.difference.value == pytest.approx(1 / 50)
    alone = share_interval(this.right())
    assert found.difference.high - found.difference.low < 0.5 * (alone.high - alone.low)
    whole = compare(this, other, groups=["all"] * 50).difference
    assert whole.value == pytest.approx(1 / 50)
    assert math.isnan(whole.low)  # a single group has no interval
    assert disagreements_csv(this, other).count("neither") == 25  # b, c: wrong in different ways


def test_results_are_reused_only_for_the_same_weights_and_videos(
    two_runs: list[Path], scenes: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(two_runs[0], run)
    videos = read_list(scenes / "test.txt").part(np.arange(6), scenes)
    write_list(tmp_path / "test.txt", videos)
    data = VideoTestData(tmp_path / "test.txt", root=scenes, workers=0)
    config = VideoTestConfig(str(run), data, tmp_path / "tested", windows=1)
    before = video_test(config).rows
    assert video_test(config).rows == before
    write_list(tmp_path / "test.txt", videos.part(np.arange(5), scenes))
    with pytest.raises(UserError, match="a test with other settings"):
        video_test(config)
    write_list(tmp_path / "test.txt", videos)
    shutil.rmtree(run)
    shutil.copytree(two_runs[1], run)
    with pytest.raises(UserError, match="a test with other settings"):
        video_test(config)


def test_every_interval_draws_whole_groups(two_runs: list[Path], scenes: Path, tmp_path: Path) -> None:
    videos = read_list(scenes / "train.txt")
    table = tmp_path / "groups.tsv"
    table.write_text("path\tgroup\n" + "".join(f"{p}\t{i % 4}\n" for i, p in enumerate(videos.paths)))
    rows = video_test(config(two_runs[0], scenes, tmp_path / "out", grouping=Grouping(table))).rows
    names = [str(i % 4) for i in range(len(videos))]
    listed = list(csv.DictReader((tmp_path / "out" / "predictions.csv").open()))
    right = np.array([line["class"] == line["predicted1"] for line in listed])
    assert (rows[0].low, rows[0].high) == share_interval(right, groups=names)[1:]
    assert (rows[2].low, rows[2].high) == share_interval(right, labels=videos.labels, groups=names)[1:]
    with pytest.raises(UserError, match="give only one"):
        video_test(config(two_runs[0], scenes, tmp_path / "o", grouping=Grouping(table, "x")))
    with pytest.raises(UserError, match="finds no group"):
        video_test(config(two_runs[0], scenes, tmp_path / "o", grouping=Grouping(group_regex="nowhere")))
    assert not (tmp_path / "o").exists()


def test_labels_with_another_meaning_for_the_classifier_are_refused(
    two_runs: list[Path], scenes: Path, tmp_path: Path
) -> None:
    videos, names = read_list(scenes / "train.txt"), (scenes / "classes.txt").read_text().splitlines()
    write_list(tmp_path / "some.txt", videos.part(np.flatnonzero(videos.labels < 2), tmp_path))
    data = VideoTestData(tmp_path / "some.txt", workers=0)
    for others in ([names[1], names[0], *names[2:]], ["walk", "run"]):
        (tmp_path / "classes.txt").write_text("\n".join(others))
        message = rf"some\.txt: class 0 is '{others[0]}' according to .* but '{names[0]}' in "
        with pytest.raises(UserError, match=message):
            video_test(config(two_runs[1], scenes, tmp_path / "out", data=data))
    assert not (tmp_path / "out").exists()
    (tmp_path / "classes.txt").write_text("\n".join([*names[:2], "another", *names[3:], "more"]))
    # The classes of the list have the same names.
    assert video_test(config(two_runs[1], scenes, tmp_path / "out", data=data)).rows


def test_the_mean_over_classes_has_an_interval() -> None:
    found = predictions(0)
    row = rows_of(found, run="dsm", test="t", seed=0)[2]
    assert row.metric == "mean_class_top1"
    assert row.value == pytest.approx(np.mean([accuracy for accuracy, _ in found.class_accuracy().values()]))
    assert row.low is not None
    assert row.high is not None
    assert row.low < row.value < row.high


def test_confusions_equal_a_hand_computation() -> None:
    chances = np.eye(4, dtype=np.float32)[[0, 1, 1, 2, 1, 2]]
    found = Predictions(chances, np.array([0, 0, 0, 0, 1, 3]), list("abcdef"))
    assert found.most_often_taken_for() == {0: (1, 2), 1: None, 3: (2, 1)}
    listed = np.array([0, 2, 0, 0, 0, 1, 3])
    videos = VideoList(list("aubcdef"), listed, np.zeros(7, np.int64), Path())
    answers = answers_of(found, ["w", "x", "y", "z"], videos)  # u could not be read
    assert answers.predicted == ["w", "", "x", "x", "y", "x", "y"]
    assert answers.classes == ["w", "y", "w", "w", "w", "x", "z"]


class Page(html.parser.HTMLParser):
    """The cells of every table, and all external resources."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self._in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [str(value) for name, value in attrs if name in ("src", "href")]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.tables[-1][-1][-1] += data


def test_the_page_has_the_confusions_and_is_self_contained(tmp_path: Path) -> None:
    found, names = predictions(1), ["<em>run</em>", 'wave "hands"', "a & b"]
    write_confusion_page(tmp_path / "confusion.html", found, names, title="<script>x</script>")
    page = Page((tmp_path / "confusion.html").read_text())
    assert page.links == []
    assert "em" not in page.tags  # names are escaped
    assert page.tags.count("script") == 2  # the page's own
    matrix, classes = page.tables
    assert [row[0] for row in classes[1:]] == names
    assert [row[1:3] for row in classes[1:]] == [
        [str(count), f"{100 * accuracy:.1f}%"] for accuracy, count in found.class_accuracy().values()
    ]
    for label, taken in found.most_often_taken_for().items():
        assert taken is not None
        assert classes[1 + label][3] == f"{names[taken[0]]} ({taken[1]})"
    assert matrix[0][1:] == names
    fits(tmp_path / "confusion.html", tmp_path)
    assert [[int(cell or 0) for cell in row[1:]] for row in matrix[1:]] == found.confusion().tolist()


def test_right_and_wrong_have_colours_of_their_own(tmp_path: Path) -> None:
    draw_confusion(np.array([[9, 9], [9, 9]]), ["a", "b"], tmp_path / "confusion.png")
    picture = np.asarray(Image.open(tmp_path / "confusion.png").convert("RGB")).astype(int)
    height, width = picture.shape[:2]
    left = picture[:, : int(0.6 * width)].reshape(-1, 3)  # without the scales
    blue, orange = ((left[:, end] - left[:, other] > 60).sum() for end, other in ((2, 0), (0, 2)))
    assert 0.8 < blue / orange < 1.25  # two cells each
    assert blue > 0.02 * height * width


def test_names_are_not_rendered_as_formulas(tmp_path: Path) -> None:
    draw_confusion(predictions(1).confusion(), ["win $_$", "$\\frac$", "c"], tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").is_file()


def test_a_large_confusion_matrix_is_only_drawn_as_a_picture(tmp_path: Path) -> None:
    for classes, tables in ((MATRIX_UP_TO, 2), (MATRIX_UP_TO + 1, 1)):
        found = predictions(2, count=2 * classes, classes=classes, skill=5)
        names = [f"class {i}" for i in range(classes)]
        write_confusion_page(tmp_path / "confusion.html", found, names, title="many")
        assert len(Page((tmp_path / "confusion.html").read_text()).tables) == tables
