"""Stopping politely: Ctrl-C, SIGTERM and a scheduler's warning let the current step finish and be saved.

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
"""Which it is, is for the user to choose: ``sbatch --signal=USR1@120``. Windows has none."""


def ignore_warnings() -> None:
    """In a worker: all processes of a job are warned, and whoever began the worker is to end it."""
    for number in WARNINGS:
        signal.signal(number, signal.SIG_IGN)


STOPS = (signal.SIGINT, signal.SIGTERM, *WARNINGS)
SAME_WISH = 1.0
"""Seconds."""


def leave_by_exception() -> None:
    """From now on signals to end are exceptions: workers are stopped, half-written files removed.

    SIGINT is one already. A warning that somebody else waits for, as submitit does, stays his.
    """
    for number in (signal.SIGTERM, *WARNINGS):
        if number == signal.SIGTERM or signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


class Interrupted(Exception):
    """The work was stopped from outside and saved; the command exits with 128 + the signal.

    The message says where it stopped; how to go on is for the verb to say (``cli.py``).
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal = signal_number
        self.exit_code = 128 + signal_number


class StopFlag:
    """``signal`` is the number of the first signal that came, or 0."""

    signal = 0


@contextmanager
def stop_flag() -> Iterator[StopFlag]:
    """Within, the first of ``STOPS`` only raises the flag; a second SIGINT or SIGTERM acts at once.

    One that comes within a second of the first is the same wish: Ctrl-C reaches a process from the terminal
    and once more from whoever began it. After a warning SIGTERM is the first: it ends the time warned of.
    """
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag  # signals are the main thread's business
        return
    before = {number: signal.getsignal(number) for number in STOPS}
    for number in WARNINGS:  # one that somebody else waits for stays his
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
