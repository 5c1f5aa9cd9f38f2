"""``dsm data convert``: official annotation files -> lists and classes.txt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from dsm.datasets.classes import CLASSES, write_classes
from dsm.datasets.folders import walk_with_links
from dsm.datasets.lists import VideoList, write_list
from dsm.datasets.official import OFFICIAL, Entry
from dsm.engine.progress import console
from dsm.engine.runfolder import claim_file
from dsm.errors import UserError, nearest
from dsm.files import one_spelling, write_text
from dsm.video.frames import without_ending
from dsm.video.source import EXTENSIONS

SHOWN = 5
ABSENT = "absent.txt"


@dataclass(frozen=True)
class ConvertConfig:
    """Settings of `dsm data convert`."""

    dataset: tyro.conf.Positional[str]
    """ucf101, hmdb51, kinetics, something-something-v1, something-something-v2 or diving48."""
    annotations: Path
    """Folder of the official annotation files."""
    out: Path
    """Folder to write lists and classes.txt to."""
    videos: Path | None = None
    """Folder of the videos: those that are not there are named, and left out of the lists."""
    overwrite: bool = False
    """Replace existing lists."""

    def __post_init__(self) -> None:
        if self.dataset not in OFFICIAL:
            raise UserError(f"unknown data set '{self.dataset}'{nearest(self.dataset, OFFICIAL)}")
        for folder in (self.annotations, self.videos):
            if folder and not folder.is_dir():
                raise UserError(f"{folder}: no such folder.")


def convert(config: ConvertConfig) -> None:
    """Write the lists, tell their counts beside the published ones, name what is absent."""
    official = OFFICIAL[config.dataset](config.annotations)
    files = {name: config.out / f"{name}.txt" for name in official.lists}
    for file in (*files.values(), config.out / CLASSES, config.out / ABSENT):
        claim_file(file, overwrite=config.overwrite)
    there = _by_name(config.videos) if config.videos else None
    absent: list[str] = []
    found = {
        name: entries if there is None else _found(entries, there, absent)
        for name, entries in official.lists.items()
    }
    if absent and not any(found.values()):
        raise UserError(
            f"{config.videos}: none of the {len(set(absent))} videos that the annotations name lies there; "
            "is it the folder of the videos (--videos)?"
        )
    _count("classes", len(official.classes), official.published)
    for name, kept in found.items():
        named = len(official.lists[name])
        _count(name, named, official.published, lost=named - len(kept))
        if kept:
            write_list(files[name], _as_list(kept, config.out))
        else:
            files[name].unlink(missing_ok=True)  # of an earlier call, when there were some
    write_classes(config.out, official.classes)
    if config.videos:
        _tell_absent(config, absent)
        console.print(f"use the lists with --data.root {config.videos}")


def _as_list(entries: list[Entry], root: Path) -> VideoList:
    paths, labels, frames = zip(*entries, strict=True)
    return VideoList(list(paths), np.array(labels), np.array(frames), root)


def _by_name(folder: Path) -> dict[str, list[str]]:
    """Where the videos and lowest folders below ``folder`` are, by their name without ending."""
    there: dict[str, list[str]] = {}
    for place, folders, files in walk_with_links(folder):
        inside = Path(place).relative_to(folder)
        if not folders and place != str(folder):
            there.setdefault(one_spelling(inside.name), []).append(inside.as_posix())
        # What lies beside a video under its name (subtitles, poses, a thumbnail) is none.
        for name in files:
            if Path(name).suffix.lower() in EXTENSIONS:
                key = one_spelling(without_ending(name))
                there.setdefault(key, []).append((inside / name).as_posix())
    return there


def _found(entries: list[Entry], there: dict[str, list[str]], absent: list[str]) -> list[Entry]:
    """Those whose video is there, called as it lies there; the paths of the others go to ``absent``."""
    found = []
    for entry in entries:
        path = Path(one_spelling(entry.path))
        # A folder of frames has the name of its video without the ending.
        places = there.get(without_ending(path.name)) or there.get(path.name)
        if places is None:
            absent.append(entry.path)
        else:  # of several of the name, the one in the folder that the data set says
            best = max(reversed(places), key=lambda place: Path(place).parent.name == path.parent.name)
            found.append(entry._replace(path=best))
    return found


def _count(name: str, count: int, published: dict[str, int], lost: int = 0) -> None:
    told = f"{name}: {count}"
    if name in published:
        same = published[name] == count
        told += ", as published" if same else f", but {published[name]} are published"
    console.print(f"{told}{f', of which {lost} are absent' if lost else ''}")


def _tell_absent(config: ConvertConfig, absent: list[str]) -> None:
    if not absent:
        (config.out / ABSENT).unlink(missing_ok=True)  # of an earlier call
        return
    unique = list(dict.fromkeys(absent))
    write_text(config.out / ABSENT, "".join(f"{path}\n" for path in unique))
    shown = ", ".join(unique[:SHOWN]) + (", …" if len(unique) > SHOWN else "")
    console.print(f"{len(unique)} videos are listed but absent: {shown} ({config.out / ABSENT} names all)")
