"""A run that is killed at any moment and resumed ends as if it had not been."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runs import equal, weights_of

from dsm.models.checkpoint_file import list_checkpoints
from dsm.runs.folder import read_metrics

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
    done = subprocess.run(line, env=environment(), capture_output=True, text=True, timeout=300)
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
