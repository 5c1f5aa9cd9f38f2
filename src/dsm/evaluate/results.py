"""``results.json``: final numbers, the same form for every verb."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsm.files import write_text
from dsm.version import __version__


@dataclass(frozen=True)
class Row:
    """One number: how a run did on a test, by a metric; values are shares in [0, 1]."""

    run: str
    seed: int
    test: str
    metric: str
    value: float
    low: float | None
    high: float | None
    n: int


def share(run: str, seed: int, test: str, metric: str, hits: NDArray[np.bool_], *, draws: int = 2000) -> Row:
    """The share of hits with a 95 % percentile bootstrap interval over videos.

    Args:
        hits: (n,), one for each video. draws: bootstrap samples.
    """
    count = len(hits)
    sampled = np.random.default_rng(0).binomial(count, hits.mean(), draws) / count
    low, high = np.quantile(sampled, [0.025, 0.975])
    return Row(run, seed, test, metric, float(hits.mean()), float(low), float(high), count)


def command_line() -> str:
    """The command that is running, as one would type it."""
    return shlex.join(["dsm", *sys.argv[1:]])


def write_results(
    path: Path, rows: list[Row], *, command: str | None = None, revision: str | None = None
) -> None:
    """Write ``results.json``; the command defaults to the one that is running."""
    record = {
        "command": command or command_line(),
        "version": __version__,
        "revision": revision,
        "rows": [asdict(row) for row in rows],
    }
    write_text(path, json.dumps(record, indent=2) + "\n")


def mean_and_spread(values: list[float]) -> str:
    """Shares over seeds as a person reads them: '71.2 ± 3.4 %' (sample standard deviation), or '71.2 %'."""
    mean = 100 * float(np.mean(values))
    if len(values) < 2:
        return f"{mean:.1f} %"
    return f"{mean:.1f} ± {100 * float(np.std(values, ddof=1)):.1f} %"
