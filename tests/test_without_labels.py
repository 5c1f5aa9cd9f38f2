"""What the verbs do for videos without labels, and what they say is missing."""

from __future__ import annotations

import contextlib
import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dsm.cli.main import run
from dsm.data.lists import read_list, write_list
from dsm.errors import UserError
from dsm.evaluate.feature_files import load_features, save_features
from dsm.evaluate.features import Features
from dsm.models import precision
from dsm.models.settings import Precision
from dsm.runs.results import read_results


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled features of three kinds, the same without labels, and a table of groups."""
    folder = tmp_path_factory.mktemp("bare")
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 10)
    rows = (np.eye(8)[labels] + 0.1 * rng.standard_normal((30, 8))).astype(np.float32)
    paths = [f"v/{row:02d}.mp4" for row in range(30)]
    meta = {"run": "made", "root": str(folder), "classes": ["sit", "run", "jump"]}
    save_features(folder / "named.npz", Features(rows, labels, paths, meta))
    save_features(folder / "bare.npz", Features(rows, np.full(30, -1), paths, meta))
    table = "".join(f"{path}\tg{label}\n" for path, label in zip(paths, labels, strict=True))
    (folder / "groups.tsv").write_text("path\tgroup\n" + table)
    return folder


def test_retrieve_writes_neighbours_and_how_many_are_of_the_same_group(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["retrieve", "--gallery", str(files / "bare.npz"), "--queries", str(files / "bare.npz")]
    run([*words, "--out", str(tmp_path), "--groups", str(files / "groups.tsv")])
    (row,) = read_results(tmp_path / "results.json")
    assert (row.metric, row.value) == ("same_group", 1)
    assert "R@k, mAP" in capsys.readouterr().err
    lines = (tmp_path / "neighbours.tsv").read_text().splitlines()[1:]
    unit = load_features(files / "bare.npz").features
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    for row_number, line in enumerate(lines):
        cosines = unit @ unit[row_number]
        cosines[row_number] = -1
        assert line.split("\t")[2].startswith(f"v/{cosines.argmax():02d}.mp4:")
    assert not (tmp_path / "classes.csv").exists()


def test_probe_predicts_and_says_what_is_missing(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "probe", "--train", str(files / "named.npz"), "--test", str(files / "bare.npz"), "--out",
        str(tmp_path),
    ]  # fmt: skip
    run(words)
    assert "are left out" in capsys.readouterr().err
    with (tmp_path / "predictions.csv").open() as opened:
        lines = list(csv.DictReader(opened))
    truth = load_features(files / "named.npz")
    assert {line["path"]: int(line["label"]) for line in lines} == dict(
        zip(truth.paths, truth.labels.tolist(), strict=True)
    )
    assert {line["name"] for line in lines} == {"sit", "run", "jump"}
    sure = [float(line["probability"]) for line in lines]
    assert sure == sorted(sure, reverse=True)
    assert not (tmp_path / "results.json").exists()
    with pytest.raises(UserError, match="dsm explore"):
        run([*words[:2], str(files / "bare.npz"), *words[3:], "--overwrite"])


def test_bias_computes_in_the_precision_asked_for(
    scenes: Path, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = read_list(scenes / "test.txt")
    bare = replace(videos, labels=np.full(len(videos), -1)).part(np.arange(4), tmp_path)
    write_list(tmp_path / "bare.txt", bare)
    words = ["bias", "--weights", str(runs / "moco"), "--data.test", str(tmp_path / "bare.txt"),
             "--data.workers", "0", "--out", str(tmp_path / "bias")]  # fmt: skip
    with pytest.raises(UserError, match="fp16 needs a GPU"):
        run([*words, "--precision", "fp16"])
    used, compute_in = set(), precision.compute_in

    def noted(asked: Precision, device: str) -> contextlib.AbstractContextManager[None]:
        used.add(asked)
        return compute_in(asked, device)

    monkeypatch.setattr(precision, "compute_in", noted)
    run([*words, "--precision", "bf16"])
    assert used == {"bf16"}


def test_bias_and_report_measure_the_balance(scenes: Path, runs: Path, tmp_path: Path) -> None:
    bare = {}
    for name in ("train", "test"):
        videos = read_list(scenes / f"{name}.txt")
        some = replace(videos, labels=np.full(len(videos), -1)).part(np.arange(8), tmp_path)
        bare[name] = str(tmp_path / f"{name}.txt")
        write_list(bare[name], replace(some, frames=np.full(8, -1)))
    run(["bias", "--weights", str(runs / "moco"), "--data.test", bare["test"], "--data.workers", "0",
         "--out", str(tmp_path / "bias")])  # fmt: skip
    with pytest.raises(UserError, match=r"has no labels, which --opposites needs"):
        run(["bias", "--weights", str(runs / "moco"), "--data.test", bare["test"], "--out",
             str(tmp_path / "other"), "--opposites", bare["test"]])  # fmt: skip
    (row,) = read_results(tmp_path / "bias" / "results.json")
    assert row.metric == "balance"
    assert row.n == 8
    assert row.low is not None
    assert -2 < row.low < row.value < 2
    page = tmp_path / "report.html"
    run(["report", str(runs / "moco"), "--out", str(page),
         "--data.train", bare["train"], "--data.test", bare["test"],
         "--data.workers", "0", "--windows", "1", "--maps", "0", "--measure", "retrieval", "probe", "bias",
         "embedding"])  # fmt: skip
    text = page.read_text()
    assert "balance" in text
    assert "a probe needs a label" in text, "what is missing is named"
    assert "R@1" not in text
