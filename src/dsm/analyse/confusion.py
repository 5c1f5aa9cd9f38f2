"""The confusion matrix as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dsm.analyse.figures import literal, save_figure

NUMBERED = 25
"""Classes up to which the cells say their numbers."""


def draw_confusion(table: NDArray[np.int64], names: Sequence[str], path: Path) -> None:
    """Write a picture of ``table`` (classes, classes): rows are classes, columns what they are taken for."""
    totals = table.sum(1, keepdims=True)
    shares = table / np.maximum(totals, 1)
    names, count = list(map(literal, names)), len(names)
    side = min(max(4.5, 0.32 * count + 2), 24)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = 9 if count <= 15 else 7 if count <= 40 else 4
    axis.set_xticks(range(count), names, rotation=90, fontsize=size)
    axis.set_yticks(range(count), names, fontsize=size)
    axis.set_xlabel("taken for")
    axis.set_ylabel("is")
    if count <= NUMBERED:
        for row, column in np.argwhere(table):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axis.text(column, row, table[row, column], ha="center", va="center", fontsize=size, color=colour)
    figure.colorbar(image, ax=axis, shrink=0.7, label="share of the row")
    save_figure(figure, path)
