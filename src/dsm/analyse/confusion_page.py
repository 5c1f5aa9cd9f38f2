"""``confusion.html``: every class and what it is taken for, as tables to sort and search."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dsm.analyse.page import write_page
from dsm.evaluate.video_test import Predictions

MATRIX_UP_TO = 60
"""Classes up to which the whole matrix is shown."""


def write_confusion_page(path: Path, found: Predictions, names: Sequence[str], *, title: str) -> None:
    """Write a page of its own: a table of classes, and the confusion matrix where it can be read.

    Args:
        names: of all classes.
        title: what was tested on what.
    """
    taken = found.most_often_taken_for()
    classes = []
    for label, (accuracy, count) in found.class_accuracy().items():
        wrong, times = taken[label] or (None, 0)
        taken_for = "" if wrong is None else names[wrong]
        line = {"name": names[label], "videos": count, "top1": accuracy}
        classes.append({**line, "taken_for": taken_for, "times": times})
    matrix = []
    if len(names) <= MATRIX_UP_TO:
        for label, row in enumerate(found.confusion().tolist()):
            total = max(sum(row), 1)
            cells = [
                {"count": count, "share": round(100 * count / total), "right": column == label}
                for column, count in enumerate(row)
            ]
            matrix.append({"name": names[label], "cells": cells})
    write_page(
        path, "confusion.html", title=title, videos=len(found.labels), top1=float(found.top(1).mean()),
        classes=classes, names=list(names), matrix=matrix,
    )  # fmt: skip
