"""A bias report: its rows, tables and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.markup import escape
from rich.table import Table
from scipy.stats import linregress

from dsm.evaluate.bias import NUMBERS, ClassShare, Judged, accuracy, class_shares, four_numbers, skilled
from dsm.evaluate.variant_features import Pictures
from dsm.evaluate.verdict import Numbers
from dsm.files import csv_text
from dsm.intervals import percent, t_quantile
from dsm.pages.figures import drawing, font_families, literal, looks_of, place_labels, save_figure
from dsm.pages.film import write_named_strips
from dsm.runs.metrics import ACCURACY
from dsm.runs.results import Row, row_of
from dsm.terminal import many
from dsm.video.sampling import evenly

Vector = NDArray[np.float64]


def rows_of(
    judged: Mapping[str, Judged],
    *,
    test: str,
    seeds: Mapping[str, int],
    measures: Mapping[str, Numbers] | None = None,
    counts: Mapping[str, Mapping[str, int]] | None = None,
) -> list[Row]:
    """Accuracies of all variants and, if every variant was tested, the four numbers and ``measures``.

    A number that cannot be measured (:func:`dsm.evaluate.bias.four_numbers`) has no row.

    Args:
        counts: the number of videos of the measures that use only some, by model and name.
    """
    rows = []
    for run, one in judged.items():
        values = {ACCURACY + variant: accuracy(one, variant) for variant in one.probabilities}
        if len(one.probabilities) > 1:
            numbers = {**four_numbers(one), **(measures or {}).get(run, {})}
            values |= {name: value for name, value in numbers.items() if value is not None}
        fewer = (counts or {}).get(run, {})
        rows += [
            row_of(run, seeds[run], test, name, value, fewer.get(name, len(one.labels)))
            for name, value in values.items()
        ]
    return rows


def classes_csv(judged: Mapping[str, Judged], names: Sequence[str]) -> str:
    """One line per model and class: videos, accuracy in each variant, relative gain."""
    lines: list[list[str]] = []
    for run, one in judged.items():
        for share in class_shares(one):
            each = [f"{value:.4f}" for value in share.accuracy.values()]
            lines.append([run, names[share.label], str(share.videos), *each, f"{share.gain:.4f}"])
    variants = next(iter(judged.values())).probabilities
    header = ["weights", "class", "videos", *(ACCURACY + name for name in variants), "relative_gain"]
    return csv_text([header, *lines])


def predictions_csv(
    judged: Mapping[str, Judged], paths: Mapping[str, Sequence[str]], names: Sequence[str]
) -> str:
    """One line per model and video: its class, the video that supplied the background, the predictions.

    ``paths``: the videos that each model was tested on.
    """
    lines: list[list[str]] = []
    for run, one in judged.items():
        predicted = [one.predicted(variant) for variant in one.probabilities]
        for place, path in enumerate(paths[run]):
            own = [names[labels[place, 0]] for labels in predicted]
            lines.append(
                [run, path, names[one.labels[place]], paths[run][one.partners["background"][place, 0]], *own]
            )
    variants = next(iter(judged.values())).probabilities
    return csv_text([["weights", "path", "class", "background_of", *variants], *lines])


def bias_table(rows: Sequence[Row], judged: Mapping[str, Judged], *, test: str) -> Table:
    """One column per model: accuracies, the four numbers and the field's, with intervals."""
    of = {(row.run, row.test, row.metric): row for row in rows}
    table = Table(title=escape(f"{test}: {many(len(next(iter(judged.values())).labels), 'video')}"))
    table.add_column("")
    for run in judged:
        table.add_column(escape(run), justify="right")

    def add(name: str, test: str, metric: str) -> None:
        table.add_row(name, *(_cell(of.get((run, test, metric))) for run in judged))

    for variant in next(iter(judged.values())).probabilities:
        add(variant, test, ACCURACY + variant)
        if variant == "clip":
            for other in dict.fromkeys(row.test for row in rows if row.test != test):
                add(f"clip of {escape(other)}", other, ACCURACY + variant)
    table.add_row("chance", *(f"{one.chance:.1%}" for one in judged.values()), end_section=True)
    for number in NUMBERS:
        add(number.replace("_", " "), test, number)
    table.add_section()
    every = dict.fromkeys(row.metric for row in rows if row.test == test)
    for metric in every:
        if metric not in NUMBERS and not metric.startswith(ACCURACY):
            add(metric.replace("_", " "), test, metric)
    return table


def unskilled_lines(judged: Mapping[str, Judged]) -> list[str]:
    """A sentence for each model that is too weak for the four numbers."""
    return [
        f"{run}: not clearly better than chance, so no loss of skill can be measured."
        for run, one in judged.items()
        if not skilled(one)
    ]


def _cell(row: Row | None) -> str:
    if row is None:
        return "–"
    own = row.measured
    return percent(own.value, 1) + (rf" \[{percent(own.low)}, {percent(own.high)}]" if own.known else "")


FRAMES_SHOWN = 8


def draw_bars(judged: Mapping[str, Judged], path: Path) -> None:
    """Accuracy in each variant with its 95 % interval, models side by side, and a line at chance."""
    variants = list(next(iter(judged.values())).probabilities)
    figure = Figure(figsize=(max(7.0, 1.1 * len(variants)), 3.6), layout="constrained")
    axis = figure.subplots()
    width = 0.8 / len(judged)
    for place, ((run, one), look) in enumerate(zip(judged.items(), looks_of(list(judged)), strict=True)):
        bars = np.array([accuracy(one, variant) for variant in variants]) * 100  # (variants, 3)
        x = np.arange(len(variants)) + (place - (len(judged) - 1) / 2) * width
        reach = np.abs(bars[:, 1:] - bars[:, :1]).T
        axis.bar(
            x, bars[:, 0], width * 0.92,
            color=look.colour, hatch=look.hatch, edgecolor="white", linewidth=0, label=literal(run),
        )  # fmt: skip
        axis.errorbar(x, bars[:, 0], reach, fmt="none", ecolor="#444444", elinewidth=1, capsize=2)
        axis.axhline(100 * one.chance, color="#444444", linewidth=0.8, linestyle=":", zorder=0)
    axis.annotate(
        "chance", (1, 100 * one.chance), xycoords=("axes fraction", "data"), xytext=(3, 0),
        textcoords="offset points", va="center", fontsize=8,
    )  # fmt: skip
    axis.set_xticks(range(len(variants)), [name.replace("_", "\n") for name in variants])
    axis.set_ylabel("accuracy, mean over classes,\nin %, with 95% intervals")
    axis.set_xlim(-0.6, len(variants) - 0.4)
    axis.set_ylim(0, 100)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(ncols=min(len(judged), 5), frameon=False, loc="lower left", bbox_to_anchor=(0, 1))
    save_figure(figure, path)


def draw_classes(judged: Mapping[str, Judged], names: Sequence[str], path: Path) -> None:
    """Per class: accuracy on single frames against how many times better the whole clip does.

    One chart per model, side by side, on the same axes. The line is a least-squares fit of the ratio's
    logarithm, the band its 95 % confidence band.
    """
    columns = len(judged) if len(judged) <= 3 else -(-len(judged) // 2)
    rows = -(-len(judged) // columns)
    figure = Figure(figsize=(6.2 * columns, 5.4 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    every = [class_shares(one) for one in judged.values()]
    ratios = np.log2(1 + np.array([share.gain for shares in every for share in shares]))
    bounds = min(ratios.min(), -0.5) - 0.35, max(ratios.max(), 0.5) + 0.35
    for axis, run, look, shares in zip(axes.flat, judged, looks_of(list(judged)), every, strict=False):
        colour = look.colour
        x = np.array([100 * share.accuracy["static"] for share in shares])
        y = np.log2(1 + np.array([share.gain for share in shares]))
        axis.axhline(0, color="#888888", linewidth=0.8, linestyle=":")
        if len(x) > 2 and np.ptp(x) > 1e-6:
            along = np.linspace(x.min(), x.max(), 200)
            middle, half = fitted_line(x, y, along)
            axis.fill_between(along, middle - half, middle + half, color=colour, alpha=0.15, linewidth=0)
            axis.plot(along, middle, color=colour, linewidth=1.5)
        axis.plot(x, y, "o", color=colour, markersize=5)
        axis.set_title(literal(run), loc="left")
        axis.set_xlabel("accuracy of single frames, %")
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes.flat[len(judged) :]:
        axis.set_visible(False)
    axes.flat[0].set_xlim(-6, 106)
    axes.flat[0].set_ylim(*bounds)
    ticks = np.arange(np.ceil(bounds[0]), np.floor(bounds[1]) + 1)
    axes.flat[0].set_yticks(ticks, [f"× {2.0**tick:g}" for tick in ticks])
    for axis in axes[:, 0]:
        axis.set_ylabel("accuracy of the clip / of single frames (1 + relative gain)")
    with drawing():
        figure.draw_without_rendering()  # settles the layout, so that names can be measured
        figure.set_layout_engine("none")
        for axis, shares in zip(axes.flat, every, strict=False):
            _name_classes(axis, shares, names)
    save_figure(figure, path)


def fitted_line(x: Vector, y: Vector, along: Vector) -> tuple[Vector, Vector]:
    """A straight line through three or more points, and half the height of its 95 % confidence band, at
    ``along``.

    The half height is t s sqrt(1/n + (x - mean)²/Sxx), with t and s of n - 2 degrees of freedom (Draper &
    Smith, Applied Regression Analysis, section 1.4).
    """
    line = linregress(x, y)
    # s² = stderr² Sxx
    error = line.stderr * np.sqrt(((x - x.mean()) ** 2).mean() + (along - x.mean()) ** 2)
    return line.intercept + line.slope * along, t_quantile(len(x) - 2) * error


def _name_classes(axis: Axes, shares: Sequence[ClassShare], names: Sequence[str]) -> None:
    """Write class names beside their points, and how many names did not fit."""
    points = np.array([(100 * share.accuracy["static"], np.log2(1 + share.gain)) for share in shares])
    pixels = axis.transData.transform(points)
    size = 8.5 if len(shares) <= 40 else 6.5
    families = font_families()
    texts = [
        axis.text(0, 0, literal(names[share.label]), fontsize=size, fontfamily=families) for share in shares
    ]
    extents = [text.get_window_extent() for text in texts]
    sizes = np.array([(extent.width + 2, extent.height + 1) for extent in extents])
    frame = axis.get_window_extent()
    boxes = place_labels(pixels, sizes, (frame.x0 + 4, frame.y0 + 2, frame.x1, frame.y1 - 2), gap=7)
    back = axis.transData.inverted()
    for text, box, point, pixel in zip(texts, boxes, points, pixels, strict=True):
        if box is None:
            text.remove()
            continue
        text.set_position(tuple(back.transform(box[:2])))
        text.set_verticalalignment("bottom")
        nearest = np.clip(pixel, box[:2], box[2:])
        if np.linalg.norm(nearest - pixel) > 14:
            end = back.transform(nearest)
            axis.plot(*zip(point, end, strict=True), color="#888888", linewidth=0.6, zorder=0)
    left = sum(box is None for box in boxes)
    if left:
        axis.text(
            1,
            1.01,
            f"{many(left, 'name')} not shown: see classes.csv",
            transform=axis.transAxes,
            ha="right",
            fontsize=7,
        )


def draw_variants(pictures: Pictures, path: Path) -> None:
    """Draw one video in every variant, to check that the variants work on these videos."""
    rows = []
    for name, frames in pictures.items():
        rows.append((name, frames[evenly(len(frames), FRAMES_SHOWN)]))
    write_named_strips(path, rows)
