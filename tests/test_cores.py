"""The number of usable cores: by affinity, and by the quotas of both cgroup versions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dsm import workers
from dsm.devices import reading_workers
from dsm.workers import usable_cores

ROOT = Path(workers.__file__).parent


def group(tmp_path: Path, own: str, files: dict[str, str]) -> tuple[Path, Path]:
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        file = tmp_path / "fs" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path / "own", tmp_path / "fs"


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),  # a container sees its group as the root
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "200000 100000"}, 2.0),  # the one above
        ("0::/../../elsewhere\n", {"cpu.max": "300000 100000"}, 3.0),
        (
            "3:cpu,cpuacct:/docker/x\n1:memory:/docker/x\n",  # the host's path, absent in a container
            {"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            4.0,
        ),
        ("3:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("0::/\n", {"cpu.max": "rubbish"}, None),
        ("0::/\n", {"cpu.max": "100000 0"}, None),
        ("", {}, None),
    ],
)
def test_cgroup_quotas_are_read(
    own: str, files: dict[str, str], expected: float | None, tmp_path: Path
) -> None:
    assert workers._quota(*group(tmp_path, own, files)) == expected


def test_a_quota_limits_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    for quota, expected in ((None, 64), (1.5, 2), (0.2, 1), (100.0, 64)):
        monkeypatch.setattr(workers, "_quota", lambda *_, quota=quota: quota)
        assert usable_cores() == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no CPU affinity on this system")
def test_affinity_limits_the_cores() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from dsm.workers import usable_cores; print(usable_cores())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


def test_cores_are_counted_in_one_place_only() -> None:
    counting = [file.name for file in ROOT.rglob("*.py") if "cpu_count" in file.read_text(encoding="utf-8")]
    assert counting == ["workers.py"]


@pytest.mark.parametrize(("given", "expected"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_threads_wait_asleep(given: dict[str, str], expected: str) -> None:
    """Torch reads the policy once, when it is imported: ``import dsm`` must set it and not import torch."""
    code = "import dsm, os, sys; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | given
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [expected, "False"]


@pytest.mark.parametrize(
    ("cores", "environment", "expected"),
    [
        (1, {}, 1),
        (2, {}, 1),
        (8, {}, 7),
        (64, {}, 12),
        (64, {"LOCAL_WORLD_SIZE": "8"}, 7),
        (8, {"LOCAL_WORLD_SIZE": "8"}, 1),
        (8, {"LOCAL_WORLD_SIZE": "8", "SLURM_CPUS_PER_TASK": "8"}, 7),
    ],
)
def test_beside_a_gpu_all_cores_but_one_decode(
    monkeypatch: pytest.MonkeyPatch, cores: int, environment: dict[str, str], expected: int
) -> None:
    for name in ("LOCAL_WORLD_SIZE", "SLURM_CPUS_PER_TASK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("dsm.devices.usable_cores", lambda: cores)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert reading_workers(None) == 1
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert reading_workers(None) == expected
    assert [reading_workers(asked) for asked in (0, 3, 40)] == [0, 3, 40]
    assert reading_workers(None, "torchcodec-cuda") == 0
