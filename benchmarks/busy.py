"""How much of its rate does a training keep beside other busy processes? python benchmarks/busy.py

Runs `dsm pretrain --method moco --backbone tiny` beside 0, 1 and 3 processes that compute without pause,
with each of the ways of waiting in WAITING, in turn and for several rounds. Prints clips per second and the
share of the quiet rate: medians over rounds.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from dsm.synthetic.motionscenes import write_motionscenes
from dsm.synthetic.settings import MotionScenesConfig

WAITING: dict[str, dict[str, str]] = {
    "torch": {"GOMP_SPINCOUNT": "300000"},
    "spin": {"OMP_WAIT_POLICY": "ACTIVE"},
    "sleep": {},
    "spin 1000": {"GOMP_SPINCOUNT": "1000"},
    "spin 10000": {"GOMP_SPINCOUNT": "10000"},
    "spin 100000": {"GOMP_SPINCOUNT": "100000"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
"""How a thread waits for the others: environment variables of OpenMP, or of GNU's, which torch uses. `torch`
is how it waits by itself, and `sleep` what the command `dsm` sets where nothing else is set."""
SPIN = "while True: pass"
BATCH = 32
LEAST = 5
"""Steps that a rate needs, however slow they are."""


@dataclass(frozen=True)
class Options:
    ways: tuple[str, ...] = tuple(WAITING)
    others: tuple[int, ...] = (0, 1, 3)
    """Numbers of other processes; more than a machine's cores take minutes each."""
    rounds: int = 3
    seconds: float = 8.0
    """Measured in each round, after the run has started."""


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Other processes that compute without pause."""
    others = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def rate(train: Path, out: Path, way: str, seconds: float) -> float:
    """Clips per second of a run."""
    settings: dict[str, Any] = {
        "data.train": train, "data.batch-size": BATCH, "data.cache-mb": 500, "data.workers": 0, "out": out,
        "method": "moco", "backbone": "tiny", "clip.frames": 8, "clip.resize": 62, "clip.size": 48,
        "steps": 100_000, "monitor.videos": 0, "log-every": 1,
    }  # fmt: skip
    words = ["pretrain", *(word for name, value in settings.items() for word in (f"--{name}", str(value)))]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP", "GOMP"))}
    run = subprocess.Popen(
        [sys.executable, "-m", "dsm", *words],
        env={**environment, **WAITING[way]}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    metrics = out / "metrics.jsonl"
    while len(steps_of(metrics)) < 3:
        time.sleep(0.2)
    before = len(steps_of(metrics))
    time.sleep(seconds)
    while len(counted := steps_of(metrics)[before:]) < LEAST:
        time.sleep(0.2)
    run.send_signal(signal.SIGKILL)
    run.wait()
    return BATCH / float(np.mean([step["wait_seconds"] + step["work_seconds"] for step in counted]))


def steps_of(metrics: Path) -> list[dict[str, float]]:
    if not metrics.exists():
        return []
    whole = metrics.read_text(encoding="utf-8").rpartition("\n")[0]
    return [line for line in map(json.loads, whole.splitlines()) if "work_seconds" in line]


def main(options: Options) -> None:
    rates: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        made = write_motionscenes(MotionScenesConfig(train=200, test=10), Path(folder) / "videos")
        for number in range(options.rounds):
            for count in options.others:
                for way in options.ways:
                    out = Path(folder) / f"{number}-{count}-{way}"
                    with busy(count):
                        found = rate(made / "train.txt", out, way, options.seconds)
                    print(
                        f"round {number + 1}, {count} others, {way}: {found:.0f}", file=sys.stderr, flush=True
                    )
                    rates.setdefault((way, count), []).append(found)
    medians = {key: float(np.median(some)) for key, some in rates.items()}
    print(f"clips per second, median of {options.rounds} rounds; in brackets the share of `torch`, quiet\n")
    print("| waiting | " + " | ".join(f"{count} others" for count in options.others) + " |")
    print("|---" * (len(options.others) + 1) + "|")
    for way in options.ways:
        cells = [
            f"{medians[way, n]:.0f} ({medians[way, n] / medians['torch', 0]:.0%})" for n in options.others
        ]
        print(f"| {way} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
