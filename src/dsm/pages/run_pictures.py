"""The content of the page of ``dsm report``: its data, its pictures, and their descriptions."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsm.evaluate.embedding import Embedded
from dsm.evaluate.features import Features
from dsm.pages.figures import DOTS
from dsm.pages.run_figures import draw_gradients
from dsm.pages.template import data_uri
from dsm.runs.logs import read_gradients
from dsm.runs.metrics import ACCURACY
from dsm.runs.record import RunRecord
from dsm.runs.results import Row
from dsm.untrusted import read_text

MAX_NUMBERS = 12
"""Most numbers in one description."""


def describe_picture(picture: Path, rows: Sequence[Row]) -> str:
    """A description of a picture in a results folder, from the results and ``classes.csv`` of that folder.

    Args:
        rows: the results.
    """
    text = ""
    if picture.name == BARS:
        text = describe_bars(rows)
    elif picture.name == "bias.png":
        text = describe_classes(_table(picture.with_name("classes.csv")))
    elif picture.name == "variants.png":
        text = "One test video in all variants, one row of frames each"
    elif picture.name == "confusion.png":
        text = describe_confusion(_table(picture.with_name("classes.csv")))
    return text or f"{picture.name} of {picture.absolute().parent.name}{_results(rows)}"


def describe_bars(rows: Sequence[Row]) -> str:
    """A description of the accuracies of a bias report's variants."""
    parts = []
    bars = [row for row in rows if row.metric.startswith(ACCURACY)]
    for run in dict.fromkeys(row.run for row in bars):
        # The picture has no bars for the second test.
        test = next(row.test for row in bars if row.run == run)
        each = [row for row in bars if (row.run, row.test) == (run, test)]
        values = (f"{row.metric.removeprefix(ACCURACY).replace('_', ' ')} {row.value:.0%}" for row in each)
        parts.append(f"{run}: {', '.join(values)}")
    return f"Accuracy by variant. {'; '.join(parts)}" if parts else ""


def describe_classes(lines: Sequence[Mapping[str, str]]) -> str:
    """The classes that single frames identify best and worst, and where the clip adds most and least."""
    parts = []
    try:
        for run in dict.fromkeys(line["weights"] for line in lines):
            its = [line for line in lines if line["weights"] == run]
            static = {line["class"]: float(line[f"{ACCURACY}static"]) for line in its}
            ratio = {line["class"]: 1 + float(line["relative_gain"]) for line in its}
            worst, best = _ends(static)
            least, most = _ends(ratio)
            parts.append(
                f"{run}: {len(its)} classes; single frames reach an accuracy of {static[worst]:.0%} "
                f"({worst}) to {static[best]:.0%} ({best}), and the clip does {ratio[least]:.1f} ({least}) "
                f"to {ratio[most]:.1f} ({most}) times as well"
            )
    except (KeyError, ValueError):
        return ""
    return f"Each class by single frames and by the clip. {'; '.join(parts)}" if parts else ""


def describe_confusion(lines: Sequence[Mapping[str, str]]) -> str:
    """The classes that a classifier identifies best and worst, and what it mistakes the worst for."""
    try:
        accuracy = {line["class"]: float(line["top1"]) for line in lines}
        taken = {line["class"]: line["most often taken for"] for line in lines}
    except (KeyError, ValueError):
        return ""
    if not accuracy:
        return ""
    worst, best = _ends(accuracy)
    instead = f", most often taken for {taken[worst]}" if taken[worst] else ""
    return (
        f"Confusion matrix of {len(accuracy)} classes: best is {best} ({accuracy[best]:.0%} right), worst "
        f"{worst} ({accuracy[worst]:.0%} right{instead})"
    )


def describe_gradients(name: str, records: Sequence[Mapping[str, Any]]) -> str:
    """A description of the mean size of each layer's gradient at the last logged step."""
    layers = records[-1]["layers"] if records else {}
    sizes = {layer: float(values[0]) for layer, values in layers.items() if math.isfinite(values[0])}
    if not sizes:
        return f"The gradient of {name}, layer by layer: no finite numbers"
    least, most = _ends(sizes)
    return (
        f"The gradient of {name}, layer by layer. At step {records[-1]['step']} its mean size is greatest in "
        f"{most} ({sizes[most]:.1e}) and least in {least} ({sizes[least]:.1e})"
    )


def _ends(values: Mapping[str, float]) -> tuple[str, str]:
    """The names of the smallest and of the largest number."""
    return min(values, key=lambda name: values[name]), max(values, key=lambda name: values[name])


def _results(rows: Iterable[Row]) -> str:
    kept = list(rows)
    if not kept:
        return ""
    texts = (f"{row.run}, {row.test}: {row.metric} {row.value:.3g}" for row in kept[:MAX_NUMBERS])
    more = f"; and {len(kept) - MAX_NUMBERS} more" if len(kept) > MAX_NUMBERS else ""
    return f", whose results are {'; '.join(texts)}{more}"


def _table(file: Path) -> list[dict[str, str]]:
    """The lines of a CSV table; empty if the file is not a valid table: other tools may write it too."""
    try:
        lines = list(csv.DictReader(io.StringIO(read_text(file, newline=""), newline="")))
    except (OSError, ValueError, csv.Error):
        return []
    return [] if any(None in line.values() for line in lines) else lines


@dataclass(frozen=True)
class Maps:
    """Videos, and where a run looks in them; the clip size may differ between runs."""

    paths: list[str]
    frames: NDArray[np.uint8]
    """(N, T, S, S, 3)."""
    maps: NDArray[np.float32]
    """(N, T, S, S) in [0, 1]."""
    raised: str
    """A description of the score that bright locations of a map raise."""


@dataclass(frozen=True)
class Measured:
    """Measurements of a run; None for what was not measured."""

    rows: list[Row] = field(default_factory=list)
    features: tuple[Features, Features] | None = None
    """Features of the training list and of the test list."""
    maps: Maps | None = None
    bias: list[tuple[Path, str]] = field(default_factory=list)
    """The pictures of a bias report with their descriptions; the variants come last."""
    left_out: list[str] = field(default_factory=list)
    """Measurements that failed, and why."""


@dataclass(frozen=True)
class Given:
    """Existing results, given with ``--results``."""

    name: str
    command: str
    rows: list[Row]
    pictures: list[tuple[Path, str]]
    """Pictures with their descriptions."""


@dataclass(frozen=True)
class Embedding:
    """The maps of all runs."""

    rows: list[Row]
    embedded: list[Embedded]
    features: Features
    """The features of the videos on the maps."""


@dataclass(frozen=True)
class ReportContent:
    """The content of a page."""

    runs: list[RunRecord]
    measured: Mapping[str, Measured] = field(default_factory=dict)
    """Run name -> measurements."""
    given: Sequence[Given] = ()
    classes: Sequence[str] = ()
    """Class names by label."""
    shown: int = 6
    """Number of queries shown with their neighbours."""
    by_groups: bool = False
    embedding: Embedding | None = None
    left_out: Sequence[str] = ()
    """What is missing from the page, and why, besides the runs' own ``left_out``."""


ROOM = {
    "neighbours": 8_000_000,
    "maps": 4_000_000,
    "embedding": 4_000_000,
    "bias": 2_000_000,
    "pictures": 4_000_000,
}
"""Most characters of all clips and pictures of a section."""
KINDS = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif"}
"""Formats of pictures that the page includes."""
VARIANTS, BARS = "variants.png", "bars.png"


def picture_uri(path: Path, room: float = math.inf) -> str | None:
    """A picture as a data URI; None if it would exceed ``room`` characters."""
    if path.stat().st_size * 4 / 3 > room:  # without reading the file
        return None
    uri = data_uri(KINDS[path.suffix.lower()], path.read_bytes())
    return uri if len(uri) <= room else None


def gradients_picture(run: RunRecord) -> tuple[str, str] | None:
    """The picture of a run's gradients as a data URI, and its description."""
    figure = draw_gradients(run.folder, run.name)
    if figure is None:
        return None
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=DOTS, format="png")
    return data_uri("image/png", buffer.getvalue()), describe_gradients(run.name, read_gradients(run.folder))


def bias_pictures(
    measured: Mapping[str, Measured],
) -> tuple[list[tuple[str, str, str]], list[str]]:
    """Each run's bias pictures (heading, picture, description), the variants only once and last; and notes
    on omitted ones.

    The bars are not included: one chart shows those of all runs.
    """
    room = ROOM["bias"]
    shown: list[tuple[str, str, str]] = []
    last: list[tuple[str, str, str]] = []
    left: list[str] = []
    for name, results in measured.items():
        for path, description in results.bias:
            if path.name == BARS:
                continue
            variants = path.name == VARIANTS
            if variants and last:
                continue
            uri = picture_uri(path, room)
            if uri is None:
                left.append(f"{name}: {path.name} of bias, because the page would grow too large")
                continue
            room -= len(uri)
            if variants:
                last.append(("Variants of one test video", uri, description))
            else:
                shown.append((name, uri, description))
    return shown + last, left


def given_pictures(every: Sequence[Given]) -> list[dict[str, Any]]:
    """The given results for the page's template; pictures that do not fit are named in ``too_large``."""
    room, shown = ROOM["pictures"], []
    for one in every:
        kept, left = [], []
        for path, description in one.pictures:
            uri = picture_uri(path, room)
            if uri is None:
                left.append(path.name)
                continue
            room -= len(uri)
            kept.append((path.name, uri, description))
        shown.append(
            {"name": one.name, "command": one.command, "pictures": kept, "too_large": ", ".join(left)}
        )
    return shown
