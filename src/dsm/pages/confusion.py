"""The confusion matrix, as a picture and as ``confusion.html``, a page of tables to sort and search."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dsm.evaluate.video_test import Predictions
from dsm.intervals import share_interval
from dsm.pages.figures import literal, save_figure
from dsm.pages.tables import bar_of
from dsm.pages.template import write_page
from dsm.terminal import many

NUMBERED = 25
"""Most classes with which the cells show their numbers."""


def draw_confusion(table: NDArray[np.int64], names: Sequence[str], path: Path) -> None:
    """Write a picture of ``table`` (classes, classes): rows are true classes, columns predicted classes.

    Blue is right and orange wrong, as on the page; the shade is the share of the row.
    """
    totals = table.sum(1, keepdims=True)
    shares = table / np.maximum(totals, 1)
    names, count = list(map(literal, names)), len(names)
    side = min(max(4.5, 0.32 * count + 2), 24)
    figure = Figure(figsize=(side + 2, side), layout="constrained")
    axis = figure.subplots()
    right = np.eye(count, dtype=bool)
    for cells, shades in ((right, "Blues"), (~right, "Oranges")):
        image = axis.imshow(np.ma.array(shares, mask=~cells), cmap=shades, vmin=0, vmax=1)
        name = "right" if shades == "Blues" else "wrong"
        figure.colorbar(image, ax=axis, shrink=0.7, label=f"{name}, share of the row", aspect=30)
    size = 9 if count <= 15 else 7 if count <= 40 else 4
    axis.set_xticks(range(count), names, rotation=90, fontsize=size)
    axis.set_yticks(range(count), names, fontsize=size)
    axis.set_xlabel("predicted class")
    axis.set_ylabel("true class")
    if count <= NUMBERED:
        for row, column in np.argwhere(table):
            colour = "white" if shares[row, column] > 0.6 else "black"
            axis.text(column, row, table[row, column], ha="center", va="center", fontsize=size, color=colour)
    save_figure(figure, path)


MATRIX_UP_TO = 60
"""Most classes with which the whole matrix is shown."""


def write_confusion_page(
    path: Path,
    predictions: Predictions,
    names: Sequence[str],
    *,
    title: str,
    groups: Sequence[str] | None = None,
) -> None:
    """Write the page: the confusion matrix if it is small enough to read, and a table of classes.

    Args:
        names: the names of all classes.
        title: names the weights and the test.
        groups: the group of each video; the interval then resamples groups.
    """
    taken = predictions.most_often_taken_for()
    classes: list[dict[str, Any]] = []
    for label, (accuracy, count) in predictions.class_accuracy().items():
        wrong, times = taken[label] or (None, 0)
        taken_for = "" if wrong is None else names[wrong]
        line = {"name": names[label], "videos": count, "top1": accuracy}
        classes.append({**line, "taken_for": taken_for, "times": times})
    matrix = []
    if len(names) <= MATRIX_UP_TO:
        for label, row in enumerate(predictions.confusion().tolist()):
            total = max(sum(row), 1)
            cells = [
                {"count": count, "share": round(100 * count / total), "right": column == label}
                for column, count in enumerate(row)
            ]
            matrix.append({"name": names[label], "cells": cells})
    worst = max((line for line in classes if line["times"]), key=lambda line: line["times"], default=None)
    hits = predictions.top(1)
    top1 = bar_of("top-1", share_interval(hits, groups=groups))
    write_page(
        path, "confusion.html", title=title, videos=many(len(predictions.labels), "video"), wrong=worst,
        top1=top1, right=int(hits.sum()), classes=classes, names=list(names), matrix=matrix,
    )  # fmt: skip
