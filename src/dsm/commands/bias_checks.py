"""What ``dsm bias`` asks of its lists and weights before any work is done."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from dsm.datasets.classes import check_class_names, named
from dsm.datasets.classes import names_of as class_names_of
from dsm.datasets.lists import VideoList, read_list
from dsm.errors import UserError
from dsm.evaluate.subject import Subject
from dsm.models.weights import weights_name

LEAST = 2
"""Videos that each class of a test needs."""


def labelled(path: Path, root: Path | None, *, least: int = 1, like: VideoList | None = None) -> VideoList:
    """A list of which every video has a label; classes by name are numbered as those of ``like``.

    Raises:
        UserError: it has not, or has but one class, or a class of fewer than ``least`` videos.
    """
    videos = read_list(path, root, like=named(class_names_of(like), like.source) if like else None)
    if not videos.labelled:
        raise UserError(
            f"{path}: {int((videos.labels < 0).sum())} of its videos have no label; `dsm bias` compares "
            "accuracies, which need `path label` on every line."
        )
    labels, counts = np.unique(videos.labels, return_counts=True)
    if len(labels) < 2:
        raise UserError(f"{path}: all its videos are of class {labels[0]}; `dsm bias` needs two at least.")
    if counts.min() < least:
        raise UserError(
            f"{path}: class {labels[counts.argmin()]} has a single video, of which no share can be told; "
            "add some of it, or take it out."
        )
    return videos


def names_of(weights: tuple[str, ...]) -> list[str]:
    """By folder or file; the whole path where two would be called the same.

    Raises:
        UserError: the same weights are given twice.
    """
    short = [weights_name(one) for one in weights]
    count = Counter(short)
    names = [name if count[name] == 1 else one for name, one in zip(short, weights, strict=True)]
    if len(set(names)) < len(names):
        raise UserError("--weights names the same weights twice.")
    return names


def check_classes(subjects: dict[str, Subject], train: VideoList | None, lists: list[VideoList]) -> None:
    """Every class of the lists must be one that all can say, and be called as a classifier calls it.

    Raises:
        UserError: one is not, or there is nothing to learn classes from.
    """
    for name, subject in subjects.items():
        if subject.names is None and train is None:
            raise UserError(f"{name}: holds no classifier; a probe needs --data.train, a labelled list.")
        known = subject.known if subject.names is not None or train is None else np.unique(train.labels)
        of = name if subject.names is not None or train is None else train.source
        for videos in lists:
            unknown = np.setdiff1d(videos.labels, known)
            if len(unknown):
                raise UserError(f"{videos.source}: class {unknown[0]} is none of the {len(known)} of {of}.")
            if subject.names is not None:
                check_class_names(videos, subject.names, name)
