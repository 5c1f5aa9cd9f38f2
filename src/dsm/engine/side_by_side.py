"""A function called for many jobs, in processes side by side."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from dsm.errors import UserError
from dsm.signals import ignore_warnings

Key = TypeVar("Key")
Result = TypeVar("Result")


def make_pool(workers: int) -> ProcessPoolExecutor:
    """So many processes, which end with the one that asked for them, however that ends."""
    # spawn: a fork of a process with threads (torch, a progress bar) may hang.
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=spawn, initializer=_begin_worker)


def _begin_worker() -> None:
    """A worker ends when its parent does, and not before: it would wait for its next job for ever."""
    ignore_warnings()

    def watch() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def side_by_side(
    function: Callable[..., Result], jobs: Mapping[Key, tuple[Any, ...]], workers: int
) -> Iterator[tuple[Key, Future[Result]]]:
    """Yield each job's key and outcome as it is done; when the caller stops, no more are begun.

    Args:
        function: one that can be pickled, as are its arguments.
        jobs: the arguments of each call.
        workers: processes.

    Raises:
        UserError: a process was killed.
    """
    pool = make_pool(workers)
    try:
        work = {pool.submit(function, *arguments): key for key, arguments in jobs.items()}
        for future in as_completed(work):
            if isinstance(future.exception(), BrokenProcessPool):
                raise UserError(
                    "a process that decoded was killed, perhaps for want of memory or by a file that crashes "
                    "the decoder; try fewer --workers, and `dsm data check` to find such files."
                )
            yield work[future], future
    finally:
        pool.shutdown(cancel_futures=True)
