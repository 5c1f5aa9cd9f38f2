"""Settings of `dsm bias`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from dsm.data.clip_settings import ClipChanges
from dsm.errors import UserError
from dsm.inputs import GroupsTable, ListFile, RootFolder, Weights
from dsm.models.settings import LoadSettings


@dataclass(frozen=True)
class BiasData:
    """Labelled lists."""

    test: ListFile
    """Videos to test on, in every variant."""
    train: ListFile | None = None
    """Videos to train a linear probe on; classifiers do not need it."""
    conflict: ListFile | None = None
    """A second test list, whose accuracy is shown beside the first; for MotionScenes, test_conflict.txt."""
    root: RootFolder | None = None
    """Folder that relative paths start from; by default each list's own."""
    workers: int = 1
    """Processes that decode videos."""


@dataclass(frozen=True)
class BiasConfig:
    """Settings of `dsm bias`."""

    weights: tuple[Weights, ...]
    """Runs, checkpoints (other tools' too), or `none` for random weights. A run of `dsm finetune` is tested
    as it is; for an encoder, a linear probe is trained on its features."""
    data: BiasData
    out: Path
    """Folder for results.json, classes.csv, predictions.csv and the pictures."""
    names: tuple[str, ...] = ()
    """Names for the models; by default those of their folders or files."""
    groups: GroupsTable | None = None
    """Table with the group of each test video; confidence intervals then resample whole groups."""
    group_regex: str = ""
    """Regular expression that finds the group in a path, instead of a table."""
    loading: Annotated[LoadSettings, tyro.conf.arg(name="")] = field(default_factory=LoadSettings)
    windows: int = 3
    """Clips per video, evenly spaced; features or probabilities are averaged over them."""
    clip: Annotated[ClipChanges, tyro.conf.arg(name="")] = field(default_factory=ClipChanges)
    batch_size: int = 4
    """Videos per batch."""
    overwrite: bool = False
    """Replace a report of other settings in `out`."""

    def __post_init__(self) -> None:
        if min(self.windows, self.batch_size) < 1:
            raise UserError("windows and batch-size must be at least 1.")
        if self.data.workers < 0:
            raise UserError("data.workers must not be below 0.")
        if not self.weights:
            raise UserError("give at least one of --weights.")
        if self.names and len(self.names) != len(self.weights):
            raise UserError(f"{len(self.names)} --names for {len(self.weights)} --weights; each needs one.")
        if len(set(self.names)) < len(self.names):
            raise UserError("two of --names are the same.")
