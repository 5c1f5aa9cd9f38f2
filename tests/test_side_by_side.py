"""Jobs in parallel processes, one of which is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing import util
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from dsm import workers
from dsm.errors import UserError
from dsm.workers import side_by_side

PARENT = """
import time
from dsm.workers import side_by_side

if __name__ == "__main__":
    for _ in side_by_side(print, {"it": ("begun",)}, 1):
        print("done", flush=True)
        time.sleep(600)
"""


def test_a_killed_process_is_reported() -> None:
    with pytest.raises(UserError, match="a worker process was killed"):
        list(side_by_side(os._exit, {"it": (1,)}, 1))


def test_a_process_that_starts_while_another_dies_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dead one closes the pipes of all, so that the next is started with numbers of none."""
    spawn = workers.SPAWN.Process._Popen

    def without_pipes(process: BaseProcess) -> Any:
        monkeypatch.setattr(util, "spawnv_passfds", partial(_start, util.spawnv_passfds))
        return spawn(process)

    monkeypatch.setattr(workers.SPAWN.Process, "_Popen", staticmethod(without_pipes))
    with pytest.raises(UserError, match="a worker process was killed"):
        list(side_by_side(print, {"it": ("never",)}, 1))


def _start(start: Callable[..., int], path: str, words: Sequence[str], pipes: Sequence[int]) -> int:
    return start(path, words, [-1, *pipes])


def test_no_process_outlives_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT, encoding="utf-8")
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    parent.stdout.readline()  # its worker now waits for more
    parent.kill()
    # The pipe stays open as long as one of the processes lives.
    parent.communicate(timeout=60)


def test_pools_are_made_in_one_place_only() -> None:
    """Elsewhere a worker would outlive its parent, or a killed one end in a traceback."""
    package = Path(workers.__file__).parent
    making = [
        file.name for file in package.rglob("*.py") if "ProcessPoolExecutor(" in file.read_text("utf-8")
    ]
    assert making == ["workers.py"]
