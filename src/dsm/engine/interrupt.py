"""Stopping politely: Ctrl-C and SIGTERM let the step at hand finish, so that it can be saved."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SAME_WISH = 1.0
"""Seconds."""


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
    """Within, the first SIGINT or SIGTERM only raises the flag; a second one acts at once.

    One that comes within a second of the first is the same wish: Ctrl-C reaches a process from the terminal
    and once more from whoever began it.
    """
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag  # signals are the main thread's business
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    first = 0.0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if not flag.signal:
            flag.signal, first = number, time.monotonic()
            return
        if time.monotonic() - first < SAME_WISH:
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
