"""Graceful stops: after Ctrl-C, SIGTERM or a scheduler's warning, the current step finishes and is saved.

SLURM and other schedulers send a warning (SIGUSR1 or SIGUSR2) some time before they end a job.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

WARNINGS = tuple(getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name))
"""The user chooses which one to send: ``sbatch --signal=USR1@120``. Windows has neither."""


def ignore_warnings() -> None:
    """For a worker: ignore the scheduler's warning, which every process gets; the parent ends the worker."""
    for number in WARNINGS:
        signal.signal(number, signal.SIG_IGN)


_OWN_FAULTS = tuple(
    getattr(signal, name)
    for name in ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS")
    if hasattr(signal, name)
)


def was_killed(exit_code: int) -> bool:
    """Whether a process was killed from outside, as when memory runs out, rather than by its own crash.

    Args:
        exit_code: as in Python: below 0, minus the number of the signal that ended the process.
    """
    return exit_code < 0 and -exit_code not in _OWN_FAULTS


STOPS = (signal.SIGINT, signal.SIGTERM, *WARNINGS)
SAME_WISH = 1.0
"""Seconds within which a repeated signal counts as the same request."""


def leave_by_exception() -> None:
    """From now on, signals that end the process raise exceptions, so that workers and files are cleaned up.

    SIGINT already raises one. Warning signals that other code, such as submitit, handles are left to it.
    """
    for number in (signal.SIGTERM, *WARNINGS):
        if number == signal.SIGTERM or signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


class Interrupted(Exception):
    """The work was stopped from outside and saved; the command exits with 128 + the signal number.

    The message says where it stopped; the command line adds how to continue.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal = signal_number
        self.exit_code = 128 + signal_number


class StopFlag:
    """``signal`` is the number of the first signal received, or 0."""

    signal = 0


@contextmanager
def stop_flag() -> Iterator[StopFlag]:
    """Inside the block, the first of ``STOPS`` only sets the flag; a second SIGINT or SIGTERM acts at once.

    A signal within a second of the first counts as the same request, because Ctrl-C reaches a process both
    from the terminal and from its parent. After a warning, the SIGTERM that follows it counts as the first.
    """
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag  # only the main thread can handle signals
        return
    before = {number: signal.getsignal(number) for number in STOPS}
    for number in WARNINGS:  # if other code handles it, leave it to that code
        if before[number] not in (signal.SIG_DFL, _leave):
            del before[number]

    first = 0.0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if not flag.signal or (flag.signal in WARNINGS and number not in WARNINGS):
            flag.signal, first = number, time.monotonic()
            return
        if number in WARNINGS or time.monotonic() - first < SAME_WISH:
            return
        for each, handler in before.items():
            signal.signal(each, handler)
        signal.raise_signal(number)

    for number in before:
        signal.signal(number, handle)
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def stops_held() -> Iterator[None]:
    """Inside the block, ``STOPS`` wait for its end. For starting processes: an exception in the middle of
    that would leave a process behind that nothing keeps track of."""
    flag = StopFlag()
    try:
        with stop_flag() as flag:
            yield
    finally:
        if flag.signal:
            signal.raise_signal(flag.signal)
