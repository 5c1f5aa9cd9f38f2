"""The output of ``ranking.py``: tables, a picture, and README's paragraph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from matplotlib.figure import Figure
from tables import by_seed, caption, mean_of, paired, seeds_of, table
from trials import study_command

from dsm.demo import TESTS
from dsm.pages.figures import looks_of
from dsm.runs.results import Row

TITLES_OF_METRICS = {
    "R@1": "R@1, the nearest training video",
    "linear_probe": "Linear probe, top-1",
    "finetuned_top1": "Fine-tuned, top-1",
    "scene_reliance": "Scene reliance of a linear probe (`dsm bias`)",
    "motion_gain": "Motion gain of a linear probe (`dsm bias`)",
    "order_sensitivity": "Order sensitivity of a linear probe (`dsm bias`)",
    "map_mass_above_other_map": "Map mass on motion minus that of another video's map (`dsm look --score`)",
    "R@5": "R@5",
    "R@10": "R@10",
    "R@20": "R@20",
    "R@50": "R@50",
}
FOLDED = ("R@5", "R@10", "R@20", "R@50")
"""Metrics whose tables are folded away on the page."""
DIFFERENCES = (
    ("dsm", "moco"),
    ("moco", "random"),
    ("dsm-triplet", "moco"),
    ("dsm", "dsm-triplet"),
    ("dsm", "dsm-paper"),
    ("dsm-paper", "moco"),
    ("be", "moco"),
    ("simclr", "moco"),
)


class Ranked(Protocol):
    """The options of a ranking that its tables need."""

    @property
    def methods(self) -> tuple[str, ...]: ...
    @property
    def correlation(self) -> float: ...
    @property
    def tests(self) -> tuple[str, ...]: ...
    @property
    def steps(self) -> int: ...


def write_tables(rows: Sequence[Row], ranked: Ranked) -> str:
    """Tables of all measured metrics of :data:`TITLES_OF_METRICS`, as Markdown."""
    parts = [
        f"`{study_command()}`\n",
        f"{caption(rows)} The number after the @ is the share of training videos in which motion and scene "
        "agree.\n",
    ]
    folded: list[str] = []
    for metric, title in TITLES_OF_METRICS.items():
        some = [row for row in rows if row.metric == metric]
        tests = [test for test in ranked.tests if test in {row.test for row in some}]
        if tests:
            of = "" if seeds_of(some) == seeds_of(rows) else f" (seeds {seeds_of(some)})"
            texts = [f"\n{title}{of}:\n"]
            texts.append(table(rows, metric, runs=ranked.methods, tests=tests, against=DIFFERENCES))
            texts += conflict_over_tied(rows, metric, ranked)
            (folded if metric in FOLDED else parts).extend(texts)
    if folded:
        parts += ["\n<details><summary>R@5 to R@50</summary>\n", *folded, "\n</details>\n"]
    return "\n".join(parts)


def conflict_over_tied(rows: Sequence[Row], metric: str, ranked: Ranked) -> list[str]:
    """A sentence: how much more `dsm` gains over `moco` where the scene misleads than where it helps."""
    values = by_seed(rows)
    names = [f"{test}@{ranked.correlation:g}" for test in ("test_conflict", "test")]
    gains = [paired(values, ("dsm", name, metric), ("moco", name, metric)) for name in names]
    if not all(gains) or not ranked.correlation:
        return []
    more = mean_of([one - other for one, other in zip(*gains, strict=True)]).text(signed=True)
    return [f"Gain of dsm over moco on `{names[0]}` minus that on `{names[1]}`: {more}.\n"]


def draw(rows: Sequence[Row], ranked: Ranked, file: Path) -> None:
    """Bars of R@1 by test and method, with a dot per seed."""
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    panel = figure.subplots()
    for place, (run, look) in enumerate(zip(ranked.methods, looks_of(ranked.methods), strict=True)):
        for number, test in enumerate(ranked.tests):
            values = [
                100 * row.value for row in rows if (row.run, row.test, row.metric) == (run, test, "R@1")
            ]
            at = number + (place - (len(ranked.methods) - 1) / 2) * 0.13
            panel.bar(at, np.mean(values), 0.12, color=look.colour, hatch=look.hatch, edgecolor="white",
                      alpha=0.7, label=run if number == 0 else None)  # fmt: skip
            panel.plot([at] * len(values), values, ".", color="black", markersize=3)
    panel.set_xticks(range(len(TESTS)), TESTS)
    panel.set_title(f"motion and scene agree in {ranked.correlation:.0%} of training videos")
    panel.spines[["top", "right"]].set_visible(False)
    panel.set_ylabel("R@1, %")
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    figure.savefig(file, dpi=90)


def headline(rows: Sequence[Row], ranked: Ranked) -> str:
    """README's paragraph: R@1 of `dsm` minus `moco`, with motion and scene tied as in the demo."""
    values, gains, seeds = by_seed(rows), {}, {row.seed for row in rows}
    for test, name in zip(TESTS, ranked.tests, strict=True):
        gained = paired(values, ("dsm", name, "R@1"), ("moco", name, "R@1"))
        # The median too: a single seed can dominate the mean.
        gains[test] = f"{mean_of(gained).text(signed=True)} points (median {100 * np.median(gained):+.1f})"
    return (
        f"Over {len(seeds)} seeds on which no setting was chosen, each with its own videos, `dsm` is ahead "
        f"of `moco` in R@1 after {ranked.steps} steps of each. The gain is {gains['test_free']} on free "
        f"scenes, {gains['test_conflict']} where the scene misleads, and {gains['test']} where it helps. "
        "These are means ± half a 95 % t interval of the paired differences, bold where it excludes zero "
        "([docs/evidence.md](docs/evidence.md); `python studies/ranking.py`). A step of `dsm` takes 1.5 "
        "times the operations of a step of `moco`.\n"
    )
