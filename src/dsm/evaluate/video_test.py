"""Video-level test: a classifier's probabilities, averaged over many views of a video; two tests compared."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from dsm.data.lists import VideoList
from dsm.data.settings import ClipConfig
from dsm.errors import UserError
from dsm.evaluate.extract import extract_by_all
from dsm.files import csv_text
from dsm.intervals import Interval, share_difference
from dsm.models.settings import Precision
from dsm.untrusted import read_text


@dataclass(frozen=True)
class Predictions:
    """A classifier's predictions for each video."""

    probabilities: NDArray[np.float32]
    """(n, classes)."""
    labels: NDArray[np.int64]
    """(n,); -1 for unlabelled videos, whose ranks and accuracies are unknown."""
    paths: list[str]
    unread: int = 0
    """Number of the list's unreadable videos, which have no predictions."""

    def ranks(self) -> NDArray[np.int64]:
        """(n,): how many classes are more probable than the true one; ties rank by class number."""
        rows = np.arange(len(self.labels))
        right = self.probabilities[rows, self.labels][:, None]
        classes = np.arange(self.probabilities.shape[1])
        before = (self.probabilities > right) | (
            (self.probabilities == right) & (classes < self.labels[:, None])
        )
        return before.sum(1)

    def top(self, k: int) -> NDArray[np.bool_]:
        """(n,): whether the true class is among the k most probable."""
        return np.asarray(self.ranks() < k)

    def class_accuracy(self) -> dict[int, tuple[float, int]]:
        """For each class that has videos: the share classified correctly, and the number of videos."""
        hits = self.top(1)
        return {
            int(label): (float(hits[self.labels == label].mean()), int((self.labels == label).sum()))
            for label in np.unique(self.labels)
        }

    def confusion(self) -> NDArray[np.int64]:
        """(classes, classes): number of videos of the row's class predicted as the column's class."""
        classes = self.probabilities.shape[1]
        table = np.zeros((classes, classes), np.int64)
        np.add.at(table, (self.labels, self.probabilities.argmax(1)), 1)
        return table

    def most_often_taken_for(self) -> dict[int, tuple[int, int] | None]:
        """For each class that has videos: the wrong class most often predicted for it, and how often."""
        table = self.confusion()
        np.fill_diagonal(table, 0)
        return {
            int(label): (int(table[label].argmax()), int(table[label].max())) if table[label].any() else None
            for label in np.unique(self.labels)
        }


def predict(
    classifier: nn.Module,
    videos: VideoList,
    clip: ClipConfig,
    *,
    classes: int,
    windows: int = 10,
    crops: int = 1,
    workers: int = 1,
    seconds: float | None = None,
    precision: Precision = "fp32",
    batch_size: int = 4,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Predictions:
    """Average a classifier's probabilities over ``windows`` times ``crops`` views of each video.

    Args:
        classifier: normalised clips (B, C, T, H, W) -> logits (B, classes).
        windows: clips, evenly spread over the video.
        crops: crops per clip, 1 in the middle or 3 along its longer side.
        seconds: time limit for reading a video; None for no limit.
        precision: number format of the computation.
        batch_size: videos at once.

    Unreadable videos are left out and counted.

    Raises:
        UserError: a video has no label, or one that the classifier does not have; or no video can be read.
    """
    check_labels(videos, classes)
    (features,) = extract_by_all(
        [probabilities_of(classifier)], videos, clip, windows=windows, crops=crops,
        batch_size=batch_size, workers=workers, seconds=seconds, precision=precision,
        on_progress=on_progress, on_bad=lambda _: None,
    )  # fmt: skip
    return Predictions(features.features, features.labels, features.paths, len(videos) - len(features))


def probabilities_of(classifier: nn.Module) -> nn.Module:
    """From normalised clips (B, C, T, H, W) to probabilities (B, classes)."""
    return nn.Sequential(classifier, nn.Softmax(dim=1))


def check_labels(videos: VideoList, classes: int, *, partly: bool = False) -> None:
    """Raise UserError if a video has a label that the classifier lacks or, unless ``partly``, has none."""
    if (not partly and not videos.labelled) or videos.labels.max() >= classes:
        raise UserError(
            f"{videos.source}: every video needs the label of a trained class, from 0 to {classes - 1}."
        )


PREDICTIONS = "predictions.csv"
_COLUMNS = ("path", "class", "predicted1", "probability1")


@dataclass(frozen=True)
class Answers:
    """A classifier's top prediction for each video of a list; classes are given by name."""

    paths: Sequence[str]
    classes: Sequence[str]
    """Empty where the video has no label."""
    predicted: Sequence[str]
    """Empty where the video could not be read."""
    probabilities: Sequence[float]

    def right(self) -> NDArray[np.bool_]:
        """(n,): whether the prediction is right."""
        return np.array([one == other for one, other in zip(self.predicted, self.classes, strict=True)])


def read_answers(folder: Path) -> Answers:
    """Read the predictions in the folder of a ``dsm test``.

    Raises:
        UserError: there are no predictions, or the file is not a valid table.
    """
    file = folder / PREDICTIONS
    if not file.is_file():
        raise UserError(f"{folder}: has no {PREDICTIONS}; --against needs the --out of another `dsm test`.")
    try:
        table = csv.DictReader(io.StringIO(read_text(file, newline=""), newline=""))
        rows = [[row[name] for name in _COLUMNS] for row in table]
        paths, classes, predicted, shares = zip(*rows, strict=True)
        return Answers(paths, classes, predicted, [float(share or "nan") for share in shares])
    except (KeyError, TypeError, ValueError, csv.Error):  # a UnicodeDecodeError is a ValueError
        raise UserError(f"{file} is not a table of predictions written by `dsm test`.") from None


def check_same_list(folder: Path, other: Answers, paths: Sequence[str], classes: Sequence[str]) -> None:
    """Raise UserError if the other test has different videos, or different classes for them."""
    if list(other.paths) != list(paths):
        raise UserError(
            f"{folder} is a test of another list ({len(other.paths)} videos, here {len(paths)}, or other "
            "names or order); --against needs a test on the same --data.test."
        )
    for path, one, two in zip(paths, classes, other.classes, strict=True):
        if one != two:
            raise UserError(
                f"{folder} is a test of another list: there {path} has the class {two}, here {one}; labels "
                "and classes.txt must be the same."
            )


@dataclass(frozen=True)
class Comparison:
    """How often two classifiers are right on the same videos."""

    both: int
    only_this: int
    only_other: int
    neither: int
    difference: Interval
    """Top-1 of this one minus that of the other: paired, over videos or groups of them."""


def compare(this: Answers, other: Answers, *, groups: Sequence[str] | None = None) -> Comparison:
    """Count where each is right, and the difference in top-1, over the videos that both could read.

    Args:
        this, other: of the same videos in the same order.
        groups: the group of each video; the interval then resamples groups. None: it resamples videos.
    """
    read = np.array([bool(a and b) for a, b in zip(this.predicted, other.predicted, strict=True)])
    one, two = this.right()[read], other.right()[read]
    if groups is not None:
        groups = [group for group, kept in zip(groups, read, strict=True) if kept]
    difference = share_difference(one, two, groups=groups)
    return Comparison(
        int((one & two).sum()), int((one & ~two).sum()), int((two & ~one).sum()), int((~one & ~two).sum()),
        difference,
    )  # fmt: skip


def disagreements_csv(this: Answers, other: Answers) -> str:
    """One line per video for which the two predict different classes, in the order of the list; without a
    label, which of them is right stays empty."""
    lines = [["path", "class", "predicted", "probability", "other predicted", "other probability", "right"]]
    one, two = this.right(), other.right()
    for place in range(len(this.paths)):
        if this.predicted[place] == other.predicted[place] or not (
            this.predicted[place] and other.predicted[place]
        ):
            continue
        right = "this" if one[place] else "other" if two[place] else "neither"
        right = right if this.classes[place] else ""
        own = [this.predicted[place], f"{this.probabilities[place]:.4f}"]
        others = [other.predicted[place], f"{other.probabilities[place]:.4f}"]
        lines.append([this.paths[place], this.classes[place], *own, *others, right])
    return csv_text(lines)
