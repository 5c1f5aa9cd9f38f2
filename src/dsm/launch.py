"""Starting the processes of one run on this machine, and ending them together."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

import torch

from dsm.distributed import is_first, lost_contact
from dsm.errors import USER_ERROR, UserError, sentence
from dsm.locks import work
from dsm.signals import WARNINGS, Interrupted, leave_by_exception
from dsm.terminal import console

Config = TypeVar("Config")
GOES_ON = "Run the same command again to continue; add --resume to `dsm pretrain` and `dsm finetune`."

LONGEST_STEP = 600
"""Seconds that stopped processes have to finish a step and save, before they are killed."""
LONGEST_TELLING = 10
"""Seconds to wait while another process reports an error; it may be killed meanwhile."""


def in_processes(count: int, function: Callable[[Config], Any], config: Config) -> None:
    """Call ``function(config)`` in ``count`` processes on this machine; if one fails, all are ended.

    Raises:
        SystemExit: a process ended with an error, which it has reported.
        UserError: a process was killed.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in ("torch.distributed", "torch.multiprocessing"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # dsm reports it in one sentence
    # Older versions of torch (before about 2.10) lack this setting and kill processes after 30 seconds.
    patient: Any = {"shutdown_timeout": LONGEST_STEP} if hasattr(LaunchConfig, "shutdown_timeout") else {}
    launch = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=count, rdzv_backend="c10d", rdzv_endpoint="localhost:0",
        local_addr="localhost", max_restarts=0, start_method="spawn", run_id=str(os.getpid()), **patient,
    )  # fmt: skip
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    warned: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        """torch passes SIGTERM on to the processes and waits for them, but does not handle warnings."""
        warned.append(number)
        signal.raise_signal(signal.SIGTERM)

    if threading.current_thread() is threading.main_thread():
        for number in WARNINGS:
            if before[number] in (signal.SIG_DFL, signal.getsignal(signal.SIGTERM)):
                signal.signal(number, pass_on)
    reported = torch.multiprocessing.get_context("spawn").Value("b", False)
    try:
        elastic_launch(launch, _child)(function, config, reported)
    except ChildFailedError as error:
        # A killed process is the cause, even if another one failed visibly before.
        rank, failure = min(
            error.failures.items(), key=lambda item: (item[1].exitcode > 0, item[1].timestamp)
        )
        if failure.exitcode > 0:
            raise SystemExit(failure.exitcode) from None
        name = signal.Signals(-failure.exitcode).name
        raise UserError(
            f"process {rank} of {count} was killed by {name}"
            f"{', perhaps because memory ran out' if name == 'SIGKILL' else ''}; the others were ended. "
            f"{GOES_ON}"
        ) from None
    except Exception as error:
        if type(error).__name__ != "SignalException":
            raise
        number = warned[0] if warned else int(error.sigval)  # type: ignore[attr-defined]
        raise SystemExit(128 + number) from None
    finally:  # torch does not restore the handlers
        for number, handler in before.items():
            if signal.getsignal(number) != handler and threading.current_thread() is threading.main_thread():
                signal.signal(number, handler)


def _child(function: Callable[[Config], Any], config: Config, reported: Any) -> None:
    """The body of each process. An error ends it; the first process with an error reports it.

    ``reported`` is a flag shared by the processes, because they often all fail for the same reason.
    """
    leave_by_exception()
    try:
        with work():
            function(config)
    except Interrupted as stopped:
        if is_first():
            console.print(f"dsm: {stopped}.")
        leave(stopped.exit_code)
    except Exception as error:
        if lost_contact(error):  # the parent must see that the other process failed first
            raise
        message = sentence(error)
        # Hold the lock while reporting: when the first process leaves, the others are killed.
        held = reported.get_lock().acquire(timeout=LONGEST_TELLING)
        if not reported.get_obj().value:
            reported.get_obj().value = True
            if message is None:
                traceback.print_exc()  # the parent process does not receive it
            else:
                console.print(f"dsm: {message}", style="red")
        if held:
            reported.get_lock().release()
        leave(1 if message is None else USER_ERROR)


def leave(code: int) -> None:
    """End this process at once, without waiting for others that may be waiting for it."""
    sys.stderr.flush()
    os._exit(code)
