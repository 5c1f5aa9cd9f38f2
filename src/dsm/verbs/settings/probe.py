"""Settings of `dsm probe`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dsm.errors import UserError
from dsm.inputs import FeaturesFile, GroupsTable


@dataclass(frozen=True)
class ProbeConfig:
    """Settings of `dsm probe`."""

    train: FeaturesFile
    """Features with labels to learn from."""
    test: FeaturesFile
    """Features with labels to test on."""
    out: Path
    """Folder for results.json."""
    groups: GroupsTable | None = None
    """Table (.tsv, .csv: a header, path first, group last) of which videos are alike: no group is in two
    folds, and intervals are over groups; left out, the clips of a video are."""
    group_regex: str = ""
    """The same by an expression that finds the group in a path."""
    k: int = 20
    """Neighbours that vote."""
    temperature: float = 0.07
    """A neighbour's vote counts exp(cosine / temperature)."""
    folds: int = 5
    """Of the cross-validation that chooses the regularisation."""
    overwrite: bool = False
    """Replace the results in `out`."""

    def __post_init__(self) -> None:
        if self.k < 1 or self.folds < 2 or not self.temperature > 0:
            raise UserError("k must be at least 1, folds at least 2, temperature above 0.")
