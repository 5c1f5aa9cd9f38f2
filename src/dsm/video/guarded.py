"""Calls in separate processes, because a file may crash the decoder or make it hang."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from pebble import ProcessExpired, ProcessFuture, ProcessPool

from dsm.errors import MachineError, machine_fault, refuse_machine_fault
from dsm.signals import ignore_warnings, stops_held, was_killed
from dsm.storage.objects import facts_of, seconds_to_fetch
from dsm.video.segments import file_of
from dsm.workers import SPAWN

Result = TypeVar("Result")

RETRIES = 2
"""How often a call is tried again if its process was killed from outside."""

BYTES_A_SECOND = 2_000_000
"""Bytes of video that even a busy core decodes per second; an hour of 1080p takes minutes."""


@dataclass(frozen=True)
class Job(Generic[Result]):
    """One call."""

    function: Callable[..., Result]
    """Must be picklable, as must its arguments."""
    arguments: tuple[Any, ...]
    seconds: float
    """Time limit; then its process is killed."""


@dataclass(frozen=True)
class Failed:
    """The outcome of a call that gave no result."""

    timeout: bool
    """Whether it exceeded its time limit."""
    reason: str
    killed: bool = False
    """Whether its process was killed from outside."""


def call_guarded(jobs: Iterable[Job[Result]], workers: int) -> Iterator[Result | Failed]:
    """Yield the outcome of each call, in order, as soon as it is known.

    A call whose process was killed from outside, as when memory runs out, is tried again, up to three times.
    When the caller stops iterating, the processes are killed.

    Args:
        workers: number of parallel processes.

    Raises:
        MachineError: a process lacks memory or file handles, or processes are killed again and again.
    """
    waiting, broken = deque(jobs), 0
    while waiting:
        try:
            for outcome in _outcomes(waiting, workers):
                waiting.popleft()
                broken = 0
                yield outcome
        except BrokenProcessPool:
            broken += 1
            if broken > RETRIES:
                raise MachineError(
                    "worker processes are killed again and again, probably because memory runs out; use "
                    "fewer --workers."
                ) from None


def _outcomes(jobs: Iterable[Job[Result]], workers: int) -> Iterator[Result | Failed]:
    """The outcomes of calls in one pool.

    Raises:
        BrokenProcessPool: a process was killed that had no call, as while it started; that ends the pool.
    """
    pool = ProcessPool(max_workers=workers, context=SPAWN, initializer=ignore_warnings)

    def begin(job: Job[Result]) -> Any:
        try:
            return pool.schedule(job.function, job.arguments, timeout=job.seconds)
        except RuntimeError as error:
            if machine_fault(error) is None and not pool.active:
                raise BrokenProcessPool from None
            raise

    try:
        with stops_held():  # the first job begins the processes
            begun = [(job, begin(job)) for job in jobs]
        for job, future in begun:
            outcome = _outcome(job, future)
            for _ in range(RETRIES):
                if isinstance(outcome, Failed) and outcome.killed:
                    outcome = _outcome(job, begin(job))
            yield outcome
    finally:  # if stopped midway, do not wait for the remaining calls
        pool.stop()  # type: ignore[no-untyped-call]
        pool.join()


def _outcome(job: Job[Result], future: ProcessFuture[Any]) -> Result | Failed:
    try:
        return cast("Result", future.result())
    except FutureTimeoutError:
        return Failed(timeout=True, reason=f"not decoded within {job.seconds:.0f} s")
    except ProcessExpired as error:
        if was_killed(error.exitcode or 0):
            reason = "each process that read it was killed; it may need too much memory"
            return Failed(timeout=False, reason=reason, killed=True)
        return Failed(timeout=False, reason=f"crashes the decoder ({error})")
    except (MachineError, BrokenProcessPool):
        raise
    except Exception as error:  # one bad file must not lose the results of the others
        refuse_machine_fault(error, reading=str(job.arguments[0]))
        return Failed(timeout=False, reason=f"cannot be decoded ({type(error).__name__})")


def time_for(path: str | Path, seconds: float) -> float:
    """``seconds``, plus one second for each 2 MB of a video file, and the time to fetch it if it is a URL."""
    file = file_of(Path(path))
    try:
        return seconds + facts_of(file).size / BYTES_A_SECOND + seconds_to_fetch(file)
    except (OSError, ValueError):  # the reader reports that there is no such file
        return seconds
