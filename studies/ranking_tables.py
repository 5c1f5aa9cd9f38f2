"""What ``ranking.py`` writes: tables, a picture, and README's line."""

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

SHOWN = {
    "R@1": "R@1, the nearest training video",
    "linear_probe": "Linear probe, top-1",
    "finetuned_top1": "Fine-tuned, top-1",
    "scene_reliance": "Scene reliance of a linear probe (`dsm bias`)",
    "motion_gain": "Motion gain of a linear probe (`dsm bias`)",
    "order_sensitivity": "Order sensitivity of a linear probe (`dsm bias`)",
    "map_mass_above_other_map": "Map mass on motion above that of another video's map (`dsm look --score`)",
    "R@5": "R@5",
    "R@10": "R@10",
    "R@20": "R@20",
    "R@50": "R@50",
}
FOLDED = ("R@5", "R@10", "R@20", "R@50")
"""Tables that a page shows when they are asked for."""
AGAINST = (
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
    """What was ranked."""

    @property
    def methods(self) -> tuple[str, ...]: ...
    @property
    def correlation(self) -> float: ...
    @property
    def tests(self) -> tuple[str, ...]: ...
    @property
    def steps(self) -> int: ...


def write_tables(rows: Sequence[Row], ranked: Ranked) -> str:
    """All of :data:`SHOWN` that was measured, as Markdown."""
    parts = [
        f"`{study_command()}`\n",
        f"{caption(rows)} The number behind the @ says how often motion and scene agree in training.\n",
    ]
    folded: list[str] = []
    for metric, title in SHOWN.items():
        some = [row for row in rows if row.metric == metric]
        tests = [test for test in ranked.tests if test in {row.test for row in some}]
        if tests:
            of = "" if seeds_of(some) == seeds_of(rows) else f" (seeds {seeds_of(some)})"
            told = [f"\n{title}{of}:\n"]
            told.append(table(rows, metric, runs=ranked.methods, tests=tests, against=AGAINST))
            told += conflict_over_tied(rows, metric, ranked)
            (folded if metric in FOLDED else parts).extend(told)
    if folded:
        parts += ["\n<details><summary>R@5 to R@50</summary>\n", *folded, "\n</details>\n"]
    return "\n".join(parts)


def conflict_over_tied(rows: Sequence[Row], metric: str, ranked: Ranked) -> list[str]:
    """A line: how much more `dsm` gains over `moco` where the scene misleads than where it helps."""
    found = by_seed(rows)
    names = [f"{test}@{ranked.correlation:g}" for test in ("test_conflict", "test")]
    gains = [paired(found, ("dsm", name, metric), ("moco", name, metric)) for name in names]
    if not all(gains) or not ranked.correlation:
        return []
    more = mean_of([one - other for one, other in zip(*gains, strict=True)]).told(signed=True)
    return [f"Gain of dsm on `{names[0]}` less that on `{names[1]}`: {more}.\n"]


def draw(rows: Sequence[Row], ranked: Ranked, file: Path) -> None:
    """R@1 of each method by test; a dot is a seed."""
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    panel = figure.subplots()
    for place, (run, look) in enumerate(zip(ranked.methods, looks_of(ranked.methods), strict=True)):
        for number, test in enumerate(ranked.tests):
            found = [100 * row.value for row in rows if (row.run, row.test, row.metric) == (run, test, "R@1")]
            at = number + (place - (len(ranked.methods) - 1) / 2) * 0.13
            panel.bar(at, np.mean(found), 0.12, color=look.colour, hatch=look.hatch, edgecolor="white",
                      alpha=0.7, label=run if number == 0 else None)  # fmt: skip
            panel.plot([at] * len(found), found, ".", color="black", markersize=3)
    panel.set_xticks(range(len(TESTS)), TESTS)
    panel.set_title(f"motion and scene tied for {ranked.correlation:.0%}")
    panel.spines[["top", "right"]].set_visible(False)
    panel.set_ylabel("R@1, %")
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    figure.savefig(file, dpi=90)


def headline(rows: Sequence[Row], ranked: Ranked) -> str:
    """What README says: `dsm` less `moco`, R@1, where motion and scene are tied as in the demo."""
    found, gains, seeds = by_seed(rows), {}, {row.seed for row in rows}
    for test, name in zip(TESTS, ranked.tests, strict=True):
        gained = paired(found, ("dsm", name, "R@1"), ("moco", name, "R@1"))
        # One seed of many may carry a mean.
        gains[test] = f"{mean_of(gained).told(signed=True)} points (median {100 * np.median(gained):+.1f})"
    return (
        f"Over {len(seeds)} seeds that no setting was chosen on, each with videos of its own, after "
        f"{ranked.steps} steps of each (`python studies/ranking.py`; a step of `dsm` takes half as many "
        "operations again), `dsm` is ahead of `moco` in R@1 by "
        f"{gains['test_free']} on free scenes, by {gains['test_conflict']} where the scene misleads "
        f"and by {gains['test']} where it helps (mean ± half a 95 % t interval of the paired differences, "
        "bold where it leaves zero out): [docs/evidence.md](docs/evidence.md).\n"
    )
