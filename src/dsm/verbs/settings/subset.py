"""Settings of `dsm data subset`, `dsm data split` and `dsm data leaks`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from dsm.errors import UserError
from dsm.inputs import GroupsTable, ListFile, RootFolder


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise UserError("seed must not be below 0.")


@dataclass(frozen=True)
class SubsetConfig:
    """Settings of `dsm data subset`."""

    videos: tyro.conf.Positional[ListFile]
    """The list to take from."""
    fraction: float
    """Share of each class to take: 0.01 for 1 %. With the same seed, a smaller subset lies inside a larger
    one."""
    out: Path
    """List to write."""
    root: RootFolder | None = None
    """Folder that relative paths start from; by default the list's own."""
    seed: int = 0
    """Another seed takes other videos."""
    overwrite: bool = False
    """Replace an existing list."""

    def __post_init__(self) -> None:
        _check_seed(self.seed)


@dataclass(frozen=True)
class SplitConfig:
    """Settings of `dsm data split`."""

    videos: tyro.conf.Positional[ListFile]
    """The list to split."""
    out: Path
    """Folder for train.txt and test.txt."""
    root: RootFolder | None = None
    """Folder that relative paths start from; by default the list's own."""
    test_share: float = 0.3
    """Approximate share of the videos to test on, overall and in each class."""
    groups: GroupsTable | None = None
    """Table (.tsv or .csv with a header; path first, group last) of videos that belong together. A group
    goes into one list as a whole. By default the segments of a file are a group."""
    group_regex: str = ""
    """Regular expression that finds the group in a path, instead of a table."""
    seed: int = 0
    """Another seed gives another split."""
    overwrite: bool = False
    """Replace existing lists."""

    def __post_init__(self) -> None:
        _check_seed(self.seed)


@dataclass(frozen=True)
class LeaksConfig:
    """Settings of `dsm data leaks`."""

    one: tyro.conf.Positional[ListFile]
    """A list to train on."""
    two: tyro.conf.Positional[ListFile]
    """A list to test on."""
    groups: GroupsTable | None = None
    """Table (.tsv or .csv with a header; path first, group last) of videos that belong together, for both
    lists."""
    group_regex: str | None = None
    """Regular expression that finds the group in a path, instead of a table; by default UCF101's."""
