"""Video-level test: a classifier's probabilities, averaged over many views of each video."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from dsm.datasets.lists import VideoList
from dsm.datasets.reading import ClipConfig
from dsm.errors import UserError
from dsm.evaluate.extract import extract_by_all


@dataclass(frozen=True)
class Predictions:
    """What a classifier says of each video."""

    probabilities: NDArray[np.float32]
    """(n, classes)."""
    labels: NDArray[np.int64]
    """(n,)."""
    paths: list[str]
    unread: int = 0
    """Videos of the list that cannot be read; they are not among these."""

    def ranks(self) -> NDArray[np.int64]:
        """(n,): how many classes are held more probable than the right one; of equals, the earlier class."""
        rows = np.arange(len(self.labels))
        right = self.probabilities[rows, self.labels][:, None]
        classes = np.arange(self.probabilities.shape[1])
        before = (self.probabilities > right) | (
            (self.probabilities == right) & (classes < self.labels[:, None])
        )
        return before.sum(1)

    def top(self, k: int) -> NDArray[np.bool_]:
        """(n,): whether the right class is among the k most probable."""
        return np.asarray(self.ranks() < k)

    def class_accuracy(self) -> dict[int, tuple[float, int]]:
        """Of each class that has videos: the share that is classified rightly, and how many there are."""
        hits = self.top(1)
        return {
            int(label): (float(hits[self.labels == label].mean()), int((self.labels == label).sum()))
            for label in np.unique(self.labels)
        }

    def confusion(self) -> NDArray[np.int64]:
        """(classes, classes): videos of the class of the row that are taken for the class of the column."""
        classes = self.probabilities.shape[1]
        table = np.zeros((classes, classes), np.int64)
        np.add.at(table, (self.labels, self.probabilities.argmax(1)), 1)
        return table

    def most_often_taken_for(self) -> dict[int, tuple[int, int] | None]:
        """Of each class that has videos: the wrong class it is taken for most often, and how often."""
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
    batch_size: int = 4,
    workers: int = 1,
    seconds: float | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Predictions:
    """Average a classifier's probabilities over ``windows`` times ``crops`` views of each video.

    Args:
        classifier: normalised clips (B, C, T, H, W) -> logits (B, classes).
        windows: clips, evenly spread over the video.
        crops: of each clip, 1 in the middle or 3 along its longer side.
        seconds: how long a video may take to read; None for as long as it takes.

    Videos that cannot be read are left out, and counted.

    Raises:
        UserError: a video has no label, or one that the classifier does not know; or none can be read.
    """
    check_labels(videos, classes)
    (found,) = extract_by_all(
        [probabilities_of(classifier)], videos, clip, windows=windows, crops=crops, batch_size=batch_size,
        workers=workers, seconds=seconds, on_progress=on_progress, on_bad=lambda _: None,
    )  # fmt: skip
    return Predictions(found.features, found.labels, found.paths, len(videos) - len(found))


def probabilities_of(classifier: nn.Module) -> nn.Module:
    """From normalised clips (B, C, T, H, W) to probabilities (B, classes)."""
    return nn.Sequential(classifier, nn.Softmax(dim=1))


def check_labels(videos: VideoList, classes: int) -> None:
    """Raise UserError where a video has no label, or one that the classifier does not know."""
    if (videos.labels < 0).any() or videos.labels.max() >= classes:
        raise UserError(
            f"{videos.source}: every video needs a label from 0 to {classes - 1}, of the classes trained."
        )
