"""Descriptions of the pictures of a report, for people who do not see them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dsm.files import csv_rows
from dsm.runs.metrics import ACCURACY
from dsm.runs.results import Row

VARIANTS, BARS = "variants.png", "bars.png"
"""File names of two pictures of a bias report."""
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
        return csv_rows(file)
    except (OSError, ValueError):
        return []
