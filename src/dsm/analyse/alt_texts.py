"""What pictures of results show, in words for those who cannot see them, made from their numbers."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dsm.analyse.bias_report import ACCURACY
from dsm.evaluate.results import Row

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
