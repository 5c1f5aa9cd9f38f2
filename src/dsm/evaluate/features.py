"""Features: one vector a video, or one a clip, in memory; the files of ``feature_files.py`` hold them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsm.datasets.groups import find_groups
from dsm.errors import UserError


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
    """Where they come from: weights, list, clip, windows."""
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


def same_dimensions(one: Features, two: Features, names: tuple[str, str]) -> None:
    """Raise UserError where two cannot be compared."""
    if one.dim != two.dim:
        raise UserError(
            f"{names[0]} and {names[1]} have {one.dim} and {two.dim} dimensions; "
            "extract both with the same weights."
        )
