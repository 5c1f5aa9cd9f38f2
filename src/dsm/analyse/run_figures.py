"""Pictures of a run: how its health went, and how the gradient flows through its layers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from dsm.engine.runfolder import read_gradients, read_metrics
from dsm.files import written_aside

HEALTH = (
    ("loss", "loss", "lower is better"),
    ("motion", "positive nearer than negative", "0.5: motion is not seen"),
    ("alignment", "alignment", "0: the two versions of a clip agree"),
    ("uniformity", "uniformity", "0: all clips one point; -4: spread out"),
    ("effective_rank", "effective rank", "1: collapsed to a line"),
    ("spread", "spread", "0: collapsed; 1 at the most"),
    ("grad_norm", "norm of the gradient", ""),
    ("queue_age", "age of the oldest key of the queue, in steps", ""),
    ("data_wait", "share of time waiting for data", "above 0.05: more workers, or a pack"),
    ("monitor/knn", "knn on the monitor's list", ""),
)
"""Names in ``metrics.jsonl``, what they are called, and how to read them."""


def draw_run(run: Path) -> list[Path]:
    """Write ``figures/health.png`` and ``figures/gradients.png`` of a run; those it has numbers for."""
    drawn = []
    for name, draw in (("health", draw_health), ("gradients", draw_gradients)):
        figure = draw(run)
        if figure is None:
            continue
        path = run / "figures" / f"{name}.png"
        with written_aside(path) as aside:
            figure.savefig(aside, dpi=110, format="png")
        plt.close(figure)
        drawn.append(path)
    return drawn


def draw_health(run: Path) -> Any | None:
    """A small chart for each figure of :data:`HEALTH` that the run logged; None where it logged nothing."""
    lines = read_metrics(run)
    series = {
        name: [(line["step"], line[name]) for line in lines if line.get(name) is not None]
        for name, _, _ in HEALTH
    }
    shown = [(name, title, hint) for name, title, hint in HEALTH if series[name]]
    if not shown:
        return None
    columns = 3
    rows = -(-len(shown) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(11, 2.5 * rows + 0.4), squeeze=False, layout="constrained"
    )
    for axis, (name, title, hint) in zip(axes.flat, shown, strict=False):
        steps, values = np.array(series[name]).T
        axis.plot(steps, values, color="#9bb8d3", linewidth=1)
        axis.plot(steps, _smooth(values), color="#1f5a8c", linewidth=1.8)
        axis.set_title(title, fontsize=10, loc="left")
        axis.set_xlabel(f"step{f'; {hint}' if hint else ''}", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes.flat[len(shown) :]:
        axis.axis("off")
    figure.suptitle(run.name, fontsize=11)
    return figure


def draw_gradients(run: Path) -> Any | None:
    """The size of the gradient layer by layer, from the first steps (pale) to the last (dark)."""
    records = read_gradients(run)
    if not records or not records[-1]["layers"]:
        return None
    names = list(records[-1]["layers"])
    chosen = [records[int(i)] for i in np.unique(np.linspace(0, len(records) - 1, 6).round())]
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(max(8, 0.16 * len(names) + 2), 7), sharex=True, layout="constrained"
    )
    colours = plt.get_cmap("viridis_r")(np.linspace(0.1, 1, len(chosen)))
    for record, colour in zip(chosen, colours, strict=True):
        rows = np.array([record["layers"].get(name, [np.nan] * 3) for name in names], float)
        label = f"step {record['step']}"
        above.plot(_positive(rows[:, 0]), color=colour, label=label, linewidth=1.4)
        above.plot(_positive(rows[:, 1]), color=colour, linewidth=0.7, linestyle=":")
        below.plot(_positive(rows[:, 2]), color=colour, linewidth=1.4)
    above.set_ylabel("size of the gradient\n(mean; dotted: greatest)")
    below.set_ylabel("its norm over the weights'")
    for axis in (above, below):
        axis.set_yscale("log")
        axis.grid(axis="y", alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    above.legend(fontsize=8, ncols=3)
    below.set_xticks(range(len(names)), _short(names), rotation=90, fontsize=6)
    figure.suptitle(f"{run.name}: the gradient from the first layer to the last", fontsize=11)
    return figure


def _smooth(values: np.ndarray) -> np.ndarray:
    """A running mean over a twentieth of the points."""
    width = max(len(values) // 20, 1)
    padded = np.pad(values, (width // 2, width - 1 - width // 2), mode="edge")
    return np.convolve(padded, np.full(width, 1 / width), mode="valid")


def _positive(values: np.ndarray) -> np.ndarray:
    """What a logarithmic axis can show: a gradient of zero leaves a gap."""
    return np.where(values > 0, values, np.nan)


def _short(names: Sequence[str]) -> list[str]:
    return [name.removeprefix("encoder.").removeprefix("stages.") for name in names]
