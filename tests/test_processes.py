"""Several processes make one run: the same losses as one process, and a common end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import small_run, weights_of
from warm_dsm import HANG, dsm, run_line

from dsm.distributed import gpus_to_choose_from, lost_contact
from dsm.errors import UserError
from dsm.models.checkpoint_file import list_checkpoints, step_of
from dsm.runs.logs import read_metrics
from dsm.train.pretrain import pretrain

HERE = str(Path(__file__).parent)

RUN = """
import sys
sys.path.insert(0, {here!r})
from dataclasses import replace
from pathlib import Path
from runs import small_run
from dsm.train.config import MonitorConfig
from dsm.train.optim import OptimConfig
from dsm.train.pretrain import pretrain
{more}
if __name__ == "__main__":
    run = small_run(
        Path({scenes!r}), Path({out!r}), method={method!r}, devices={devices}, steps={steps},
        optim=OptimConfig("sgd", lr=0.02, warmup=2), save_every={save_every},
        monitor=MonitorConfig(videos=0),
    )
    # Each process would exchange scenes within its own part of the batch.
    pretrain(replace(run, settings=run.settings.without_mixing()))
"""


# Twenty steps with so small a batch amplify a difference ten-thousandfold: where the order of a sum
# differs, so do the losses in single precision. In double precision only a mistake would show.
DOUBLE = """
import torch
from dsm.train.trainer import Trainer
torch.set_default_dtype(torch.float64)
render = Trainer.render
Trainer.render = lambda self, batch: {name: clip.double() for name, clip in render(self, batch).items()}
"""


def script_of(
    scenes: Path,
    out: Path,
    *,
    method: str,
    devices: int,
    steps: int = 20,
    save_every: int = 1000,
    more: str = "",
) -> Path:
    script = out.with_suffix(".py")
    script.write_text(
        RUN.format(
            here=HERE,
            scenes=str(scenes),
            out=str(out),
            method=method,
            devices=devices,
            steps=steps,
            save_every=save_every,
            more=more,
        )
    )
    return script


def start(scenes: Path, out: Path, **settings: Any) -> subprocess.Popen[str]:
    script = script_of(scenes, out, **settings)
    return subprocess.Popen([sys.executable, script], stderr=subprocess.PIPE, text=True)


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("dsm-triplet", "simclr")]


@pytest.mark.parametrize("method", ["dsm", *SLOW])
def test_two_processes_with_half_the_batch_each_give_the_losses_of_one(
    scenes: Path, tmp_path: Path, method: str
) -> None:
    for name, devices in (("one", 1), ("two", 2)):
        script = script_of(scenes, tmp_path / name, method=method, devices=devices, more=DOUBLE)
        done = run_line("python", script)
        assert done.returncode == 0, done.stderr
        assert "deprecated" not in done.stderr
    one, two = (read_metrics(tmp_path / name) for name in ("one", "two"))
    assert len(one) == len(two) == 20
    assert [line["grad_norm"] for line in two] == pytest.approx([line["grad_norm"] for line in one], rel=1e-6)
    assert [line["loss"] for line in two] == pytest.approx([line["loss"] for line in one], abs=1e-6)
    first, second = (weights_of(tmp_path / name) for name in ("one", "two"))
    for name, tensor in first.items():
        assert torch.allclose(tensor.float(), second[name].float(), atol=1e-6), name


def children(process: subprocess.Popen[str]) -> list[int]:
    listed = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(process.pid)],
        capture_output=True,
        text=True,
        check=True,
    )
    return [int(line.split()[0]) for line in listed.stdout.splitlines() if "spawn_main" in line]


def wait_for_lines(run: Path, count: int) -> None:
    metrics = run / "metrics.jsonl"
    deadline = time.monotonic() + 240
    while not (metrics.exists() and metrics.read_text().count("\n") >= count):
        assert time.monotonic() < deadline, f"{count} lines were not logged in time"
        time.sleep(0.05)


DRAWS = """
import torch
from dsm.train.trainer import Trainer
render = Trainer.render
def counted(self, batch):
    with (self.config.out / f"drawn-{self.fabric.global_rank}.txt").open("a") as file:
        file.write(f"{torch.rand(1).item()}\\n")
    return render(self, batch)
Trainer.render = counted
"""


def test_each_process_draws_its_own_numbers_and_a_dying_one_ends_the_others(
    scenes: Path, tmp_path: Path
) -> None:
    process = start(scenes, tmp_path / "run", method="dsm", devices=2, steps=100_000, more=DRAWS)
    wait_for_lines(tmp_path / "run", 4)  # so that both have drawn for three steps
    drawn = [(tmp_path / "run" / f"drawn-{rank}.txt").read_text().split()[:3] for rank in range(2)]
    assert [len(numbers) for numbers in drawn] == [3, 3]
    assert len({*drawn[0], *drawn[1]}) == 6
    workers = children(process)
    assert len(workers) == 2
    os.kill(workers[1], signal.SIGKILL)
    begun = time.monotonic()
    _, output = process.communicate(timeout=HANG)
    assert time.monotonic() - begun < 60
    assert "was killed by SIGKILL" in output
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


# The loss of the second process alone is infinite in the third step, with a scaler as for fp16. The first
# process takes a second to save.
ONE_INFINITE = """
import time
import torch
from dsm.errors import UserError
from dsm.methods.moco import Moco
from dsm.train.trainer import Trainer
step, finite, save = Trainer.train_step, Trainer._is_finite, Trainer._write_and_evaluate
forward = Moco.forward
spoilt = []
def tell(self, *words):
    with (self.config.out / f"told-{self.fabric.global_rank}.txt").open("a") as file:
        print(*words, file=file)
def spoil(self, *args):
    tell(self, "step", self.step, time.monotonic())
    if self.step == 0:
        self.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    spoilt[:] = [True] * (self.step == 2 and self.fabric.global_rank == 1)
    return step(self, *args)
def infinite(self, views):
    output = forward(self, views)
    return output._replace(loss=output.loss * float("inf")) if spoilt else output
def decide(self, *args):
    decided = "stop"
    try:
        decided = finite(self, *args)
    finally:
        tell(self, "decided", self.step, decided)
    return decided
def slow(self, *args, **named):
    time.sleep(1)
    save(self, *args, **named)
    tell(self, "saved", self.step, time.monotonic())
Trainer.train_step, Trainer._is_finite, Trainer._write_and_evaluate = spoil, decide, slow
Moco.forward = infinite
"""


def test_processes_decide_alike_and_wait_for_the_one_that_saves(scenes: Path, tmp_path: Path) -> None:
    script = script_of(
        scenes, tmp_path / "run", method="moco", devices=2, steps=4, save_every=2, more=ONE_INFINITE
    )
    done = run_line("python", script)
    assert done.returncode == 2
    assert done.stderr.count("step 3: numbers that are not finite") == 1
    told = [(tmp_path / "run" / f"told-{rank}.txt").read_text().splitlines() for rank in range(2)]
    for lines in told:
        found = [line.split()[1:] for line in lines if line.startswith("decided")]
        assert found == [["0", "True"], ["1", "True"], ["2", "stop"]]
    (saved,) = (float(line.split()[2]) for line in told[0] if line.startswith("saved"))
    assert not any(line.startswith("saved") for line in told[1])
    begun = [float(line.split()[2]) for line in told[1] if line.startswith("step")]
    assert begun[1] < saved < begun[2]


@pytest.mark.parametrize(
    "message",
    [
        "[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:3301",
        "ncclRemoteError: A call failed possibly due to a network error or a remote process exiting "
        "prematurely.",
        "socketPollConnect: Connection closed by remote peer node7<41123>",
        "NCCL communicator was aborted on rank 0.",
    ],
)
def test_a_lost_process_is_recognised_by_the_words_of_gloo_and_nccl(message: str) -> None:
    assert lost_contact(RuntimeError(message))
    assert not lost_contact(RuntimeError("shapes do not match"))


# The second process does not see the newest checkpoint, as on a machine whose disk shows it late.
SEEN_LATE = """
import os
import dsm.runs.checkpoint as checkpoint
listed = checkpoint.list_checkpoints
checkpoint.list_checkpoints = lambda run: listed(run)[: -1 if os.environ.get("RANK") == "1" else None]
from runs import small_run as begun
small_run = lambda *args, **changes: begun(*args, **changes, resume=True, extend=True)
"""


def test_processes_that_would_resume_from_different_checkpoints_are_refused(
    scenes: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"method": "moco", "devices": 2, "save_every": 2}
    assert run_line("python", script_of(scenes, tmp_path / "run", steps=4, **settings)).returncode == 0
    script = script_of(scenes, tmp_path / "run", steps=6, more=SEEN_LATE, **settings)
    again = run_line("python", script)
    assert again.returncode == 2
    assert again.stderr.count("the processes resume from different checkpoints, of step 2 and of step 4") == 1
    assert [step_of(path) for path in list_checkpoints(tmp_path / "run")] == [2, 4]


def test_an_error_in_every_process_is_reported_once(scenes: Path, tmp_path: Path) -> None:
    words = ["--data.train", scenes / "train.txt", "--devices", 2, "--weights", tmp_path / "nowhere.pt"]
    done = dsm("pretrain", *words, "--out", tmp_path / "run")
    assert done.returncode == 2
    assert done.stderr.count("nowhere.pt: no such checkpoint") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("kind", "code", "message"),
    [
        ("fault", 1, "RuntimeError: unexpected"),
        pytest.param("file", 2, "dsm: x.txt: Denied.", marks=pytest.mark.slow),
    ],
)
def test_an_unexpected_error_is_not_swallowed(tmp_path: Path, kind: str, code: int, message: str) -> None:
    script = tmp_path / "fails.py"
    script.write_text(
        "from dsm.launch import in_processes\n"
        "def fails(what):\n"
        "    raise what\n"
        "if __name__ == '__main__':\n"
        "    import sys\n"
        "    denied = PermissionError(13, 'Denied', 'x.txt')\n"
        "    errors = {'fault': RuntimeError('unexpected'), 'file': denied}\n"
        "    in_processes(2, fails, errors[sys.argv[1]])\n"
    )
    done = run_line("python", script, kind)
    assert done.returncode == code
    assert done.stderr.count(message) == 1  # for both processes


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGUSR1, marks=pytest.mark.slow)])
def test_a_signal_saves_in_all_processes_at_the_same_step(
    scenes: Path, tmp_path: Path, number: signal.Signals
) -> None:
    words = [
        "pretrain", "--data.train", str(scenes / "train.txt"),
        "--data.batch-size", "8", "--data.workers", "0", "--backbone", "tiny", "--log-every", "1",
        "--clip.frames", "4", "--clip.size", "32", "--clip.resize", "40", "--dsm.queue", "32",
        "--out", str(tmp_path / "run"),
    ]  # fmt: skip
    line = [sys.executable, "-m", "dsm", *words, "--steps", "100000", "--devices", "2"]
    process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
    wait_for_lines(tmp_path / "run", 3)
    process.send_signal(number)
    _, output = process.communicate(timeout=HANG)
    assert process.returncode == 128 + number, output
    assert re.search(r"stopped at step \d+ of 100000 and saved", output)
    assert "stopped; the same command with --resume continues" in output
    assert "Traceback" not in output
    saved = torch.load(next((tmp_path / "run" / "checkpoints").glob("step_*.pt")), weights_only=True)
    assert saved["step"] == read_metrics(tmp_path / "run")[-1]["step"]
    steps = saved["step"] + 2
    again = dsm(*words, "--steps", steps, "--resume", "--extend")
    assert again.returncode == 0, again.stderr
    assert read_metrics(tmp_path / "run")[-1]["step"] == steps


# Longer than torch waits by default for processes that it stops.
LONG_STEP = """
import time
from dsm.train.trainer import Trainer
step = Trainer.train_step
def long(self, *args):
    if self.step == 3:
        time.sleep(40)
    return step(self, *args)
Trainer.train_step = long
"""


@pytest.mark.slow
def test_a_signal_waits_for_a_long_step_and_saves(scenes: Path, tmp_path: Path) -> None:
    process = start(scenes, tmp_path / "run", method="dsm", devices=2, steps=100, more=LONG_STEP)
    wait_for_lines(tmp_path / "run", 3)
    time.sleep(2)
    process.send_signal(signal.SIGTERM)
    _, output = process.communicate(timeout=HANG)
    assert process.returncode == 128 + signal.SIGTERM, output
    assert list_checkpoints(tmp_path / "run")[-1].name == "step_00000004.pt"


def under_torchrun(scenes: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Train with torchrun: as on several machines, the environment gives each process its rank."""
    words = [
        "pretrain", "--data.train", str(scenes / "train.txt"), "--data.batch-size", "8",
        "--data.workers", "0", "--backbone", "tiny", "--steps", "2", "--clip.frames", "4",
        "--clip.size", "32", "--clip.resize", "40", "--out", str(out),
    ]  # fmt: skip
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "localhost"]
    return subprocess.run(
        [*torchrun, "--nproc-per-node", "2", "-m", "dsm", *words],
        capture_output=True, text=True, timeout=HANG,
    )  # fmt: skip


def test_torchrun_starts_a_run(scenes: Path, tmp_path: Path) -> None:
    done = under_torchrun(scenes, tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert weights_of(tmp_path / "run")


@pytest.mark.slow
def test_torchrun_ends_with_the_refusal_of_its_processes(scenes: Path, tmp_path: Path) -> None:
    """The refusal itself has quick tests, and that of two processes too."""
    pretrain(small_run(scenes, tmp_path / "run", steps=1))
    again = under_torchrun(scenes, tmp_path / "run")
    assert again.returncode != 0
    assert "already holds a run" in again.stderr


@pytest.mark.slow
def test_the_slurm_example_runs_locally(scenes: Path, tmp_path: Path) -> None:
    """Two processes started by submitit as on a cluster; the second call resumes."""
    pytest.importorskip("submitit")
    example = Path(__file__).parents[1] / "examples" / "slurm.py"
    out = tmp_path / "run"
    for steps in ("4", "6"):
        line = [
            sys.executable, str(example), "--cluster", "local", "--gpus", "0", "--processes", "2",
            "--logs", str(tmp_path / "logs"), "--wait", "--",
            "--data.train", str(scenes / "train.txt"), "--data.batch-size", "8", "--data.workers", "0",
            "--backbone", "tiny", "--steps", steps, "--clip.frames", "4", "--clip.size", "32",
            "--clip.resize", "40", "--out", str(out), "--extend",
        ]  # fmt: skip
        done = subprocess.run(line, capture_output=True, text=True, timeout=HANG)
        assert done.returncode == 0, done.stderr
        assert list_checkpoints(out)[-1].name == f"step_{int(steps):08d}.pt"


@pytest.mark.parametrize(
    ("processes", "visible", "environment", "devices"),
    [
        (1, 1, {}, 1),
        (1, 8, {}, 1),
        (8, 8, {}, 8),
        (2, 8, {"TORCHELASTIC_RUN_ID": "x"}, 2),
        (8, 1, {"CUDA_VISIBLE_DEVICES": "5", "SLURM_LOCALID": "5"}, 1),
        (8, 1, {"CUDA_VISIBLE_DEVICES": "0", "TORCHELASTIC_RUN_ID": "x"}, None),
        (2, 1, {}, None),
        (4, 2, {"CUDA_VISIBLE_DEVICES": "0,1"}, None),
    ],
)
def test_processes_take_the_gpu_of_their_number_or_the_one_that_they_are_shown(
    processes: int, visible: int, environment: dict[str, str], devices: int | None
) -> None:
    if devices is None:
        with pytest.raises(UserError, match=f"^{processes} processes for {visible} GPUs"):
            gpus_to_choose_from(processes, visible, environment)
    else:
        assert gpus_to_choose_from(processes, visible, environment) == devices
