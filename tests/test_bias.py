"""`dsm bias`: the report, its groups, and what it refuses."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from browser import fits, opened
from runs import CLIP
from test_adapters import save_small_transformer

from dsm.cli import main
from dsm.data.lists import read_list, write_list
from dsm.data.settings import ClipChanges, Grouping
from dsm.errors import UserError
from dsm.evaluate.variants import FOUR_NUMBERS, VARIANTS
from dsm.models.settings import LoadSettings
from dsm.runs.results import read_results, rows_table
from dsm.train.finetune import FinetuneConfig, FinetuneData, finetune
from dsm.verbs.bias import bias, model_names
from dsm.verbs.settings.evaluation import BiasConfig, BiasData
from dsm.video.ledger import read_ledger


def report_config(scenes: Path, out: Path, **changes: Any) -> BiasConfig:
    data = BiasData(
        scenes / "test.txt", train=scenes / "train.txt", conflict=scenes / "test_conflict.txt", workers=0
    )
    clip = ClipChanges(frames=4, stride=3, resize=40, size=32)
    return replace(
        BiasConfig(("none",), data, out, loading=LoadSettings("tiny"), clip=clip, windows=1, quick=True),
        **changes,
    )


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MotionScenes in which every test has each class twice."""
    from dsm.synthetic.motionscenes import write_motionscenes
    from dsm.synthetic.settings import MotionScenesConfig

    out = tmp_path_factory.mktemp("pairs")
    write_motionscenes(MotionScenesConfig(motions=4, train=24, test=8, frames=24, size=40), out)
    return out


def test_bias_report_of_a_classifier_and_random_weights(pairs: Path, tmp_path: Path) -> None:
    run = finetune(
        FinetuneConfig(
            data=FinetuneData(pairs / "train.txt", batch_size=8, workers=0), out=tmp_path / "tuned",
            backbone="tiny", steps=2, clip=CLIP,
        )
    )  # fmt: skip
    out = tmp_path / "report"
    config = report_config(
        pairs, out, weights=(str(run), "none"), loading=LoadSettings("tiny", seed=5), quick=False
    )
    rows = bias(config).rows
    found = json.loads((out / "results.json").read_text())["rows"]
    assert len(found) == len(rows)
    assert {(row["run"], row["seed"]) for row in found} == {("tuned", 0), ("random", 5)}
    for name in ("tuned", "random"):
        metrics = {row["metric"] for row in found if row["run"] == name and row["test"] == "test"}
        assert metrics >= {f"acc_{variant}" for variant in VARIANTS}
        assert metrics >= {"contrasted_scenes_by_motion", "hat_scene_error_random_by_motion", "actor_left"}
        assert {row["metric"] for row in found if row["run"] == name and row["test"] == "test_conflict"} == {
            "acc_clip"
        }
    with (out / "classes.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 8
    assert lines[0]["class"] == "swing-sideways"
    with (out / "predictions.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 16
    page, errors = opened(out / "card.html", width=390)
    assert not errors
    for width in (390, 1280):
        fits(out / "card.html", tmp_path, width=width)
    assert page.count("<video") == 2 * page.count("most often taken for") > 0
    assert "Scene reliance" in page
    assert "It is not clearly better than chance" in page
    for badge in ("badge-tuned.svg", "badge-random.svg"):
        assert ElementTree.parse(out / badge).getroot().tag.endswith("svg")
    for picture in ("bias.png", "bars.png", "variants.png", "card.png"):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match="other settings"):
        bias(replace(config, loading=LoadSettings("tiny", seed=1)))
    names = (pairs / "classes.txt").read_text().split()
    (tmp_path / "classes.txt").write_text("\n".join(names[::-1]))
    shutil.copy(pairs / "test.txt", tmp_path)
    other = replace(
        config, out=tmp_path / "o", data=replace(config.data, test=tmp_path / "test.txt", root=pairs)
    )
    with pytest.raises(
        UserError, match=f"class 0 is '{names[-1]}' according to .* but '{names[0]}' in tuned"
    ):
        bias(other)


def test_groups_are_drawn_whole(pairs: Path, tmp_path: Path) -> None:
    config = report_config(pairs, tmp_path)
    config = replace(config, data=replace(config.data, conflict=None))
    alone, together = (
        bias(replace(config, out=tmp_path / name, grouping=Grouping(group_regex=regex))).rows
        for name, regex in (("alone", ""), ("together", "videos"))
    )
    assert {(row.low, row.high) for row in together} == {(None, None)}  # a single group has no interval
    assert [row.value for row in alone if row.metric == "acc_clip"] == [
        row.value for row in together if row.metric == "acc_clip"
    ]


def test_test_and_conflict_lists_of_the_same_name_keep_their_own_groups(pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "conflict").mkdir()
    conflict = tmp_path / "conflict" / "test.txt"
    shutil.copy(pairs / "test_conflict.txt", conflict)
    config = report_config(pairs, tmp_path / "out", grouping=Grouping(group_regex=r"test_conflict|\d+\.mp4"))
    result = bias(replace(config, data=replace(config.data, conflict=conflict, root=pairs)))
    of = {row.test: row for row in result.rows if row.metric == "acc_clip"}
    assert of["test"].low is not None
    assert of["test (conflict)"].low is None  # all are of one group
    assert "clip of test (conflict)" in str(result)


def test_bad_videos_are_left_out_of_the_report_and_named(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = read_list(pairs / "train.txt")  # six of each class
    root = tmp_path / "videos"
    shutil.copytree(pairs / "videos", root / "videos")
    labels = videos.labels.tolist()
    cut, gone = labels.index(0), labels.index(1)
    (root / videos.paths[cut]).write_bytes((root / videos.paths[cut]).read_bytes()[:200])
    (root / videos.paths[gone]).unlink()

    def listed(name: str, without: tuple[int, ...]) -> Path:
        write_list(root / name, videos.part(np.delete(np.arange(24), without), videos.root))
        return root / name

    found = {}
    for name, without in (("all", ()), ("good", (cut, gone))):
        file = listed(f"{name}.txt", without)
        config = report_config(pairs, tmp_path / name, grouping=Grouping(group_regex=r"(\d+)\.mp4"))
        bias(replace(config, data=BiasData(file, train=file, root=root, workers=0)))
        found[name] = {row.metric: row for row in read_results(tmp_path / name / "results.json")}
    assert found["all"]["acc_clip"] == replace(found["good"]["acc_clip"], test="all")
    assert found["all"]["acc_stripes"].n == 22
    output = capsys.readouterr().err.replace("\n", "")
    for role in ("test", "train"):
        left = read_ledger(tmp_path / "all" / f"{role}.bad.json")
        assert {(one.path, one.verdict) for one in left} == {
            (videos.paths[cut], "undecodable"),
            (videos.paths[gone], "missing"),
        }
        assert f"{role}.bad.json: lists 2 videos that cannot be read" in output
    assert f"left out: {videos.paths[gone]}: no such file" in output
    assert not list((tmp_path / "good").glob("*.bad.json"))
    with (tmp_path / "all" / "predictions.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["path"] for line in lines] == [videos.paths[at] for at in range(24) if at not in (cut, gone)]
    assert not {line["background_of"] for line in lines} & {videos.paths[cut], videos.paths[gone]}

    for place in np.flatnonzero(videos.labels == 1)[1:5]:
        (root / videos.paths[place]).unlink()
    config = report_config(pairs, tmp_path / "few")
    few = BiasData(listed("few.txt", ()), train=pairs / "train.txt", root=root, workers=0)
    with pytest.raises(UserError, match=r"few\.txt: only 1 video of class 1 can be read, but at least 2"):
        bias(
            replace(
                config,
                data=replace(
                    few,
                    train=listed("good.txt", (cut, gone, *map(int, np.flatnonzero(videos.labels == 1)[1:5]))),
                ),
            )
        )


def test_the_command_works_with_a_small_transformer(pairs: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    save_small_transformer(tmp_path / "videomae.pt")
    lists = ("--data.train", pairs / "train.txt", "--data.test", pairs / "test.txt", "--data.workers", "0")
    words = (
        "bias", "--weights", tmp_path / "videomae.pt", *lists, "--out", tmp_path / "out", "--windows", "1",
        "--quick",
    )  # fmt: skip
    main.run(list(map(str, words)))
    rows = read_results(tmp_path / "out" / "results.json")
    assert {row.run for row in rows} == {"videomae"}
    assert {row.metric for row in rows} >= {f"acc_{variant}" for variant in FOUR_NUMBERS}
    assert {row.n for row in rows} == {8}


def test_videos_without_labels_get_the_measures_that_need_none(pairs: Path, tmp_path: Path) -> None:
    videos = read_list(pairs / "train.txt")
    (tmp_path / "bare.txt").write_text("".join(f"{path}\n" for path in videos.paths))
    data = BiasData(tmp_path / "bare.txt", root=pairs, workers=0)
    grouping = Grouping(group_regex=r"\d(?=\.mp4)")
    found = bias(replace(report_config(pairs, tmp_path / "out", grouping=grouping), data=data))
    rows = {row.metric: row for row in found.rows}
    assert {row.n for row in found.rows} == {24}
    kinds = [rows[f"dimensions_{name}"].value for name in ("static", "dynamic", "both", "neither")]
    assert sum(kinds) == pytest.approx(1)
    for name in ("arrow_of_time", "place_neighbour", "place_probe"):
        row = rows[name]
        assert row.low <= row.value <= row.high
    assert rows["place_probe_chance"].low is None
    assert "has no labels" in str(found)
    assert "arrow of time" in str(found)


def test_a_broken_video_among_three_without_labels_needs_none(pairs: Path, tmp_path: Path) -> None:
    videos = read_list(pairs / "train.txt")
    for name, path in (("a.mp4", videos.paths[0]), ("c.mp4", videos.paths[1])):
        shutil.copy(pairs / path, tmp_path / name)
    (tmp_path / "b.mp4").write_bytes(b"no video")
    (tmp_path / "bare.txt").write_text("a.mp4\nb.mp4\nc.mp4\n")
    found = bias(
        replace(report_config(pairs, tmp_path / "out"), data=BiasData(tmp_path / "bare.txt", workers=0))
    )
    assert {row.metric: row.n for row in found.rows} == {"balance": 2}
    table = rows_table(found.rows)
    assert not any("%" in cell for column in table.columns for cell in column.cells)


def test_weights_keep_their_full_name(tmp_path: Path) -> None:
    for run in ("dsm0.5", "dsm0.25", "moco.pt"):
        (tmp_path / run).mkdir()
    files = ("r3d50_K_200ep.pth", "model.v1.pth.tar", "plain", "v1.5")
    names = ("dsm0.5", "dsm0.25", "moco.pt", "r3d50_K_200ep", "model.v1", "plain", "v1.5")
    given = tuple(str(tmp_path / name) for name in ("dsm0.5", "dsm0.25", "moco.pt", *files))
    assert model_names((*given, "none")) == [*names, "random"]
    assert model_names((f"{tmp_path}/dsm0.5/", f"{tmp_path}/moco.pt/../dsm0.25")) == ["dsm0.5", "dsm0.25"]


def test_weights_of_one_name_are_told_apart_by_their_folders() -> None:
    assert model_names(("a/moco/run", "a/dsm/run", "none")) == ["moco", "dsm", "random"]
    assert model_names(("one/v.pt", "two/v.pt", "runs/mine")) == ["one", "two", "mine"]
    assert model_names(("x/mine", "y/mine", "runs/x")) == ["x/mine", "y/mine", "runs/x"]
    with pytest.raises(UserError, match="are the same"):
        model_names(("runs/mine", "runs/mine"))


def test_wrong_inputs_raise_one_sentence(pairs: Path, tmp_path: Path) -> None:
    videos = read_list(pairs / "test.txt")

    def listed(labels: np.ndarray, places: np.ndarray | None = None) -> Path:
        path = pairs / "wrong.txt"
        part = replace(videos, labels=labels).part(np.arange(8) if places is None else places, videos.root)
        write_list(path, part)
        return path

    def refuses(match: str, data: dict[str, Any] | None = None, **changes: Any) -> None:
        config = report_config(pairs, tmp_path / "out", **changes)
        with pytest.raises(UserError, match=match):
            bias(replace(config, data=replace(config.data, **(data or {}))))
        assert not (tmp_path / "out").exists()

    refuses("8 videos have no label", {"test": listed(np.full(8, -1))})
    refuses("all its videos are of class 2", {"test": listed(np.full(8, 2))})
    refuses("class 3 has a single video", {"test": listed(videos.labels, np.array([0, 1, 2, 3, 4, 5, 6]))})
    refuses("class 9 is not one of the 4", {"test": listed(np.where(videos.labels == 3, 9, videos.labels))})
    refuses(r"\(--data.train\) to train a probe", {"train": None})
    refuses("no such checkpoint", weights=("nowhere.pt",))
    refuses("two of --weights are the same", weights=("none", "none"))
    refuses("finds no group", grouping=Grouping(group_regex="camera[0-9]"))
    refuses("no such list", {"conflict": pairs / "none.txt"})
    with pytest.raises(UserError, match="1 --names for 2"):
        report_config(pairs, tmp_path, weights=("a", "b"), names=("one",))
