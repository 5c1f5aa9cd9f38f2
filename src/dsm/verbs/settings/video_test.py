"""Settings of `dsm test`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dsm.errors import UserError
from dsm.inputs import GroupsTable, ListFile, RootFolder, Weights


@dataclass(frozen=True)
class VideoTestData:
    """The videos to test on."""

    test: ListFile
    """List of labelled videos."""
    root: RootFolder | None = None
    """Folder that relative paths start from; by default the list's own."""
    workers: int = 1
    """Processes that decode videos."""


@dataclass(frozen=True)
class VideoTestConfig:
    """Settings of `dsm test`."""

    weights: Weights
    """A run of `dsm finetune`, or one of its checkpoints."""
    data: VideoTestData
    out: Path
    """Folder for results.json, predictions.csv, classes.csv, probabilities.npz and the confusion matrix."""
    windows: int = 10
    """Clips per video, evenly spaced; their probabilities are averaged."""
    crops: int = 1
    """Crops per clip: 1 in the middle, or 3 along its longer side."""
    batch_size: int = 4
    """Videos per batch."""
    groups: GroupsTable | None = None
    """Table with the group of each video; confidence intervals then resample whole groups."""
    group_regex: str = ""
    """Regular expression that finds the group in a path, instead of a table."""
    against: Path | None = None
    """Output folder of another `dsm test` on the same list: compares the two and writes disagreements.csv."""
    overwrite: bool = False
    """Replace results of other settings in `out`."""

    def __post_init__(self) -> None:
        if min(self.windows, self.batch_size) < 1 or self.data.workers < 0:
            raise UserError("windows and batch-size must be at least 1, data.workers at least 0.")
        if self.crops not in (1, 3):
            raise UserError(f"crops must be 1 or 3, not {self.crops}.")
        if self.against is not None and self.against.absolute() == self.out.absolute():
            raise UserError(f"{self.out}: --against needs the folder of another test, not --out itself.")
