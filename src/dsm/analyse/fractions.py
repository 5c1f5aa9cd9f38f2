"""The picture of a low-shot sweep: accuracy against the number of labelled videos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from dsm.analyse.figures import save_figure
from dsm.evaluate.results import Row


def draw_fractions(counts: Sequence[int], rows: Sequence[Row], path: Path) -> None:
    """Draw a share with its 95 % interval for each number of labelled videos, and write the picture.

    Args:
        counts: labelled videos, rising, one for each row.
        rows: of one metric.
    """
    save_figure(fractions_figure(counts, rows), path)


def fractions_figure(counts: Sequence[int], rows: Sequence[Row]) -> Figure:
    """As :func:`draw_fractions`, not written yet."""
    values = 100 * np.array([row.value for row in rows])
    lows = 100 * np.array([row.value if row.low is None else row.low for row in rows])
    highs = 100 * np.array([row.value if row.high is None else row.high for row in rows])
    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    axis = figure.subplots()
    # A percentile interval need not hold the value itself; a bar has no negative length.
    errors = np.maximum([values - lows, highs - values], 0)
    axis.errorbar(counts, values, yerr=errors, color="#1f5a8c", marker="o", capsize=4, linewidth=1.8)
    axis.set_xscale("log")
    shown = np.unique(counts)
    axis.xaxis.set_major_locator(FixedLocator(shown.tolist()))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticks(shown, [f"{count:,}" for count in shown])
    axis.set_ylim(0, 100)
    axis.set_xlabel("labelled videos")
    axis.set_ylabel("top-1 in %, with 95 % interval")
    axis.set_title(
        f"{rows[0].run.rpartition('@')[0]}, tested on {rows[0].test}",
        parse_math=False,
        fontsize=11,
        loc="left",
    )
    axis.grid(axis="y", alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    return figure
