"""``dsm data subset``, ``dsm data split`` and ``dsm data leaks``: parts of lists."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from numpy.typing import NDArray

from dsm.datasets.classes import carry_classes
from dsm.datasets.grouped import NEAR, split_by_group
from dsm.datasets.groups import UCF101_GROUP, find_groups
from dsm.datasets.lists import read_list, write_list
from dsm.datasets.splits import subset
from dsm.engine.progress import console
from dsm.engine.runfolder import claim_file
from dsm.errors import UserError
from dsm.notes import many
from dsm.video.segments import without_segment

SHOWN = 10


@dataclass(frozen=True)
class SubsetConfig:
    """Settings of `dsm data subset`."""

    videos: tyro.conf.Positional[Path]
    """The list to take from."""
    fraction: float
    """How much of each class: 0.01 for 1 %. Subsets of one seed are nested."""
    out: Path
    """List to write."""
    root: Path | None = None
    """Folder put before relative paths; left out, the list's own."""
    seed: int = 0
    """Another seed, other videos."""
    overwrite: bool = False
    """Replace an existing list."""

    def __post_init__(self) -> None:
        _check_seed(self.seed)


def subset_command(config: SubsetConfig) -> None:
    """Write a class-balanced part of a list."""
    claim_file(config.out, overwrite=config.overwrite)
    videos = read_list(config.videos, config.root)
    chosen = subset(videos.labels, config.fraction, config.seed)
    carry_classes(videos, config.out.parent)
    write_list(config.out, videos.part(chosen, config.out.parent))
    classes = len(np.unique(videos.labels[chosen]))
    counted = many(classes, "class", "classes")
    console.print(f"{config.out}: {len(chosen)} of {many(len(videos), 'video')}, {counted}")


@dataclass(frozen=True)
class SplitConfig:
    """Settings of `dsm data split`."""

    videos: tyro.conf.Positional[Path]
    """The list to split."""
    out: Path
    """Folder for train.txt and test.txt."""
    root: Path | None = None
    """Folder put before relative paths; left out, the list's own."""
    test_share: float = 0.3
    """About how much is for testing, of the whole and of each class."""
    groups: Path | None = None
    """Table (.tsv, .csv: a header, path first, group last) of which videos belong together; they are never
    parted. Left out, each file stands alone, with its segments."""
    group_regex: str = ""
    """The same by an expression that finds the group in a path."""
    seed: int = 0
    """Another seed, another split."""
    overwrite: bool = False
    """Replace existing lists."""

    def __post_init__(self) -> None:
        _check_seed(self.seed)


def split_command(config: SplitConfig) -> None:
    """Write train.txt and test.txt whose groups do not cross, each class in proportion if groups allow it."""
    files = config.out / "train.txt", config.out / "test.txt"
    for file in files:
        claim_file(file, overwrite=config.overwrite)
    videos = read_list(config.videos, config.root)
    found = find_groups(videos.paths, file=config.groups, regex=config.group_regex)
    # Segments of one file show one place; a video that is listed twice is one.
    groups = [without_segment(path) for path in videos.paths] if found is None else found
    test = split_by_group(groups, config.test_share, config.seed, videos.labels)
    carry_classes(videos, config.out)
    for file, chosen in zip(files, (~test, test), strict=True):
        part = videos.part(np.flatnonzero(chosen), file.parent)
        write_list(file, part)
        among = {groups[place] for place in np.flatnonzero(chosen)}
        classes = len(np.unique(part.labels))
        counted = many(classes, "class", "classes")
        console.print(f"{file}: {many(len(part), 'video')}, {many(len(among), 'group')}, {counted}")
    _tell_split(videos.labels, test, config.test_share)


def _tell_split(labels: NDArray[np.int64], test: NDArray[np.bool_], wish: float) -> None:
    """Say where groups do not allow what was wished."""
    share = float(test.mean())
    if abs(share - wish) > NEAR:
        console.print(
            f"{share:.0%} of the videos are for testing, not {wish:.0%}: the groups allow nothing nearer.",
            style="yellow",
        )
    for inside, outside, name in ((~test, test, "train.txt"), (test, ~test, "test.txt")):
        only = np.setdiff1d(labels[inside], labels[outside])
        if len(only):
            named = ", ".join(map(str, only[:SHOWN])) + (", …" if len(only) > SHOWN else "")
            console.print(
                f"{many(len(only), 'class is', 'classes are')} in {name} only, being of one group "
                "or the groups allow no "
                f"other split: {named}.",
                style="yellow",
            )


@dataclass(frozen=True)
class LeaksConfig:
    """Settings of `dsm data leaks`."""

    one: tyro.conf.Positional[Path]
    """A list to train on."""
    two: tyro.conf.Positional[Path]
    """A list to test on."""
    groups: Path | None = None
    """Table (.tsv, .csv: a header, path first, group last) of which videos of both belong together."""
    group_regex: str | None = None
    """The same by an expression that finds the group in a path; left out, UCF101's."""


def leaks_command(config: LeaksConfig) -> None:
    """Tell which groups have videos in both lists.

    Raises:
        UserError: there are such groups.
    """
    regex = config.group_regex or ("" if config.groups else UCF101_GROUP)
    one, two = (
        set(find_groups(read_list(listed).paths, file=config.groups, regex=regex) or ())
        for listed in (config.one, config.two)
    )
    shared = sorted(one & two)
    if shared:
        named = ", ".join(shared[:SHOWN]) + (", …" if len(shared) > SHOWN else "")
        raise UserError(
            f"{many(len(shared), 'group is', 'groups are')} in both {config.one} and {config.two}: {named}"
        )
    console.print("no group is in both lists")


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise UserError("seed must not be below 0.")
