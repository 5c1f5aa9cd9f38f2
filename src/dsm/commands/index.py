"""``dsm data index``: a folder of videos -> a list."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from dsm.cores import usable_cores
from dsm.datasets.catalog import find_videos, index_folder
from dsm.datasets.classes import CLASSES, read_classes, write_classes
from dsm.datasets.folders import find_parts
from dsm.datasets.lists import ENDINGS, write_list
from dsm.engine.progress import console, progress
from dsm.engine.runfolder import claim_file
from dsm.errors import UserError
from dsm.notes import many, some


@dataclass(frozen=True)
class IndexConfig:
    """Settings of `dsm data index`."""

    folder: tyro.conf.Positional[Path]
    """Where the videos are; sub-folders are searched."""
    out: Path
    """List to write; of folders train and val (or test) with those of the classes, OUT_train, OUT_val."""
    unlabelled: bool = False
    """Leave labels out; otherwise the first sub-folder is a video's class."""
    workers: int = usable_cores()
    """Processes that count frames, where there are many videos."""
    overwrite: bool = False
    """Replace an existing list."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UserError("workers must be at least 1.")


def index(config: IndexConfig) -> None:
    """Write the list and, with labels, ``classes.txt`` beside it; say what was left out.

    Folders train and val (or test) with those of the classes in them make a list each.
    """
    claim_file(config.out, overwrite=config.overwrite)
    beside = config.out.parent
    beside.mkdir(parents=True, exist_ok=True)
    # A second list beside the first (test beside train) must mean the same by a label.
    classes = [] if config.unlabelled else read_classes(beside)
    if classes:
        console.print(f"labels as in {beside / CLASSES}")
    found = find_videos(config.folder)
    parts = {} if config.unlabelled else find_parts(config.folder, found)
    ending = config.out.suffix if config.out.suffix in ENDINGS else ""
    stem = config.out.name.removesuffix(ending)
    files = {name: config.out.with_name(f"{stem}_{part}{ending}") for name, part in parts.items()}
    for file in files.values():
        claim_file(file, overwrite=config.overwrite)
    with progress("looking into videos", len(found)) as bar:
        result = index_folder(
            config.folder, found, beside,
            labelled=not config.unlabelled, classes=classes, level=1 if parts else 0, workers=config.workers,
            on_progress=bar.update,
        )  # fmt: skip
    for reason in result.left_out:
        console.print(f"left out: {reason}", style="yellow")
    if result.empty:
        console.print(f"folders without a video that can be read: {some(result.empty)}", style="yellow")
    if result.classes:
        write_classes(beside, result.classes)
    kinds = f", {many(len(result.classes), 'class', 'classes')}" if result.classes else ", unlabelled"
    left = f", {len(result.left_out)} left out" if result.left_out else ""
    if parts:
        console.print(f"{config.folder}: {some(list(parts))} are parts of one data set; a list of each:")
    for name, file in (files or {"": config.out}).items():
        inside = [not name or path.relative_to(config.folder).parts[0] == name for path in result.found]
        if not any(inside):
            console.print(f"{config.folder / name}: holds no video that can be read", style="yellow")
            continue
        videos = result.videos.part(np.flatnonzero(inside), beside)
        write_list(file, videos)
        console.print(f"{file}: {many(len(videos), 'video')}{kinds}{left}")
