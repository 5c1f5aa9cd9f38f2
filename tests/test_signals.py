"""A run that gets a signal stops, and resumes to the same end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runs import equal, weights_of
from warm_dsm import HANG, dsm, run_line

from dsm import signals
from dsm.models.checkpoint_file import list_checkpoints, step_of


def command(scenes: Path, out: Path, steps: int = 12) -> list[str]:
    return [
        "pretrain", "--data.train", str(scenes / "train.txt"), "--data.batch-size", "8",
        "--data.workers", "1", "--backbone", "tiny", "--steps", str(steps), "--log-every", "1",
        "--save-every", "5", "--out", str(out),
        "--clip.frames", "4", "--clip.resize", "40", "--clip.size", "32", "--dsm.queue", "16",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def whole(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("whole") / "run"
    done = dsm(*command(scenes, out))
    assert done.returncode == 0, done.stderr
    return out


# A run of the command line that gets a signal in its eighth step.
SIGNALLED = """
import os, sys
from dsm.cli.main import main
from dsm.train.trainer import Trainer
step = Trainer.train_step
def signalled(self, *args):
    if self.step == 7:
        os.kill(os.getpid(), {number})
    return step(self, *args)
if __name__ == "__main__":
    Trainer.train_step = signalled
    main()
"""


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGUSR1, signal.SIGKILL])
def test_a_run_stopped_by_a_signal_resumes_to_the_same_end(
    scenes: Path, whole: Path, tmp_path: Path, name: signal.Signals
) -> None:
    line, script = command(scenes, tmp_path / "run"), tmp_path / "signalled.py"
    script.write_text(SIGNALLED.format(number=int(name)))
    stopped = run_line("python", script, *line)
    assert stopped.returncode == 128 + name, stopped.stderr
    # A killed one resumes from the last checkpoint; tests/test_killed.py kills twenty.
    newest = 5 if name == signal.SIGKILL else 8
    assert step_of(list_checkpoints(tmp_path / "run")[-1]) == newest
    assert ("--resume continues" in stopped.stderr) == (name != signal.SIGKILL)
    assert "Traceback" not in stopped.stderr
    resumed = dsm(*line, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert equal(weights_of(tmp_path / "run"), weights_of(whole))


@pytest.mark.slow
@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGKILL])
def test_a_process_that_is_sent_a_signal_resumes_to_the_same_end(
    scenes: Path, tmp_path: Path, name: signal.Signals
) -> None:
    """As above, from outside, at any moment, and with two threads."""
    environment = os.environ | {"OMP_NUM_THREADS": "2"}

    def begin(out: Path, *more: str) -> subprocess.Popen[str]:
        line = [sys.executable, "-m", "dsm", *command(scenes, out, 30), *more]
        return subprocess.Popen(line, env=environment, stderr=subprocess.PIPE, text=True)

    process, metrics = begin(tmp_path / "run"), tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (metrics.exists() and metrics.read_text().count("\n") >= 6):
        time.sleep(0.05)
    assert process.poll() is None, "finished before it could be stopped"
    process.send_signal(name)
    _, output = process.communicate(timeout=HANG)
    if name == signal.SIGKILL:
        assert process.returncode == -name
    else:
        assert process.returncode == 128 + name, output
        assert "--resume continues" in output
    assert "Traceback" not in output
    for finished in (begin(tmp_path / "run", "--resume"), begin(tmp_path / "whole")):
        _, output = finished.communicate(timeout=HANG)
        assert finished.returncode == 0, output
    assert equal(weights_of(tmp_path / "run"), weights_of(tmp_path / "whole"))


def test_a_second_signal_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that hangs in a step can be stopped."""
    monkeypatch.setattr(signals, "SAME_WISH", 0)
    with signals.stop_flag() as flag:
        signal.raise_signal(signal.SIGINT)
        assert flag.signal == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_signal_waits_while_processes_begin() -> None:
    """An exception then would leave behind a process that nobody knows of."""
    steps, before = list[str](), signal.getsignal(signal.SIGTERM)

    def begin() -> None:
        with signals.stops_held():
            signal.raise_signal(signal.SIGINT)
            steps.append("first")
            signal.raise_signal(signal.SIGTERM)
            steps.append("second")

    with pytest.raises(KeyboardInterrupt):
        begin()
    assert steps == ["first", "second"]
    assert signal.getsignal(signal.SIGTERM) == before


def test_sigterm_after_a_warning_signal_counts_as_the_first() -> None:
    before = signal.getsignal(signal.SIGUSR1)  # the default, or a handler that another test left
    with signals.stop_flag() as flag:
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR1)
        assert flag.signal == signal.SIGUSR1
        signal.raise_signal(signal.SIGTERM)  # a second stop signal would end the process at once
        assert flag.signal == signal.SIGTERM
        signal.raise_signal(signal.SIGUSR2)
        assert flag.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGUSR1) == before


def test_an_existing_signal_handler_is_kept() -> None:
    """submitit has such a handler, which submits the job again."""
    signals_received: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda number, _: signals_received.append(number))
    try:
        with signals.stop_flag() as flag:
            signal.raise_signal(signal.SIGUSR2)
        assert (signals_received, flag.signal) == ([signal.SIGUSR2], 0)
    finally:
        signal.signal(signal.SIGUSR2, before)
