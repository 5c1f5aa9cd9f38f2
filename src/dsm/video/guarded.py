"""Calls in processes of their own: a file may crash the decoder, or keep it busy for ever."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pebble import ProcessExpired, ProcessPool

from dsm.signals import ignore_warnings
from dsm.video.segments import file_of

Result = TypeVar("Result")

BYTES_A_SECOND = 2_000_000
"""Of video a busy core decodes at least; an hour of 1080p takes minutes, and is no hang."""


@dataclass(frozen=True)
class Job(Generic[Result]):
    """One call."""

    function: Callable[..., Result]
    """One that can be pickled, as are its arguments."""
    arguments: tuple[Any, ...]
    seconds: float
    """After which its process is killed."""


@dataclass(frozen=True)
class Failed:
    """What became of a call that gave no result."""

    timeout: bool
    """Whether its time was over."""
    reason: str


def call_guarded(jobs: Iterable[Job[Result]], workers: int) -> Iterator[Result | Failed]:
    """Yield the outcome of each call in their order, as soon as it is known.

    When the caller stops, the processes are killed.

    Args:
        workers: processes side by side.
    """
    # spawn: a fork of a process with threads may hang.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPool(max_workers=workers, context=spawn, initializer=ignore_warnings)
    try:
        begun = [(job, pool.schedule(job.function, job.arguments, timeout=job.seconds)) for job in jobs]
        for job, one in begun:
            outcome: Result | Failed
            try:
                outcome = one.result()
            except FutureTimeoutError:
                outcome = Failed(timeout=True, reason=f"not decoded within {job.seconds:.0f} s")
            except ProcessExpired as error:
                outcome = Failed(timeout=False, reason=f"crashes the decoder ({error})")
            except Exception as error:  # one file of a stranger must not cost the results of the others
                outcome = Failed(timeout=False, reason=f"cannot be decoded ({type(error).__name__})")
            yield outcome
    finally:  # also when stopped in the middle: what is left is not waited for
        pool.stop()  # type: ignore[no-untyped-call]
        pool.join()


def time_for(path: str | Path, seconds: float) -> float:
    """``seconds``, and one more for each 2 MB of a video file."""
    return seconds + _size(path) / BYTES_A_SECOND


def _size(path: str | Path) -> int:
    """Bytes of a video file; 0 of what is none."""
    try:
        return file_of(Path(path)).stat().st_size
    except (OSError, ValueError):
        return 0
