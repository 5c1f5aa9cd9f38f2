"""``dsm`` without its start-up time, for the tests' many small commands: forks of a process that imported it.

A Python process takes seconds to import torch. ``serve`` imports it once and forks for each command, so a
command has a process of its own and leaves nothing behind. Tests call :func:`dsm`. This file, run as a
script, is the ``dsm`` of the docs: it hands over its words, folder, environment and streams, and ends as the
command does. Where no server is, it runs the ``dsm`` in the folder DSM_PROGRAMS.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from subprocess import CompletedProcess

BESIDES = ("torch.utils.tensorboard", "matplotlib.figure", "sklearn.linear_model", "scipy.stats", "cv2")
SERVER, PROGRAMS = "DSM_SERVER", "DSM_PROGRAMS"
HANG = 900
"""Seconds after which a process is taken to hang. A shorter limit would test the machine: beside other work,
a command of 20 CPU seconds takes minutes."""


def dsm(*words: object) -> CompletedProcess[str]:
    """Run the command as a user would, in a process of its own that need not import torch first.

    A test that watches the process from outside, as to send it a signal, begins ``python -m dsm`` instead.

    Args:
        words: the command line, without ``dsm``.
    """
    return run_line("dsm", *words)


def run_line(*words: object) -> CompletedProcess[str]:
    """Run ``dsm WORDS`` or ``python FILE WORDS`` in a fork of the warm process."""
    import subprocess
    import tempfile

    line = list(map(str, words))
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, Path(os.devnull).open() as nothing:
        code = ask(line, server(), [stream.fileno() for stream in (nothing, out, err)], HANG)
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode())
    return subprocess.CompletedProcess(line, code, *texts)


@cache
def server() -> str:
    """The address of the server. It starts on the first call, and ends with this process."""
    import atexit
    import subprocess
    import tempfile
    import time

    folder = tempfile.TemporaryDirectory(prefix="dsm-")
    address = Path(folder.name) / "socket"
    words = [sys.executable, __file__, "--serve", str(address)]
    process = subprocess.Popen(words, cwd=folder.name, stdin=subprocess.PIPE)

    def end() -> None:
        process.terminate()
        process.wait()
        folder.cleanup()

    atexit.register(end)
    until = time.monotonic() + HANG
    while not address.exists():
        assert process.poll() is None, "the warm process did not start"
        assert time.monotonic() < until, "the warm process takes too long to start"
        time.sleep(0.1)
    return str(address)


def ask(words: list[str], address: str, streams: list[int], timeout: float | None = None) -> int:
    """Ask the server to run ``dsm WORDS`` or ``python FILE WORDS`` in this folder; return the exit code."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout)
        connection.connect(address)
        request = json.dumps({"words": words, "folder": str(Path.cwd()), "environment": dict(os.environ)})
        socket.send_fds(connection, [request.encode() + b"\n"], streams)
        answer = connection.recv(1)
    return answer[0] if answer else 1


def serve(address: str) -> None:
    """Wait for commands and fork for each, until killed or left alone."""
    from dsm.commands import VERBS

    for module in (*(verb.module for verb in VERBS.values()), *BESIDES):
        importlib.import_module(module)
    gc.freeze()  # or a fork's garbage collector writes to every shared page

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{address}.new")
    listener.listen()
    os.rename(f"{address}.new", address)  # noqa: PTH104 - who sees it can connect
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the serving forks
    while True:
        ready, *_ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            return  # the process that started this one is gone
        connection, _ = listener.accept()
        if os.fork():
            connection.close()
            continue
        listener.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        text, streams = b"", []
        while not text.endswith(b"\n"):
            more, got, *_ = socket.recv_fds(connection, 1 << 16, 3)
            text += more
            streams += got
        child = os.fork()
        if not child:
            connection.close()
            run(json.loads(text), streams)
        ended = status = 0
        while not ended:
            if select.select([connection], [], [], 0.02)[0]:
                os.kill(child, signal.SIGKILL)  # the client stopped waiting
            ended, status = os.waitpid(child, os.WNOHANG)
        code = os.waitstatus_to_exitcode(status)
        with suppress(OSError):
            connection.send(bytes([code if code >= 0 else 128 - code]))
        os._exit(0)


def run(request: dict[str, Any], streams: list[int]) -> None:
    """Run the command in a fork, and exit like it."""
    import atexit
    import runpy
    import threading

    from dsm.cli.main import main

    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    # What Python knows of the streams, such as whether they can seek, was of the server's.
    sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    words = request["words"]
    code: Any = 0
    try:
        if words[0] == "python":
            sys.argv = words[1:]
            sys.path[0] = str(Path(words[1]).absolute().parent)
            runpy.run_path(words[1], run_name="__main__")
        else:
            sys.argv = words
            main()
    except SystemExit as end:
        code = end.code or 0
    if not isinstance(code, int):
        sys.exit(code)
    # As Python ends, but for taking apart all that is imported: it takes longer than most commands.
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        serve(sys.argv[2])
    else:
        from docs_stage import with_quick

        words = with_quick(sys.argv[1:])
        if SERVER in os.environ:
            sys.exit(ask(words, os.environ[SERVER], [0, 1, 2]))
        os.execv(f"{os.environ[PROGRAMS]}/{words[0]}", words)
