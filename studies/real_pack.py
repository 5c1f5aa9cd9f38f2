"""Real videos for a study: packed at training size, squeezed to squares, with a table of groups."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dsm.data.groups import find_groups
from dsm.data.lists import VideoList, read_list, write_list
from dsm.files import csv_text, write_text
from dsm.verbs.pack import LIST, pack
from dsm.verbs.settings.data import PackConfig
from dsm.video.pack import SHARD
from dsm.video.write import place_of

GROUPS = "groups.tsv"
"""File in the pack's folder: ``path group``, with the paths of the pack's list."""


@dataclass(frozen=True)
class RealPack:
    """A pack, and names and groups of its videos."""

    videos: VideoList
    """The videos that could be read: the pack's list."""
    names: list[str]
    """The name of each in the list that was packed, without its extension."""
    groups: list[str]
    """The group (source or backdrop) of each."""
    word: str
    """Digest of these videos, their labels and groups, in 16 hexadecimal digits."""


def pack_real(lists: Path, root: Path | None, groups: Path, folder: Path, side: int) -> RealPack:
    """Pack the videos of a list into a folder, and write the table of their groups.

    Frames are squeezed to squares of ``side`` pixels, so that crops reach the sides of wide footage.
    """
    pack(PackConfig(lists, folder, root, short_side=side, square=True))
    paths = read_list(lists, root).paths
    groups_of_list = find_groups(paths, file=groups, regex="") or paths
    group_of = {place_of(path).as_posix(): group for path, group in zip(paths, groups_of_list, strict=True)}
    packed = read_list(folder / LIST)
    names = [path.partition(f"{SHARD}/")[2] for path in packed.paths]
    kept = [group_of[name] for name in names]
    lines = [list(line) for line in zip(packed.paths, kept, strict=True)]
    write_text(folder / GROUPS, csv_text([["path", "group"], *lines], delimiter="\t"))
    what = json.dumps([names, packed.labels.tolist(), kept], sort_keys=True)
    return RealPack(packed, names, kept, hashlib.sha256(what.encode()).hexdigest()[:16])


def write_part(packed: RealPack, lists: Path, root: Path | None, file: Path) -> None:
    """Write another list of the same videos with the paths of the pack."""
    rows: Mapping[str, int] = {name: row for row, name in enumerate(packed.names)}
    names: Sequence[str] = [place_of(path).as_posix() for path in read_list(lists, root).paths]
    chosen = np.array([rows[name] for name in names if name in rows])
    write_list(file, packed.videos.part(chosen, file.parent))
