"""``dsm data subset``, ``dsm data split`` and ``dsm data leaks``: parts of lists."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsm.data.classes import carry_classes
from dsm.data.groups import UCF101_GROUP
from dsm.data.lists import read_list, write_list
from dsm.data.settings import Grouping
from dsm.data.splits import NEAR, split_by_group
from dsm.data.splits import subset as class_balanced
from dsm.errors import UserError
from dsm.runs.claims import claim_files
from dsm.settings import takes_settings
from dsm.terminal import many, some, warn
from dsm.verbs.result import ListResult, Result
from dsm.verbs.settings.data import LeaksConfig, SplitConfig, SubsetConfig
from dsm.video.segments import without_segment

MAX_NAMED = 10
"""Most classes or groups that a message names."""


@takes_settings(SubsetConfig)
def subset(config: SubsetConfig) -> ListResult:
    """Write a part of a list with the same share of each class; the 1 % part lies inside the 10 % part."""
    claim_files(config.out, overwrite=config.overwrite, needed=[config.videos])
    videos = read_list(config.videos, config.root)
    chosen = class_balanced(videos.labels, config.fraction, config.seed)
    carry_classes(videos, config.out.parent)
    part = write_list(config.out, videos.part(chosen, config.out.parent))
    classes = len(np.unique(part.labels))
    line = f"{config.out}: {len(part)} of {many(len(videos), 'video')}, {many(classes, 'class', 'classes')}"
    return ListResult(files=[config.out], lines=[line], lists=[part])


class SplitResult(ListResult):
    """Two lists that share no group."""

    @property
    def train(self) -> Path:
        """The list to train on."""
        return self.files[0]

    @property
    def test(self) -> Path:
        """The list to test on."""
        return self.files[1]


@takes_settings(SplitConfig)
def split(config: SplitConfig) -> SplitResult:
    """Split a list into train.txt and test.txt without dividing a group.

    Each class is split in proportion as far as the groups allow.
    """
    files = config.out / "train.txt", config.out / "test.txt"
    claim_files(*files, overwrite=config.overwrite, needed=[config.videos, config.grouping.groups])
    videos = read_list(config.videos, config.root)
    groups = config.grouping.of(videos.paths, intervals=False)
    if groups is None:  # segments of a file show the same place
        groups = [without_segment(path) for path in videos.paths]
    test = split_by_group(groups, config.test_share, config.seed, videos.labels)
    carry_classes(videos, config.out)
    lists, lines = [], []
    for file, chosen in zip(files, (~test, test), strict=True):
        part = write_list(file, videos.part(np.flatnonzero(chosen), file.parent))
        lists.append(part)
        own_groups = {groups[place] for place in np.flatnonzero(chosen)}
        classes = len(np.unique(part.labels))
        counted = many(classes, "class", "classes")
        lines.append(f"{file}: {many(len(part), 'video')}, {many(len(own_groups), 'group')}, {counted}")
    _warn_of_split(videos.labels, test, config.test_share)
    return SplitResult(files=files, lines=lines, lists=lists)


def _warn_of_split(labels: NDArray[np.int64], test: NDArray[np.bool_], wish: float) -> None:
    """Warn where the groups do not allow the requested split."""
    share = float(test.mean())
    if abs(share - wish) > NEAR:
        warn(f"{share:.0%} of the videos are test videos, not {wish:.0%}: the groups allow no closer split.")
    for inside, outside, name in ((~test, test, "train.txt"), (test, ~test, "test.txt")):
        only = np.setdiff1d(labels[inside], labels[outside])
        if len(only):
            warn(
                f"{many(len(only), 'class is', 'classes are')} in {name} only, because each is in one "
                f"group or groups allow no other split: {some(list(map(str, only)), MAX_NAMED)}."
            )


@takes_settings(LeaksConfig)
def leaks(config: LeaksConfig) -> Result:
    """Check that no group has videos in both lists; groups are those of UCF101 unless others are given.

    Raises:
        UserError: some groups do; the message names them.
    """
    grouping = config.grouping if config.grouping.given else Grouping(group_regex=UCF101_GROUP)
    lists = read_list(config.one), read_list(config.two)
    one, two = (set(grouping.of(videos.paths, intervals=False) or ()) for videos in lists)
    shared = sorted(one & two)
    if shared:
        raise UserError(
            f"{many(len(shared), 'group is', 'groups are')} in both {config.one} and {config.two}: "
            f"{some(shared, MAX_NAMED)}"
        )
    return Result(lines=["no group is in both lists"])
