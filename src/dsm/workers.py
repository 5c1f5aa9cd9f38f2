"""How many cores this process may use, and jobs that run in parallel worker processes.

In a container or on a cluster node a process may often use only some of the machine's cores.
"""

from __future__ import annotations

import errno
import math
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from dsm.errors import UserError
from dsm.signals import ignore_warnings, stops_held

_CGROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Cores allowed by CPU affinity (taskset, SLURM) and cgroup quotas (Docker, Kubernetes); at least 1."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not Linux
        allowed = os.cpu_count() or 1
    quota = _quota(_OWN, _CGROUPS)
    return max(1, allowed if quota is None else min(allowed, math.ceil(quota)))


def _quota(own: Path, mounted: Path) -> float | None:
    """The smallest CPU quota, in cores, of this process's cgroup and the groups above it; None if unlimited.

    Args:
        own: the file that lists the groups of this process, one line ``number:controllers:/path`` each.
        mounted: the folder in which groups appear as folders. A container sees its own group as the root.
    """
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    limits: list[float] = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            roots, read = [mounted, mounted / "unified"], _of_second
        elif "cpu" in controllers.split(","):
            roots, read = [mounted / "cpu", mounted / controllers, mounted], _of_first
        else:
            continue
        group = Path(path.lstrip("/"))
        if ".." in group.parts:  # a group outside the container
            group = Path()
        for root in roots:
            limits += [found for one in (group, *group.parents) if (found := read(root / one)) is not None]
    return min(limits, default=None)


def _of_second(folder: Path) -> float | None:
    """cgroup version 2: ``cpu.max`` holds ``quota period`` or ``max period``."""
    words = _words(folder / "cpu.max")
    return _share(words[0], words[1]) if len(words) == 2 else None


def _of_first(folder: Path) -> float | None:
    """cgroup version 1: two files; a quota of -1 means unlimited."""
    quota, period = (_words(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    return _share(quota[0], period[0]) if quota and period else None


def _share(quota: str, period: str) -> float | None:
    try:
        cores = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # "max"
        return None
    return cores if cores > 0 else None


def _words(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return []


Key = TypeVar("Key")
Result = TypeVar("Result")


_hiding = threading.Lock()


class _Process(SpawnProcess):
    """A process that does not run the user's script again.

    A spawned process imports the script that started it, to find the script's functions. Jobs of pools need
    none of them, and a script without ``if __name__ == "__main__":`` would run again in each process.
    """

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Any:
        with _hiding:
            script, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
            try:
                return SpawnProcess._Popen(process_obj)
            finally:
                sys.modules["__main__"] = script


class _Spawn(SpawnContext):
    Process = _Process


SPAWN = _Spawn()
"""How to start processes of pools: spawned, because forking a process that has threads (torch, a progress
bar) can hang, and without the user's script."""


def make_pool(workers: int) -> ProcessPoolExecutor:
    """A pool of worker processes that end when this process ends, however it ends."""
    return ProcessPoolExecutor(workers, mp_context=SPAWN, initializer=_begin_worker)


def _begin_worker() -> None:
    """End this worker when its parent ends; otherwise it would wait for its next job forever."""
    ignore_warnings()

    def watch() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def side_by_side(
    function: Callable[..., Result], jobs: Mapping[Key, tuple[Any, ...]], workers: int
) -> Iterator[tuple[Key, Future[Result]]]:
    """Yield each job's key and outcome as it finishes; if the caller stops iterating, no new job starts.

    Args:
        function: must be picklable, and so must its arguments.
        jobs: the arguments of each call.
        workers: number of processes.

    Raises:
        UserError: a process was killed.
    """
    pool = make_pool(workers)
    killed = UserError(
        "a worker process was killed, perhaps because memory ran out; use fewer --workers. If a file crashes "
        "the decoder, `dsm data check` finds it."
    )
    try:
        try:
            with stops_held():  # the first job begins the processes
                work = {pool.submit(function, *arguments): key for key, arguments in jobs.items()}
        except (BrokenProcessPool, OSError, ValueError) as error:
            # A process that dies while others start closes the pipes that they inherit, or their numbers.
            if isinstance(error, OSError) and error.errno not in (None, errno.EPIPE):
                raise
            if isinstance(error, ValueError) and "fds_to_keep" not in str(error):
                raise
            raise killed from None
        for future in as_completed(work):
            if isinstance(future.exception(), BrokenProcessPool):
                raise killed
            yield work[future], future
    finally:
        pool.shutdown(cancel_futures=True)
