"""``results.json``: final numbers in one format for every verb, and the final numbers of a training run."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray
from rich.markup import escape
from rich.table import Table

from dsm.data.lists import VideoList, list_name
from dsm.errors import UserError, first_line
from dsm.files import json_text, write_text
from dsm.intervals import Interval, share_interval
from dsm.runs.folder import git_revision
from dsm.runs.logs import read_metrics
from dsm.runs.metrics import metric_of
from dsm.untrusted import checked, read_json
from dsm.version import __version__

RESULTS = "results.json"
"""The file's name, in every folder that holds one."""


@dataclass(frozen=True)
class Row:
    """One number of a run on a test: a share in [0, 1], or what :mod:`dsm.runs.metrics` says."""

    run: str
    seed: int
    test: str
    metric: str
    value: float
    low: float | None
    high: float | None
    n: int

    @property
    def measured(self) -> Interval:
        """Its value and interval."""
        if self.low is None or self.high is None:
            return Interval(self.value)
        return Interval(self.value, self.low, self.high)

    def interval(self, form: str) -> str:
        """Its interval, formatted with a string such as ``{:.1%} to {:.1%}``; empty if it has none."""
        return "" if self.low is None or self.high is None else form.format(self.low, self.high)

    @property
    def texts(self) -> tuple[str, str]:
        """Its value and its interval as its metric is written: `71.2%` and `[68.3%, 74.0%]`, or empty."""
        form = metric_of(self.metric).form
        return form.format(self.value), self.interval(f"[{form}, {form}]")


def share(
    run: str,
    seed: int,
    test: str,
    metric: str,
    hits: NDArray[np.bool_],
    *,
    groups: Sequence[str] | None = None,
) -> Row:
    """The share of hits with its 95 % interval (:func:`dsm.intervals.share_interval`).

    Args:
        hits: (n,), one per video.
        groups: the group of each video; the interval then resamples groups. None: it resamples videos.
    """
    return row_of(run, seed, test, metric, share_interval(hits, groups=groups), len(hits))


def row_of(run: str, seed: int, test: str, metric: str, interval: Interval, n: int) -> Row:
    """An interval as a row of the results; low and high are None where there is none."""
    low, high = interval[1:] if interval.known else (None, None)
    return Row(run, seed, test, metric, interval.value, low, high, n)


def run_and_seed(meta: Mapping[str, Any]) -> tuple[str, int]:
    """The run name and seed, for rows, of the weights that the features come from."""
    seed = meta.get("seed")
    return str(meta.get("run", "?")), seed if isinstance(seed, int) else 0


def run_name(about: Mapping[str, Any]) -> str:
    """A run's name in rows, from its checkpoint's metadata: its pretraining method, such as `dsm`.

    A classifier is named after its starting weights; on a frozen encoder, `dsm-linear-probe`.
    """
    begun_with, method = about.get("begun_with"), str(about.get("method", "exported"))
    if "classes" not in about or begun_with is None:  # older checkpoints do not record it
        return method
    return f"{begun_with}-{method}" if method == "linear-probe" else str(begun_with)


def seed_of(about: Mapping[str, Any], drawn: int = 0) -> int:
    """The seed of the run that trained a checkpoint, from its metadata.

    ``drawn``: the seed of random weights, which have no metadata.
    """
    if not about:
        return drawn
    settings = about.get("settings")
    seed = settings.get("seed", 0) if isinstance(settings, dict) else 0
    return seed if isinstance(seed, int) else 0


def rows_table(rows: Sequence[Row]) -> Table:
    """One line per number, with its interval."""
    table = Table(box=None, show_header=False)
    for justify in ("left", "right", "left"):
        table.add_column(justify=justify)
    for row in rows:
        table.add_row(*map(escape, (row.metric, *row.texts)))
    return table


def command_line() -> str:
    """The running command, as typed: a verb of `dsm`, or the script that called one."""
    program, *words = sys.argv or [""]
    name = Path(program).name
    if name in ("", "-c") or name.startswith("ipykernel"):  # a notebook's arguments mean nothing
        return "Python"
    script = name.endswith(".py") and name != "__main__.py"
    return shlex.join([*(["python", name] if script else ["dsm"]), *words])


def write_results(path: Path, rows: list[Row], *, command: str | None = None) -> None:
    """Write ``results.json``; the command defaults to the running one."""
    record = {
        "command": command or command_line(),
        "version": __version__,
        "revision": git_revision(),
        "rows": [asdict(row) for row in rows],
    }
    write_text(path, json_text(record, indent=2) + "\n")


def read_results(path: Path) -> list[Row]:
    """The rows that :func:`write_results` wrote.

    Raises:
        UserError: there is no such file, or it holds something else.
    """
    return read_recorded_results(path).rows


class ResultsFile(TypedDict):
    """The fields of ``results.json`` that are read."""

    rows: list[Row]


class RecordedResults(NamedTuple):
    """A verb's results, and its command."""

    command: str
    rows: list[Row]


def read_recorded_results(path: Path) -> RecordedResults:
    """The command and the rows that :func:`write_results` wrote.

    Raises:
        UserError: there is no such file, or it holds something else.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such results file.")
    try:
        record = checked(read_json(path), ResultsFile)
        for row in record["rows"]:
            numbers = (row.value, row.n, row.seed, *(end for end in (row.low, row.high) if end is not None))
            if not all(abs(number) < 1e15 for number in numbers):
                raise ValueError("a number is not below 1e15")
    except ValueError as error:
        raise UserError(f"{path} is not a results file of dsm ({first_line(error)}).") from None
    return RecordedResults(str(record.get("command", "")), record["rows"])


TRAINED = ("loss", "motion", "top1")
"""Logged metrics of a batch's quality; see docs/training.md."""


def last_logged(run: Path) -> dict[str, float]:
    """The newest quality metrics that a run logged: of its last batch, and of its last monitoring.

    A skipped step may have logged NaN or infinity; then the last finite value counts.
    """
    newest: dict[str, float] = {}
    for line in read_metrics(run):
        newest |= {name: value for name, value in line.items() if abs(value) < math.inf}
    names = [*TRAINED, *(name for name in newest if name.startswith("monitor/"))]
    return {name: newest[name] for name in names if name in newest}


def write_run_results(
    run: Path,
    about: Mapping[str, Any],
    videos: VideoList,
    watched: VideoList | None,
    *,
    batch: int,
    part: int,
) -> None:
    """Write a run's last logged metrics as rows: ``train/loss`` and others of its last batch, on the training
    list; ``monitor/knn`` and others of its last monitoring, on the monitored list.

    Args:
        about: the metadata of the run's checkpoints.
        videos: the training list.
        watched: the monitored list, if any.
        batch: clips of the last batch, which its loss is the mean of.
        part: those of them that the other metrics are of: of the last part, in the first process.
    """
    rows = []
    for name, value in last_logged(run).items():
        monitored = name.startswith("monitor/")
        of = watched if monitored and watched is not None else videos
        metric = name if monitored else f"train/{name}"
        count = len(of) if monitored else batch if name == "loss" else part
        rows.append(
            Row(run_name(about), seed_of(about), list_name(of.source), metric, value, None, None, count)
        )
    write_results(run / RESULTS, rows)
