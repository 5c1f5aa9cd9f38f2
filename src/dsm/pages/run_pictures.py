"""What goes into the page of ``dsm report``: its content, its pictures, and their descriptions in words."""

from __future__ import annotations

import base64
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
from dsm.pages.bias import ACCURACY
from dsm.pages.figures import DOTS
from dsm.pages.run_figures import draw_gradients
from dsm.runs.folder import read_gradients
from dsm.runs.record import RunRecord
from dsm.runs.results import Row

MOST = 12
"""Numbers that a text tells at the most."""


def picture_told(picture: Path, rows: Sequence[Row]) -> str:
    """What a picture in a folder of results shows, by the results and ``classes.csv`` of that folder.

    Args:
        rows: the results.
    """
    told = ""
    if picture.name == "bars.png":
        told = bars_told(rows)
    elif picture.name == "bias.png":
        told = classes_told(_table(picture.with_name("classes.csv")))
    elif picture.name == "variants.png":
        told = "One test video in all variants, a row of frames each"
    elif picture.name == "confusion.png":
        told = confusion_told(_table(picture.with_name("classes.csv")))
    return told or f"{picture.name} of {picture.absolute().parent.name}{_results(rows)}"


def bars_told(rows: Sequence[Row]) -> str:
    """Accuracies of the variants of a bias report."""
    told = []
    bars = [row for row in rows if row.metric.startswith(ACCURACY)]
    for run in dict.fromkeys(row.run for row in bars):
        # Of another test, put beside, there is no bar.
        test = next(row.test for row in bars if row.run == run)
        each = [row for row in bars if (row.run, row.test) == (run, test)]
        values = (f"{row.metric.removeprefix(ACCURACY).replace('_', ' ')} {row.value:.0%}" for row in each)
        told.append(f"{run}: {', '.join(values)}")
    return f"Accuracy by variant. {'; '.join(told)}" if told else ""


def classes_told(lines: Sequence[Mapping[str, str]]) -> str:
    """Classes one by one: which single frames tell best and worst, and where the clip adds most and least."""
    told = []
    try:
        for run in dict.fromkeys(line["weights"] for line in lines):
            its = [line for line in lines if line["weights"] == run]
            static = {line["class"]: float(line[f"{ACCURACY}static"]) for line in its}
            ratio = {line["class"]: 1 + float(line["relative_gain"]) for line in its}
            worst, best = _ends(static)
            least, most = _ends(ratio)
            told.append(
                f"{run}: of {len(its)} classes, single frames tell {static[worst]:.0%} ({worst}) to "
                f"{static[best]:.0%} ({best}), and the clip does {ratio[least]:.1f} ({least}) to "
                f"{ratio[most]:.1f} ({most}) times as well"
            )
    except (KeyError, ValueError):
        return ""
    return f"Each class by single frames and by the clip. {'; '.join(told)}" if told else ""


def confusion_told(lines: Sequence[Mapping[str, str]]) -> str:
    """Which classes a classifier tells best and worst, and what it takes the worst for."""
    try:
        found = {line["class"]: float(line["top1"]) for line in lines}
        taken = {line["class"]: line["most often taken for"] for line in lines}
    except (KeyError, ValueError):
        return ""
    if not found:
        return ""
    worst, best = _ends(found)
    instead = f", most often taken for {taken[worst]}" if taken[worst] else ""
    return (
        f"Which class is taken for which: of {len(found)}, best is {best} ({found[best]:.0%} right), worst "
        f"{worst} ({found[worst]:.0%} right{instead})"
    )


def gradients_told(name: str, records: Sequence[Mapping[str, Any]]) -> str:
    """The size of the gradient layer by layer, at the last step that was logged."""
    layers = records[-1]["layers"] if records else {}
    sizes = {layer: float(found[0]) for layer, found in layers.items() if math.isfinite(found[0])}
    if not sizes:
        return f"The gradient of {name}, layer by layer: no finite number"
    least, most = _ends(sizes)
    return (
        f"The gradient of {name}, layer by layer. At step {records[-1]['step']} its mean size is greatest in "
        f"{most} ({sizes[most]:.1e}) and least in {least} ({sizes[least]:.1e})"
    )


def _ends(found: Mapping[str, float]) -> tuple[str, str]:
    """The names of the least and of the greatest number."""
    return min(found, key=lambda name: found[name]), max(found, key=lambda name: found[name])


def _results(rows: Iterable[Row]) -> str:
    kept = list(rows)
    if not kept:
        return ""
    told = (f"{row.run}, {row.test}: {row.metric} {row.value:.3g}" for row in kept[:MOST])
    more = f"; and {len(kept) - MOST} more" if len(kept) > MOST else ""
    return f", whose results are {'; '.join(told)}{more}"


def _table(file: Path) -> list[dict[str, str]]:
    """Its lines; none where it is no such table, which others may have written."""
    try:
        with file.open(encoding="utf-8", newline="") as opened:
            lines = list(csv.DictReader(opened))
    except (OSError, UnicodeDecodeError, csv.Error):
        return []
    return [] if any(None in line.values() for line in lines) else lines


@dataclass(frozen=True)
class Maps:
    """Some videos, and where a run looks in them; clips of several runs may differ in size."""

    paths: list[str]
    frames: NDArray[np.uint8]
    """(N, T, S, S, 3)."""
    maps: NDArray[np.float32]
    """(N, T, S, S) in [0, 1]."""
    raised: str
    """What is high where a map is bright, in words."""


@dataclass(frozen=True)
class Measured:
    """What was measured of a run; None for what was not, or could not be."""

    rows: list[Row] = field(default_factory=list)
    features: tuple[Features, Features] | None = None
    """Of the training list and of the test list."""
    maps: Maps | None = None
    bias: list[tuple[Path, str]] = field(default_factory=list)
    """The pictures of a bias report, each with what it shows in words; the variants come last."""
    left_out: list[str] = field(default_factory=list)
    """What could not be measured, and why."""


@dataclass(frozen=True)
class Given:
    """Results that were there already."""

    name: str
    command: str
    rows: list[Row]
    pictures: list[tuple[Path, str]]
    """Each with what it shows, in words."""


@dataclass(frozen=True)
class Embedding:
    """The maps of all runs."""

    rows: list[Row]
    embedded: list[Embedded]
    features: Features
    """The videos that are on them."""


@dataclass(frozen=True)
class ReportContent:
    """All that goes into a page."""

    runs: list[RunRecord]
    measured: Mapping[str, Measured] = field(default_factory=dict)
    """By the name of the run."""
    given: Sequence[Given] = ()
    classes: Sequence[str] = ()
    """Names of the classes by label."""
    shown: int = 6
    """Queries with their neighbours."""
    by_groups: bool = False
    embedding: Embedding | None = None
    left_out: Sequence[str] = ()
    """What could not be done, and why, besides what is told with a run."""


ROOM = {
    "neighbours": 8_000_000,
    "maps": 4_000_000,
    "embedding": 4_000_000,
    "bias": 2_000_000,
    "pictures": 4_000_000,
}
"""Characters that clips and pictures may take of them."""
KINDS = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif"}
"""Pictures that are taken to the page."""
VARIANTS = "variants.png"


def picture_uri(path: Path) -> str:
    """A picture as a data URI."""
    kind = KINDS[path.suffix.lower()]
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def gradients_picture(run: RunRecord) -> tuple[str, str] | None:
    """The picture, and what it shows in words."""
    figure = draw_gradients(run.folder, run.name)
    if figure is None:
        return None
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=DOTS, format="png")
    uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return uri, gradients_told(run.name, read_gradients(run.folder))


def bias_pictures(
    measured: Mapping[str, Measured],
) -> tuple[list[tuple[str, list[tuple[str, str]]]], list[str]]:
    """Of each run its pictures of bias with their words, the variants but once; and what found no room."""
    room, shown, left, seen = ROOM["bias"], [], [], False
    for name, found in measured.items():
        kept = []
        for path, told in found.bias:
            variants = path.name == VARIANTS
            if variants and seen:
                continue
            uri = picture_uri(path)
            if len(uri) > room:
                left.append(f"{name}: no room for {path.name} of bias")
                continue
            room -= len(uri)
            seen = seen or variants
            kept.append((uri, told))
        if kept:
            shown.append((name, kept))
    return shown, left


def given_pictures(every: Sequence[Given]) -> list[dict[str, Any]]:
    """For the page; pictures that find no room are named."""
    room, shown = ROOM["pictures"], []
    for one in every:
        kept, left = [], []
        for path, told in one.pictures:
            uri = picture_uri(path)
            if len(uri) > room:
                left.append(path.name)
                continue
            room -= len(uri)
            kept.append((path.name, uri, told))
        shown.append(
            {"name": one.name, "command": one.command, "pictures": kept, "too_large": ", ".join(left)}
        )
    return shown
