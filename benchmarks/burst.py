"""Very many requests at once to the search page: is each answered, or told to come back?

    python benchmarks/burst.py [--requests 2000] [--rounds 3]

Starts `dsm search --serve` on made features of 10,000 clips, lets all clients connect and ask at once, and
counts what they get: answers by their status, and what must not be, connections refused, reset or left alone.
"""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

PATIENCE = 120
PATHS = ("/", "/browse?page=1", "/near?row=5", "/near?row=77&page=2")


@dataclass(frozen=True)
class Options:
    requests: int = 2000
    rounds: int = 3
    port: int = 8177


async def ask(port: int, path: str) -> str:
    """What one client gets."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError as error:
        return f"refused ({error.strerror})"
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nHost: localhost:{port}\r\n\r\n".encode())
        answer = await reader.read()
        head, _, body = answer.partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:")), -1
        )
        status = head.split(b" ")[1].decode() if b" " in head else "nothing"
        if status == "503" and b"Retry-After" not in head:
            return "503 without Retry-After"
        return status if length == len(body) else f"{status}, cut off"
    except OSError as error:
        return f"reset ({error.strerror})"
    finally:
        writer.close()


async def burst(options: Options) -> Counter[str]:
    work = [ask(options.port, PATHS[number % len(PATHS)]) for number in range(options.requests)]
    return Counter(await asyncio.wait_for(asyncio.gather(*work), PATIENCE))


def main(options: Options) -> None:
    from dsm.evaluate.feature_files import save_features
    from dsm.evaluate.features import Features

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder:
        rows = np.random.default_rng(0).normal(size=(10_000, 64)).astype(np.float32)
        paths = [f"{number // 8:04}.mp4" for number in range(len(rows))]
        index = Path(folder) / "index.npz"
        save_features(index, Features(rows, np.full(len(rows), -1), paths, {"root": folder}))
        words = [
            sys.executable,
            "-m",
            "dsm",
            "search",
            "--index",
            str(index),
            "--serve",
            "--port",
            str(options.port),
        ]
        server = subprocess.Popen(words, stderr=subprocess.PIPE)
        try:
            until = time.monotonic() + PATIENCE
            while asyncio.run(ask(options.port, "/")) != "200":
                assert server.poll() is None, server.stderr and server.stderr.read()
                assert time.monotonic() < until, "the page does not come"
                time.sleep(0.5)
            for number in range(options.rounds):
                begun = time.monotonic()
                found = asyncio.run(burst(options))
                told = ", ".join(f"{what}: {count}" for what, count in sorted(found.items()))
                print(f"round {number}: {told}; {time.monotonic() - begun:.1f} s", flush=True)
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
