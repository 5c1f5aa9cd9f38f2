"""Figures of runs: curves, health, the gradient in each layer, and accuracy over the number of labels."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from dsm.errors import UserError
from dsm.limits import LAYERS
from dsm.pages.figures import line_chart, literal, looks_of, mark_of, save_figure, smooth
from dsm.runs.logs import read_gradients, read_metrics
from dsm.runs.results import Row
from dsm.video.sampling import evenly


def fractions_figure(counts: Sequence[int], rows: Sequence[Row]) -> Figure:
    """A share with its 95 % interval over the number of labelled videos.

    Args:
        counts: the number of labelled videos of each row, rising.
        rows: of one metric.
    """
    values = 100 * np.array([row.value for row in rows])
    lows, highs = 100 * np.array([row.measured.ends for row in rows]).T
    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    axis = figure.subplots()
    # A percentile interval may not contain the value itself, but error bars must not be negative.
    errors = np.maximum([values - lows, highs - values], 0)
    axis.errorbar(counts, values, yerr=errors, color="#1f5a8c", marker="o", capsize=4, linewidth=1.8)
    axis.set_xscale("log")
    shown = np.unique(counts)
    axis.xaxis.set_major_locator(FixedLocator(shown.tolist()))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticks(shown, [f"{count:,}" for count in shown])
    axis.set_ylim(0, 100)
    axis.set_xlabel("labelled videos")
    axis.set_ylabel("top-1 in %, with 95% intervals")
    axis.set_title(
        f"{rows[0].run.rpartition('@')[0]}, tested on {rows[0].test}",
        parse_math=False,
        fontsize=11,
        loc="left",
    )
    axis.grid(axis="y", alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


HEALTH = (
    ("loss", "loss", "lower is better, among runs of one method"),
    (
        "motion",
        "positive nearer than negative, share of clips",
        "if it stays at its first value, motion is ignored",
    ),
    ("lr", "learning rate", ""),
    ("alignment", "alignment", "0: the two versions of a clip agree"),
    ("uniformity", "uniformity", "0: all clips at one point; -4: spread out"),
    ("effective_rank", "effective rank, in dimensions", "1: collapsed to a line"),
    ("spread", "spread", "0: collapsed; 1: maximum"),
    ("grad_norm", "norm of the gradient", ""),
    ("queue_age", "age of the queue's oldest key, in steps", ""),
    ("data_wait", "share of time waiting for data", "above 0.05: use more workers, or a pack"),
    ("monitor/balance", "balance", "1: relies on motion; -1: on the scene"),
    ("monitor/knn", "knn on the monitored list", ""),
    ("top1", "top-1 on the training batches", ""),
    ("monitor/top1", "top-1 on the test list", ""),
)
"""Names in ``metrics.jsonl``, their titles, and how to read them."""
CURVES = ("loss", "motion", "monitor/balance", "lr", "monitor/knn", "top1", "monitor/top1")
"""Metrics that show the progress of training; the others show the health of a run."""
POINTS = 300
"""Most points of a line in a page, to limit its size for long runs."""

Metrics = Sequence[Mapping[str, float]]


def draw_run(run: Path) -> list[Path]:
    """Write ``figures/health.png`` and ``figures/gradients.png`` of a run, if it logged their numbers."""
    figures = {"health": draw_curves({run.name: read_metrics(run)}), "gradients": draw_gradients(run)}
    drawn = {run / "figures" / f"{name}.png": figure for name, figure in figures.items() if figure}
    for path, figure in drawn.items():
        save_figure(figure, path)
    return list(drawn)


def draw_curves(runs: Mapping[str, Metrics]) -> Figure | None:
    """A small chart for each logged metric of :data:`HEALTH`, with one line per run.

    None if nothing was logged.
    """
    shown = [one for one in HEALTH if any(_series(lines, one[0])[0] for lines in runs.values())]
    if not shown:
        return None
    columns, looks = 3, looks_of(list(runs))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(11, 2.5 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis, (name, title, hint) in zip(axes.flat, shown, strict=False):
        for look, lines in zip(looks, runs.values(), strict=True):
            steps, values = _series(lines, name)
            if not steps:
                continue
            axis.plot(steps, values, color=look.colour, linewidth=0.8, alpha=0.35)
            axis.plot(
                steps, smooth(values), color=look.colour, linestyle=look.line_style, linewidth=1.8,
                marker=mark_of(steps), markersize=5,
            )  # fmt: skip
        axis.set_title(title, fontsize=10, loc="left")
        axis.set_xlabel(f"step{f'; {hint}' if hint else ''}", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes.flat[len(shown) :]:
        axis.axis("off")
    if len(runs) == 1:
        figure.suptitle(literal(next(iter(runs))), fontsize=11)
    else:
        handles = [Line2D([], [], color=one.colour, linestyle=one.line_style) for one in looks]
        figure.legend(
            handles, list(map(literal, runs)), ncols=4, fontsize=9, frameon=False, loc="outside upper left"
        )
    return figure


def save_curves(path: Path, runs: Mapping[str, Metrics]) -> None:
    """Write the figure of :func:`draw_curves`; the suffix sets the format: .png, .pdf or .svg.

    Raises:
        UserError: nothing was logged.
    """
    figure = draw_curves(runs)
    if figure is None:
        raise UserError(f"{path}: cannot be drawn, because the runs have logged no metrics.")
    save_figure(figure, path)


def curve_charts(runs: Mapping[str, Metrics], names: Collection[str]) -> list[str]:
    """An SVG for a page for each logged metric among ``names``."""
    charts, looks = [], looks_of(list(runs))
    for name, title, hint in HEALTH:
        lines, ends = [], []
        for place, (run, logged) in enumerate(runs.items()):
            steps, values = _series(logged, name)
            if steps and name in names:
                kept = evenly(len(steps), POINTS)
                running = smooth(values)
                lines.append((f"_{place}", looks[place], [steps[i] for i in kept], list(running[kept])))
                ends.append(f"{run}: {running[0]:.3g} to {running[-1]:.3g}")
        if lines:
            charts.append(
                line_chart(
                    lines, title=title[0].upper() + title[1:], y_label="", hint=hint,
                    description=f"{title} over training, from the first logged step to the last. "
                    f"{'; '.join(ends)}.",
                )
            )  # fmt: skip
    return charts


def _series(lines: Metrics, name: str) -> tuple[list[float], list[float]]:
    """Steps at which a metric was logged as a finite number, and the numbers."""
    points = [(line["step"], line[name]) for line in lines if isinstance(line.get(name), (int, float))]
    finite = [(step, value) for step, value in points if math.isfinite(value)]
    return [step for step, _ in finite], [value for _, value in finite]


def draw_gradients(run: Path, name: str | None = None) -> Figure | None:
    """The size of the gradient layer by layer, from the first steps (pale) to the last (dark).

    None if it was not logged. ``name``: the run's name; by default that of its folder.
    """
    records = read_gradients(run)
    if not records or not records[-1]["layers"]:
        return None
    names = list(records[-1]["layers"])[:LAYERS]
    chosen = [records[place] for place in evenly(len(records), 6)]
    figure = Figure(figsize=(max(6.4, 0.16 * len(names) + 2), 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    colours = mpl.colormaps["viridis_r"](np.linspace(0.1, 1, len(chosen)))
    for record, colour in zip(chosen, colours, strict=True):
        rows = np.array([record["layers"].get(name, [np.nan] * 3) for name in names], float)
        label = f"step {record['step']}"
        above.plot(_positive(rows[:, 0]), color=colour, label=label, linewidth=1.4, marker=mark_of(names))
        above.plot(
            _positive(rows[:, 1]), color=colour, linewidth=0.7, linestyle=":", marker=mark_of(names) and "v"
        )
        below.plot(_positive(rows[:, 2]), color=colour, linewidth=1.4, marker=mark_of(names))
    above.set_ylabel("size of the gradient\n(mean; dotted: maximum)", fontsize=9)
    below.set_ylabel("gradient norm / weight norm", fontsize=9)
    for axis in (above, below):
        if any(np.isfinite(line.get_ydata()).any() for line in axis.lines):
            axis.set_yscale("log")
        axis.grid(axis="y", alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    above.legend(fontsize=8, ncols=3)
    short = [literal(name.removeprefix("encoder.").removeprefix("stages.")) for name in names]
    below.set_xticks(range(len(names)), short, rotation=90, fontsize=8 if len(names) <= 30 else 6)
    below.set_xlabel("layer, from the first to the last")
    figure.suptitle(literal(name or run.name), fontsize=11)
    return figure


def _positive(values: np.ndarray) -> np.ndarray:
    """Values for a logarithmic axis: zeros and infinite values become NaN, which leaves a gap."""
    return np.where((values > 0) & np.isfinite(values), values, np.nan)
