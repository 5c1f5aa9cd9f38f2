"""The number of usable cores: by affinity, and by the quotas of both cgroup versions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dsm import workers
from dsm.cli import main
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


@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_of_the_command_wait_asleep(
    given: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch reads the policy once, when it is imported: it must be set before a verb is."""
    monkeypatch.setenv("OMP_WAIT_POLICY", given or "")
    if given is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")  # now that it will be restored
    policies: list[str | None] = []
    monkeypatch.setattr(main, "run", lambda words: policies.append(os.environ.get("OMP_WAIT_POLICY")))
    monkeypatch.setattr(main, "leave_by_exception", lambda: None)
    monkeypatch.setattr(sys, "argv", ["dsm", "doctor"])
    main.main()
    assert policies == [expected]
