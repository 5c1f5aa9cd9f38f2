"""Features: one vector per video or per clip, with labels, paths and times."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsm.data.classes import class_names
from dsm.data.lists import VideoList
from dsm.data.settings import Grouping
from dsm.errors import UserError
from dsm.terminal import note
from dsm.urls import absolute, is_url, named
from dsm.video.inside import common_folder


@dataclass(frozen=True)
class Features:
    """The features of the videos of a list, or of their clips."""

    features: NDArray[np.float32]
    """(n, d), float32; float16 if the file has that and ``half`` was set."""
    labels: NDArray[np.int64]
    """(n,), -1 if unlabelled."""
    paths: list[str]
    """n paths; for a clip, that of its video."""
    meta: dict[str, Any] = field(default_factory=dict)
    """Their origin: weights, list, clip, windows; ``classes``: the names of the labels."""
    times: NDArray[np.float32] | None = None
    """(n, 2), start and end of each clip in seconds, NaN if its video has no times; None for videos."""
    within: Path | None = None
    """The folder of the videos, as given by the user; None for the one that ``meta`` names."""

    def __len__(self) -> int:
        return len(self.features)

    @property
    def dim(self) -> int:
        return self.features.shape[1]

    def part(self, rows: NDArray[np.int64]) -> Features:
        """Copies of some rows, in the order given."""
        return replace(
            self,
            features=np.array(self.features[rows]),
            labels=self.labels[rows],
            paths=[self.paths[row] for row in rows],
            times=None if self.times is None else self.times[rows],
        )

    def rooted(self, root: Path) -> Features:
        """A copy with the folder, or URL, of the videos that the user gives."""
        return replace(self, meta=self.meta | {"root": absolute(root)}, within=root)

    def identities(self) -> list[str]:
        """A unique name per video: its path, joined to the folder that it is relative to, if known."""
        root = str(self.meta.get("root", ""))
        return [named(root, path) for path in self.paths]

    def video_numbers(self) -> NDArray[np.int64]:
        """(n,), the number of each row's video, from 0 in the order of their first rows."""
        numbers: dict[str, int] = {}
        found = (numbers.setdefault(path, len(numbers)) for path in self.paths)
        return np.fromiter(found, np.int64, len(self.paths))

    def times_of(self, row: int) -> tuple[float, float] | None:
        """Start and end of a row's clip, in seconds; None if unknown or if the row is a whole video."""
        if self.times is None or not np.isfinite(self.times[row]).all():
            return None
        begin, end = self.times[row].tolist()
        return begin, end

    def groups(self, grouping: Grouping) -> list[str] | None:
        """The group of each row, from a table or a regular expression; by default, the video of each clip, or
        the file of each segment.

        None if every row is its own group.
        """
        groups = grouping.of(self.paths)
        return self.identities() if groups is None and self.times is not None else groups

    @property
    def labelled(self) -> bool:
        """Whether every row has a label."""
        return len(self) > 0 and bool((self.labels >= 0).all())

    def need_videos(self, file: Path, why: str) -> None:
        """Raise UserError if the rows of this file are clips."""
        if self.times is not None:
            raise UserError(f"{file}: holds features of clips, but {why}; extract without --per-clip.")

    def need_pooled(self, name: str | Path, what: str) -> None:
        """Raise UserError if the rows are tokens, on behalf of ``what``; ``name`` names the features."""
        if self.meta.get("tokens"):
            raise UserError(
                f"{name}: holds tokens, for the attentive probe, but {what} needs features; extract without "
                "--tokens."
            )

    def need_labels(self, name: str) -> None:
        """Raise UserError if a label is missing; ``name`` names the features."""
        if not self.labelled:
            raise UserError(f"the {name} must have a label for every video; use a list with `path label`.")


def numbered_alike(one: Features, two: Features, names: tuple[str, str]) -> Features:
    """Renumber the labels of ``two`` as in ``one``, if both have class names.

    Each may come from a list with class names, which has its own numbering. Classes that ``one`` lacks get
    higher numbers. A note says when labels were renumbered.

    Args:
        names: names of both for messages.
    """
    first, second = _classes(one), _classes(two)
    shared = min(len(first), len(second))
    if not shared or first[:shared] == second[:shared] or two.labels.max(initial=-1) >= len(second):
        return two
    known = {name: label for label, name in enumerate(first)}
    most = max(len(first), int(one.labels.max(initial=-1)) + 1)
    for name in second:
        known.setdefault(name, max(most, len(known)))
        most = max(most, known[name] + 1)
    note(f"{names[1]}: its classes are numbered differently from those of {names[0]}; matched by name")
    numbers = np.array([*(known[name] for name in second), -1], np.int64)  # label -1 picks the last, -1
    classes = sorted(known, key=lambda name: known[name])
    meta = {**two.meta, "classes": classes if len(classes) == most else []}
    return replace(two, labels=numbers[two.labels], meta=meta)


def _classes(features: Features) -> list[str]:
    """The class names; empty if the file has none or some are equal."""
    classes = features.meta.get("classes")
    names = [str(name) for name in classes] if isinstance(classes, list) else []
    return names if len(set(names)) == len(names) else []


def label_names(features: Features) -> list[str]:
    """Names of labels 0 and up: those in the file, or in ``classes.txt`` in the folder of the videos; else
    the numbers. A folder by URL is read only if the user gave it."""
    count = int(features.labels.max(initial=-1)) + 1
    names = _classes(features)
    root = features.meta.get("root")
    if root and features.within is None and is_url(f"{root}/"):  # not trusted: its host would see the request
        root = None
    return names if len(names) >= count else class_names(Path(str(root)) if root else None, count)


def same_dimensions(one: Features, two: Features, names: tuple[str, str]) -> None:
    """Raise UserError if features have different dimensions; ``names`` are used in the message."""
    if one.dim != two.dim:
        raise UserError(
            f"{names[0]} and {names[1]} have {one.dim} and {two.dim} dimensions; "
            "extract both with the same weights."
        )


def same_encoder(one: Features, two: Features, names: tuple[str, str]) -> None:
    """Raise UserError where features are of different encoders, or of different dimensions."""
    same_dimensions(one, two, names)
    if len({str(part.meta["encoder"]) for part in (one, two) if "encoder" in part.meta}) > 1:
        raise UserError(
            f"{names[0]} and {names[1]}: one was extracted with other weights than the other, so their "
            "features cannot be compared; extract both with the same weights."
        )


def same_clips(one: Features, two: Features, names: tuple[str, str], *, spread: bool = False) -> None:
    """Raise UserError where features are known to be of clips of other shape or crops.

    Args:
        spread: also compare how many clips there are of each video, and whether each has its own row.
    """
    if spread and (one.times is None) != (two.times is None):
        raise UserError(
            f"{names[0]} and {names[1]}: one has features of clips (--per-clip), the other of videos; "
            "extract both in the same way."
        )
    of_each = [
        {**_settings(part.meta.get("clip")), "crops": part.meta.get("crops")}
        | ({"every": part.meta.get("every"), "windows": part.meta.get("windows")} if spread else {})
        for part in (one, two)
    ]
    if of_each[0].get("every"):  # then the number of windows counts only for videos without times
        of_each[0].pop("windows", None)
    for name, value in of_each[0].items():
        other = of_each[1].get(name)
        if value is not None and other is not None and value != other:
            raise UserError(
                f"{names[0]} and {names[1]}: were extracted with {name} {value} and {other}, so their "
                "features cannot be compared; extract both in the same way."
            )


def _settings(value: Any) -> dict[str, Any]:
    """A dictionary of settings in metadata; empty if there is none."""
    return dict(value) if isinstance(value, dict) else {}


BELOW = "below"
"""Key of ``meta``: the folder of all videos, links followed, if it is not ``root``."""


def places_of(videos: VideoList) -> dict[str, str]:
    """The part of ``meta`` that locates the videos of a list: ``root``, and ``below`` if needed."""
    root = absolute(videos.root)
    if is_url(root) or not len(videos):
        return {"root": root}
    holds = common_folder(videos.file(place) for place in range(len(videos)))
    if holds.is_relative_to(os.path.realpath(root)):
        return {"root": root}
    return {"root": root, BELOW: str(holds)}
