"""Features: one vector a video, or one a clip, in memory; the files of ``feature_files.py`` hold them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsm.datasets.groups import find_groups
from dsm.errors import UserError
from dsm.notes import note


@dataclass(frozen=True)
class Features:
    """The features of the videos of a list, or of their clips."""

    features: NDArray[np.float32]
    """(n, d)."""
    labels: NDArray[np.int64]
    """(n,), -1 where unlabelled."""
    paths: list[str]
    """n; of clips, the video's."""
    meta: dict[str, Any] = field(default_factory=dict)
    """Where they come from: weights, list, clip, windows; ``classes``: what the labels are called."""
    times: NDArray[np.float32] | None = None
    """(n, 2), seconds: when each clip begins and ends, NaN where its video does not say; None for videos."""

    def __len__(self) -> int:
        return len(self.features)

    @property
    def dim(self) -> int:
        return self.features.shape[1]

    def part(self, rows: NDArray[np.int64]) -> Features:
        """Some of the rows, in the order given; copies, where the features are mapped from a file."""
        return replace(
            self,
            features=np.array(self.features[rows]),
            labels=self.labels[rows],
            paths=[self.paths[row] for row in rows],
            times=None if self.times is None else self.times[rows],
        )

    def identities(self) -> list[str]:
        """What tells videos apart: the path, under the folder it counts from where that is known."""
        root = str(self.meta.get("root", ""))
        return [f"{root}/{path}" for path in self.paths] if root else self.paths

    def groups(self, *, file: Path | None, regex: str) -> list[str] | None:
        """Which rows belong together: as a table or an expression says, else the clips of a video.

        None where every row stands alone.
        """
        found = find_groups(self.paths, file=file, regex=regex)
        return self.identities() if found is None and self.times is not None else found

    def need_labels(self, name: str) -> None:
        """Raise UserError where a label is missing; ``name`` says of what."""
        if len(self) == 0 or (self.labels < 0).any():
            raise UserError(f"the {name} must hold labelled videos; lists with `path label` give labels.")


def numbered_alike(one: Features, two: Features, names: tuple[str, str]) -> Features:
    """The second with its labels numbered as in the first, where both say what their labels are called.

    Each may be of a list with names of classes, which numbers them for itself. Classes that the first has
    not get numbers above its own. What was numbered otherwise is told.

    Args:
        names: what to call both.
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
    note(f"{names[1]}: its classes are numbered otherwise than those of {names[0]}; they are matched by name")
    told = np.array([*(known[name] for name in second), -1], np.int64)  # -1 picks the last: unlabelled
    classes = sorted(known, key=lambda name: known[name])
    meta = {**two.meta, "classes": classes if len(classes) == most else []}
    return replace(two, labels=told[two.labels], meta=meta)


def _classes(features: Features) -> list[str]:
    """What the labels are called; empty where the file does not say, or not for each of its own a name."""
    found = features.meta.get("classes")
    names = [str(name) for name in found] if isinstance(found, list) else []
    return names if len(set(names)) == len(names) else []


def same_dimensions(one: Features, two: Features, names: tuple[str, str]) -> None:
    """Raise UserError where two cannot be compared."""
    if one.dim != two.dim:
        raise UserError(
            f"{names[0]} and {names[1]} have {one.dim} and {two.dim} dimensions; "
            "extract both with the same weights."
        )
