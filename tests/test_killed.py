"""A run that is killed at any moment and resumed ends as if it had not been."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import equal, small_run, weights_of
from warm_dsm import HANG, run_line

from dsm.models.checkpoint_file import list_checkpoints
from dsm.runs.logs import read_metrics
from dsm.train.monitor import MonitorConfig
from dsm.train.pretrain import PretrainConfig, pretrain

STEPS = 60


def words(scenes: Path, out: Path, workers: int) -> list[str]:
    return [
        sys.executable, "-m", "dsm", "pretrain", "--data.train", str(scenes / "train.txt"),
        "--data.batch-size", "8", "--data.workers", str(workers), "--backbone", "tiny",
        "--clip.frames", "4", "--clip.size", "32", "--clip.resize", "40", "--steps", str(STEPS),
        "--dsm.queue", "32", "--dsm.momentum", "0.9", "--log-every", "1", "--save-every", "4",
        "--out", str(out),
    ]  # fmt: skip


def finish(line: list[str]) -> float:
    begun = time.monotonic()
    done = subprocess.run(line, env=environment(), capture_output=True, text=True, timeout=HANG)
    assert done.returncode == 0, done.stderr
    return time.monotonic() - begun


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
@pytest.mark.parametrize("changing_workers", [False, True])
def test_a_run_killed_twenty_times_and_resumed_ends_the_same(
    scenes: Path, tmp_path: Path, changing_workers: bool
) -> None:
    """kill -9, twenty times, from the start of a process to its end, half of them during training."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(words(scenes, whole, 1))
    moments = random.Random(0)
    kills = began = 0
    while kills < 20:
        workers = moments.choice([0, 1, 2]) if changing_workers else 1
        resume = ["--resume"] if list_checkpoints(killed) else ["--overwrite"] if killed.exists() else []
        before = last_step(killed)
        process = subprocess.Popen(
            [*words(scenes, killed, workers), *resume], env=environment(), stderr=subprocess.DEVNULL
        )
        if moments.random() < 0.3:
            time.sleep(moments.uniform(0, 4))  # while it starts
        else:
            # Some steps later, so that the run finishes in twenty attempts, and then at any moment.
            target = min(before + moments.randint(1, 5), STEPS)
            deadline = time.monotonic() + 60
            while last_step(killed) < target and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(moments.uniform(0, 0.08))
        began += last_step(killed) > before
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
    assert began >= 8
    resume = ["--resume"] if list_checkpoints(killed) else ["--overwrite"]
    finish([*words(scenes, killed, 1), *resume])
    assert equal(weights_of(whole), weights_of(killed))
    losses = [[(line["step"], line["loss"]) for line in read_metrics(run)] for run in (whole, killed)]
    assert losses[0] == losses[1]
    assert [step for step, _ in losses[0]] == list(range(1, STEPS + 1))


def last_step(run: Path) -> int:
    """The last logged step of a run."""
    try:
        lines = (run / "metrics.jsonl").read_text().splitlines()
    except OSError:
        return 0
    return len(lines)


KILLED_IN_A_LOOK = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_killed import looked_at
from dsm.train import pretrain, trainer
place, name, count = {place}, {name!r}, {count}
real = getattr(place, name)
def killing(*words, **settings):
    global count
    if not count:
        os.kill(os.getpid(), signal.SIGKILL)
    count -= 1
    return real(*words, **settings)
setattr(place, name, killing)
pretrain.pretrain(looked_at(Path({scenes!r}), Path({out!r})))
"""


def looked_at(scenes: Path, out: Path, **changes: Any) -> PretrainConfig:
    """Ten steps, evaluated after each epoch and saved after three steps."""
    monitor = MonitorConfig(scenes / "test_free.txt", every=1)
    return small_run(scenes, out, steps=10, monitor=monitor, save_every=3, **changes)


@pytest.fixture(scope="module")
def whole(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that was never killed."""
    return pretrain(looked_at(scenes, tmp_path_factory.mktemp("whole") / "run"))


@pytest.mark.parametrize(
    ("place", "name", "count"),
    [
        ("pretrain", "knn_and_recall", 1),  # the checkpoint is written, its evaluation is not done
        ("trainer.RunLog", "write_gradients", 4),  # in a step, some steps after the last checkpoint
        ("trainer", "keep_best", 0),  # the evaluation is saved, and best.pt is still to be written
    ],
)
def test_what_a_killed_run_owes_is_done_when_it_goes_on(
    scenes: Path, whole: Path, tmp_path: Path, place: str, name: str, count: int
) -> None:
    """Looks, best.pt, health and warnings are those of a run that was never killed."""
    killed, script = tmp_path / "killed", tmp_path / "killed.py"
    script.write_text(
        KILLED_IN_A_LOOK.format(
            tests=str(Path(__file__).parent), scenes=str(scenes), out=str(killed), place=place, name=name,
            count=count,
        )
    )  # fmt: skip
    assert run_line("python", script).returncode == 128 + signal.SIGKILL
    pretrain(looked_at(scenes, killed, resume=True))
    assert learned(killed) == learned(whole)
    bests = [torch.load(run / "checkpoints" / "best.pt", weights_only=True) for run in (whole, killed)]
    assert bests[0]["step"] == bests[1]["step"]
    assert equal(bests[0]["method"], bests[1]["method"])
    assert equal(weights_of(whole), weights_of(killed))
    assert not list(tmp_path.rglob(".*"))


TIMES = ("clips_per_second", "wait_seconds", "work_seconds", "data_wait")


def learned(run: Path) -> list[dict[str, float]]:
    """All that a run has logged, but for times."""
    return [{name: value for name, value in line.items() if name not in TIMES} for line in read_metrics(run)]
