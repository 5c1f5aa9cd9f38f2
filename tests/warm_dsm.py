"""``dsm`` without its start-up time, for the docs' many small commands: forks of a process that imported it.

A Python process takes seconds to import torch. ``serve`` imports it once and forks for each command; this
file, run as a script, is the ``dsm`` of the docs: it hands over its words, folder, environment and streams,
and ends as the command does. Where no server is, it runs the ``dsm`` in the folder DSM_PROGRAMS.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

BESIDES = ("torch.utils.tensorboard", "matplotlib.figure", "sklearn.linear_model", "scipy.stats", "cv2")
SERVER, PROGRAMS = "DSM_SERVER", "DSM_PROGRAMS"


def ask(words: list[str]) -> int:
    """Ask the server to run ``dsm WORDS`` or ``python FILE WORDS`` in this folder; return the exit code."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ[SERVER])
        request = json.dumps({"words": words, "folder": str(Path.cwd()), "environment": dict(os.environ)})
        socket.send_fds(connection, [request.encode() + b"\n"], [0, 1, 2])
        answer = connection.recv(1)
    return answer[0] if answer else 1


def serve(address: str) -> None:
    """Wait for commands and fork for each, until killed."""
    from dsm.cli.commands import VERBS

    for module in (*(verb.module for verb in VERBS.values()), *BESIDES):
        importlib.import_module(module)
    gc.freeze()  # or a fork's garbage collector writes to every shared page

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the serving forks
    while True:
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
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        connection.send(bytes([code if code >= 0 else 128 - code]))
        os._exit(0)


def run(request: dict[str, Any], streams: list[int]) -> None:
    """Run the command in a fork, and exit like it."""
    import runpy

    from dsm.cli.main import main

    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    words = request["words"]
    if words[0] == "python":
        sys.argv = words[1:]
        sys.path[0] = ""
        runpy.run_path(words[1], run_name="__main__")
    else:
        sys.argv = words
        main()
    sys.exit()


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        serve(sys.argv[2])
    else:
        from docs_stage import with_quick

        words = with_quick(sys.argv[1:])
        if SERVER in os.environ:
            sys.exit(ask(words))
        os.execv(f"{os.environ[PROGRAMS]}/{words[0]}", words)
