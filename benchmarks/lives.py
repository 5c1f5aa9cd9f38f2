"""Lives of the ``dsm`` command: forks of one process that has imported all modules once."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE = 600
"""Seconds after which a life that does not end counts as hung."""


def warm() -> None:
    """Import what the verbs need, so that lives begin at once."""
    from dsm.commands import VERBS

    besides = ("torch.utils.tensorboard", "matplotlib.figure", "sklearn.linear_model", "scipy.stats")
    for module in (*(verb.module for verb in VERBS.values()), *besides):
        importlib.import_module(module)
    gc.freeze()  # or a fork's garbage collector writes to every shared page


def begin(words: list[str], log: Path, limit: Callable[[], object] = lambda: None) -> int:
    """Run ``dsm WORDS`` in a fork, after ``limit()``; its process number."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    code = 1
    try:
        from dsm.cli.main import main

        sys.argv = ["dsm", *words]
        limit()
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def end_of(process: int, patience: float = PATIENCE) -> int:
    """The exit code of a life, once it has ended; that of one that hangs is -9."""
    begun = time.monotonic()
    while True:
        number, status = os.waitpid(process, os.WNOHANG)
        if number:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() - begun > patience:
            os.kill(process, signal.SIGKILL)
        time.sleep(0.01)


def children(process: int) -> list[int]:
    """The workers of a process, and theirs."""
    try:
        listed = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        found = [int(one) for one in listed]
        tracker = {one for one in found if "resource_tracker" in Path(f"/proc/{one}/cmdline").read_text()}
    except OSError:  # it has ended
        return []
    return [one for one in found if one not in tracker] + [two for one in found for two in children(one)]


def left_of(session: int) -> list[int]:
    """The processes of a life's session that still run."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                words = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(words[3]) == session and words[0] != "Z":
                found.append(int(folder.name))
    return found
