"""Two classifiers tested on the same videos: where they differ, and by how much."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsm.errors import UserError
from dsm.evaluate.bootstrap import Interval, mean_interval
from dsm.files import csv_text

PREDICTIONS = "predictions.csv"
_COLUMNS = ("path", "class", "predicted1", "probability1")


@dataclass(frozen=True)
class Answers:
    """What a classifier takes each video of a list for; classes by their names."""

    paths: Sequence[str]
    classes: Sequence[str]
    predicted: Sequence[str]
    """Empty where the video could not be read."""
    probabilities: Sequence[float]

    def right(self) -> NDArray[np.bool_]:
        """(n,): whether the video is of the class it is taken for."""
        return np.array([one == other for one, other in zip(self.predicted, self.classes, strict=True)])


def read_answers(folder: Path) -> Answers:
    """The predictions that a ``dsm test`` left in its folder.

    Raises:
        UserError: there are none, or they are no such table.
    """
    file = folder / PREDICTIONS
    if not file.is_file():
        raise UserError(f"{folder}: holds no {PREDICTIONS}; --against wants the --out of another `dsm test`.")
    try:
        with file.open(encoding="utf-8", newline="") as opened:
            rows = [[row[name] for name in _COLUMNS] for row in csv.DictReader(opened)]
        paths, classes, predicted, shares = zip(*rows, strict=True)
        return Answers(paths, classes, predicted, [float(share or "nan") for share in shares])
    except (KeyError, TypeError, ValueError, csv.Error):  # a UnicodeDecodeError is a ValueError
        raise UserError(f"{file}: is no table of predictions as `dsm test` writes it.") from None


def check_same_list(folder: Path, other: Answers, paths: Sequence[str], classes: Sequence[str]) -> None:
    """Raise UserError where the other test was of other videos, or calls their classes otherwise."""
    if list(other.paths) != list(paths):
        raise UserError(
            f"{folder}: was a test of another list ({len(other.paths)} videos, here {len(paths)}; other "
            "names, or another order); --against wants a test on the same --data.test."
        )
    for path, one, two in zip(paths, classes, other.classes, strict=True):
        if one != two:
            raise UserError(
                f"{folder}: was a test of another list: {path} is of class {two} there, of {one} here; "
                "labels and classes.txt must be the same."
            )


@dataclass(frozen=True)
class Comparison:
    """How often two classifiers are right, video by video."""

    both: int
    only_this: int
    only_other: int
    neither: int
    difference: Interval
    """Top-1 of this one less that of the other: paired, over videos or groups of them."""


def compare(this: Answers, other: Answers, *, groups: Sequence[str] | None = None) -> Comparison:
    """Count who is right, and tell the difference of the two top-1, of the videos that both could read.

    Args:
        this, other: of the same videos in the same order.
        groups: of each video, drawn whole; None draws videos.
    """
    read = np.array([bool(a and b) for a, b in zip(this.predicted, other.predicted, strict=True)])
    one, two = this.right()[read], other.right()[read]
    if groups is not None:
        groups = [group for group, kept in zip(groups, read, strict=True) if kept]
    difference = mean_interval(one.astype(float) - two, groups=groups)
    return Comparison(
        int((one & two).sum()), int((one & ~two).sum()), int((two & ~one).sum()), int((~one & ~two).sum()),
        difference,
    )  # fmt: skip


def disagreements_csv(this: Answers, other: Answers) -> str:
    """A line for each video that the two take for different classes, in the order of the list."""
    lines = [["path", "class", "predicted", "probability", "other predicted", "other probability", "right"]]
    one, two = this.right(), other.right()
    for place in range(len(this.paths)):
        if this.predicted[place] == other.predicted[place] or not (
            this.predicted[place] and other.predicted[place]
        ):
            continue
        right = "this" if one[place] else "other" if two[place] else "neither"
        own = [this.predicted[place], f"{this.probabilities[place]:.4f}"]
        others = [other.predicted[place], f"{other.probabilities[place]:.4f}"]
        lines.append([this.paths[place], this.classes[place], *own, *others, right])
    return csv_text(lines)
