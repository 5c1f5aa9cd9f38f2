"""Real videos for a study: packed at training size, squeezed to squares, the group of each beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from measured import digest

from dsm.data.groups import find_groups
from dsm.data.lists import VideoList, read_list, write_list
from dsm.files import csv_text, write_text
from dsm.verbs.pack import LIST, pack
from dsm.verbs.settings.pack import PackConfig
from dsm.video.pack import SHARD
from dsm.video.write import place_of

GROUPS = "groups.tsv"
"""In the pack's folder: ``path group``, paths as the pack's list has them."""


@dataclass(frozen=True)
class RealPack:
    """A pack and what is known of its videos."""

    videos: VideoList
    """Those that could be read, as the pack's list has them."""
    names: list[str]
    """Of each, its name in the list that was packed, without its ending."""
    groups: list[str]
    """Of each, its source or backdrop."""
    word: str
    """A word for these videos; other videos, labels or groups have another."""


def pack_real(lists: Path, root: Path | None, groups: Path, folder: Path, side: int) -> RealPack:
    """Pack the videos of a list into a folder, and write down the group of each.

    Frames are squeezed to squares of ``side`` pixels, so that crops reach the sides of wide footage.
    """
    pack(PackConfig(lists, folder, root, short_side=side, square=True))
    paths = read_list(lists, root).paths
    found = find_groups(paths, file=groups, regex="") or paths
    group_of = {place_of(path).as_posix(): group for path, group in zip(paths, found, strict=True)}
    packed = read_list(folder / LIST)
    names = [path.partition(f"{SHARD}/")[2] for path in packed.paths]
    kept = [group_of[name] for name in names]
    lines = [list(line) for line in zip(packed.paths, kept, strict=True)]
    write_text(folder / GROUPS, csv_text([["path", "group"], *lines], delimiter="\t"))
    return RealPack(packed, names, kept, digest([names, packed.labels.tolist(), kept]))


def write_part(packed: RealPack, lists: Path, root: Path | None, file: Path) -> None:
    """Write the videos of another list of the same folder as the pack has them."""
    rows: Mapping[str, int] = {name: row for row, name in enumerate(packed.names)}
    wanted: Sequence[str] = [place_of(path).as_posix() for path in read_list(lists, root).paths]
    chosen = np.array([rows[name] for name in wanted if name in rows])
    write_list(file, packed.videos.part(chosen, file.parent))
