"""Monitoring of a run: health, the monitor's votes, and figures."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import CLIP, equal, small_run, weights_of
from torch import nn

from dsm import terminal
from dsm.data.clips import EvaluationClips
from dsm.data.lists import read_list, write_list
from dsm.data.loading import load_clips
from dsm.errors import UserError
from dsm.evaluate.extract import extract_by_all
from dsm.methods.embedding_health import alignment, effective_rank, spread, uniformity
from dsm.methods.step import StepOutput
from dsm.models.weights import load_encoder
from dsm.models.zoo import create_model
from dsm.pages.run_figures import draw_run
from dsm.runs.logs import read_gradients, read_metrics
from dsm.runs.results import read_results
from dsm.train.config import FinetuneConfig, FinetuneData, MonitorConfig, OptimConfig
from dsm.train.evaluations import Evaluation
from dsm.train.finetune import finetune
from dsm.train.health import PATIENCE, Health
from dsm.train.monitor import knn_and_recall, monitored_videos
from dsm.train.pretrain import pretrain


def test_health_equals_a_hand_computation() -> None:
    one, other = torch.eye(4)[:2], torch.eye(4)[2:]
    assert float(alignment(one, one)) == 0
    assert float(alignment(one, other)) == pytest.approx(2)
    assert float(uniformity(one)) == pytest.approx(-4)  # the two are at a squared distance of 2
    assert float(uniformity(one[:1].repeat(3, 1))) == pytest.approx(0)
    assert float(effective_rank(one[:1].repeat(3, 1))) == 0
    line = torch.tensor([[1.0, 0], [-1, 0], [1, 0], [-1, 0]])
    assert float(effective_rank(line)) == pytest.approx(1)
    cross = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    assert float(effective_rank(cross)) == pytest.approx(2)
    uneven = cross * torch.tensor([3.0, 1.0])  # singular values in the ratio 3 : 1
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert float(effective_rank(uneven)) == pytest.approx(math.exp(entropy))
    assert float(spread(cross)) == pytest.approx(1)
    assert float(spread(line[:1].repeat(4, 1))) == pytest.approx(0)


def test_a_collapse_and_its_end_are_each_reported_once(capfd: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    health = Health()
    same = nn.functional.normalize(torch.ones(16, 8) + 1e-3 * torch.randn(16, 8), dim=1)
    apart = nn.functional.normalize(torch.randn(300, 8), dim=1)
    for step in range(1, PATIENCE + 30):
        output = StepOutput(torch.zeros(()), same, same)
        health.add(output)
        health.read(output, step)
    output = StepOutput(torch.zeros(()), apart, apart)
    health.add(output)
    health.read(output, 200)
    notes = capfd.readouterr().err
    assert notes.count("it has collapsed") == 1
    assert notes.count("the embeddings are spread out again") == 1


@pytest.fixture(scope="module")
def unwatched(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without evaluations."""
    out = tmp_path_factory.mktemp("unwatched") / "run"
    return pretrain(small_run(scenes, out, monitor=MonitorConfig(videos=0), steps=10))


def test_a_run_is_monitored_and_its_best_checkpoint_kept(
    scenes: Path, tmp_path: Path, unwatched: Path
) -> None:
    monitor = MonitorConfig(scenes / "test_free.txt", every=1)
    run = pretrain(small_run(scenes, tmp_path / "run", monitor=monitor, steps=10))
    evaluated = [line for line in read_metrics(run) if "monitor/knn" in line]
    assert [line["step"] for line in evaluated] == [5, 10]  # 40 videos in batches of 8: an epoch is 5 steps
    best = max(evaluated, key=lambda line: (line["monitor/knn"], -line["step"]))
    state = torch.load(run / "checkpoints" / "best.pt", weights_only=True)
    assert state["step"] == best["step"]
    found = {(row.test, row.metric): row for row in read_results(run / "results.json")}
    assert found["test_free", "monitor/knn"].value == evaluated[-1]["monitor/knn"]
    assert found["train", "train/loss"].value == [m["loss"] for m in read_metrics(run) if "loss" in m][-1]
    videos = read_list(scenes / "test_free.txt")
    assert {row.n for (test, _), row in found.items() if test == "test_free"} == {len(videos)}
    encoder = load_encoder(run / "checkpoints" / "best.pt")
    again = knn_and_recall(encoder, videos, small_run(scenes, run).clip, windows=1, workers=0)
    assert again["knn"] == pytest.approx(best["monitor/knn"])
    assert equal(weights_of(run), weights_of(unwatched))  # monitoring changes nothing


def test_without_a_list_the_balance_selects_the_best_checkpoint(
    scenes: Path, tmp_path: Path, unwatched: Path
) -> None:
    run = pretrain(small_run(scenes, tmp_path / "run", monitor=MonitorConfig(every=1), steps=10))
    evaluated = [line for line in read_metrics(run) if "monitor/balance" in line]
    assert [line["step"] for line in evaluated] == [5, 10]
    assert all(-2 <= line["monitor/balance"] <= 2 for line in evaluated)
    best = max(evaluated, key=lambda line: (line["monitor/balance"], -line["step"]))
    assert torch.load(run / "checkpoints" / "best.pt", weights_only=True)["step"] == best["step"]
    assert equal(weights_of(run), weights_of(unwatched))  # monitoring changes nothing
    assert not (unwatched / "checkpoints" / "best.pt").exists()


def test_an_evaluation_compiles_nothing(scenes: Path) -> None:
    """A compiled encoder would be compiled again, for evaluation mode and other batches."""

    def compiles(*_: object) -> None:
        pytest.fail("compiled for an evaluation")

    method = nn.Module()
    method.query = nn.Module()
    method.query.encoder = nn.Linear(2, 1)
    method.query.encoder.compile(backend=compiles)

    def ask(of: Any, tell: Any) -> dict[str, float]:
        return {"score": float(of.eval().query.encoder(torch.ones(1, 2)).detach())}

    evaluation = Evaluation(ask, every=1, best="score", videos=read_list(scenes / "train.txt"))
    assert "score" in evaluation.run(method, lambda _: None)
    assert method.training


def test_a_duplicate_in_a_monitored_list_is_not_its_own_neighbour(scenes: Path, tmp_path: Path) -> None:
    one, two = (str(read_list(scenes / "test_free.txt").file(place)) for place in range(2))
    listed, clip = tmp_path / "list.txt", small_run(scenes, tmp_path).clip
    # Each has only neighbours of the other label; the first or the last label may be missing.
    for labels in ((1, 0, 0, 0), (0, 1, 1, 1)):
        named = zip((one, two, two, two), labels, strict=True)
        listed.write_text("".join(f"{path} {label}\n" for path, label in named))
        found = knn_and_recall(create_model("tiny"), read_list(listed), clip, windows=1, workers=0)
        assert found == {"knn": 0, "R@1": 0}
    listed.write_text(f"{one} 0\n{one} 0\n")  # no neighbour at all
    assert knn_and_recall(create_model("tiny"), read_list(listed), clip, windows=1, workers=0)["knn"] == 0


def test_a_monitored_list_needs_labels(scenes: Path, tmp_path: Path) -> None:
    videos = read_list(scenes / "test_free.txt")
    unlabelled = tmp_path / "unlabelled.txt"
    unlabelled.write_text("".join(f"{videos.file(i)}\n" for i in range(len(videos))))
    with pytest.raises(UserError, match="needs labelled videos"):
        pretrain(small_run(scenes, tmp_path / "run", monitor=MonitorConfig(unlabelled)))
    assert not (tmp_path / "run").exists()


def test_a_monitored_list_uses_the_runs_root_and_a_wrong_one_is_reported_at_once(
    scenes: Path, tmp_path: Path
) -> None:
    shutil.copy(scenes / "test_free.txt", tmp_path / "list.txt")
    wrong = MonitorConfig(tmp_path / "list.txt", tmp_path)
    with pytest.raises(UserError, match="none of its first videos can be read"):
        pretrain(small_run(scenes, tmp_path / "run", monitor=wrong))
    assert not (tmp_path / "run").exists()
    assert monitored_videos(MonitorConfig(tmp_path / "list.txt"), scenes)


def test_a_crashing_monitor_loses_no_training(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise MemoryError

    monitor, out = MonitorConfig(scenes / "test_free.txt", every=1), tmp_path / "run"
    monkeypatch.setattr("dsm.train.pretrain.knn_and_recall", crash)
    with pytest.raises(MemoryError):
        pretrain(small_run(scenes, out, monitor=monitor, steps=7, save_every=100))
    monkeypatch.undo()
    run = pretrain(small_run(scenes, out, monitor=monitor, steps=7, save_every=100, resume=True, extend=True))
    assert [line["step"] for line in read_metrics(run) if "loss" in line] == [1, 2, 3, 4, 5, 6, 7]


def test_another_monitored_list_starts_a_new_best(scenes: Path, tmp_path: Path) -> None:
    run = pretrain(
        small_run(
            scenes, tmp_path / "run", steps=10, monitor=MonitorConfig(scenes / "test_free.txt", every=1)
        )
    )
    best = run / "checkpoints" / "best.pt"
    state = torch.load(best, weights_only=True)
    for file in (run / "checkpoints").glob("*.pt"):
        torch.save({**torch.load(file, weights_only=True), "best": 2.0}, file)  # so that no other is better
    same = MonitorConfig(scenes / "test_free.txt", every=1)
    pretrain(small_run(scenes, run, steps=15, resume=True, extend=True, monitor=same))
    assert torch.load(best, weights_only=True)["step"] == state["step"]
    other = MonitorConfig(scenes / "test.txt", every=1)
    pretrain(small_run(scenes, run, steps=20, resume=True, extend=True, monitor=other))
    assert torch.load(best, weights_only=True)["step"] == 20
    record = json.loads((run / "config.json").read_text())["config"]
    assert (record["steps"], record["resume"]) == (20, False)


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
def test_ctrl_c_does_not_kill_the_monitors_readers(scenes: Path, tmp_path: Path) -> None:
    videos, clip = read_list(scenes / "test_free.txt"), small_run(scenes, tmp_path).clip
    batches = load_clips(EvaluationClips(videos, clip, 1, workers=1), 2, workers=1)
    count = len(next(batches)["index"])
    for child in multiprocessing.active_children():
        os.kill(child.pid or 0, signal.SIGINT)
    assert count + sum(len(batch["index"]) for batch in batches) == len(videos)


def test_a_run_draws_its_figures(scenes: Path, tmp_path: Path) -> None:
    run = pretrain(small_run(scenes, tmp_path / "run"))
    steps = [record["step"] for record in read_gradients(run)]
    assert steps == [1, 5, 7]
    drawn = draw_run(run)
    assert [path.name for path in drawn] == ["health.png", "gradients.png"]
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in drawn)


def test_a_monitored_video_that_cannot_be_read_is_left_out_and_named(
    scenes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "SECONDS_BETWEEN_LINES", 0)
    videos = read_list(scenes / "test_free.txt").part(np.arange(8), tmp_path)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    videos.paths[2] = "broken.mp4"  # type: ignore[index]
    write_list(tmp_path / "watched.txt", videos)
    monitor = MonitorConfig(tmp_path / "watched.txt", every=1)
    run = pretrain(small_run(scenes, tmp_path / "run", monitor=monitor, steps=3))
    assert any("monitor/knn" in line for line in read_metrics(run))
    output = capfd.readouterr().err
    assert "1 video of --monitor.list cannot be read" in output
    assert re.search(r"dsm on tiny: evaluating on .*watched.txt: 8/8\n", output)


@pytest.mark.parametrize("windows", [1, 2])
@pytest.mark.parametrize("kind", ["list", "balance", "classifier"])
def test_a_run_is_evaluated_in_its_precision_and_on_no_more_clips_than_it_trains_on(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, windows: int
) -> None:
    asked = []

    def recorded(*args: Any, **settings: Any) -> Any:
        asked.append((settings["precision"], settings["batch_size"] * settings["windows"]))
        return extract_by_all(*args, **settings)

    for module in ("dsm.train.monitor", "dsm.evaluate.video_test"):
        monkeypatch.setattr(f"{module}.extract_by_all", recorded)
    optim, changes = OptimConfig(accumulate=2), {"precision": "bf16", "steps": 1}
    if kind == "classifier":
        data = FinetuneData(scenes / "train.txt", batch_size=4, workers=0, test=scenes / "test.txt")
        finetune(
            FinetuneConfig(
                data=data, out=tmp_path / "run", backbone="tiny", clip=CLIP, optim=optim,
                test_windows=windows, **changes,
            )
        )  # fmt: skip
        assert asked == [("bf16", 2)]
        return
    monitor = MonitorConfig(scenes / "test.txt" if kind == "list" else None, windows=windows, videos=10)
    pretrain(small_run(scenes, tmp_path / "run", optim=optim, monitor=monitor, method="simclr", **changes))
    assert asked == [("bf16", 4)]


def test_results_say_how_many_clips_were_measured(scenes: Path, tmp_path: Path) -> None:
    optim = OptimConfig(accumulate=2)
    run = pretrain(small_run(scenes, tmp_path / "run", optim=optim, steps=1, monitor=MonitorConfig(videos=9)))
    found = {row.metric: row.n for row in read_results(run / "results.json")}
    assert found == {"train/loss": 8, "train/motion": 4, "monitor/balance": 9}
