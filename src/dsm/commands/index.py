"""``dsm data index``: a folder of videos -> a list."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from dsm.datasets.catalog import find_videos, index_folder
from dsm.datasets.classes import CLASSES, read_classes, write_classes
from dsm.datasets.lists import write_list
from dsm.engine.progress import console, progress
from dsm.engine.runfolder import claim_file


@dataclass(frozen=True)
class IndexConfig:
    """Settings of `dsm data index`."""

    folder: tyro.conf.Positional[Path]
    """Where the videos are; sub-folders are searched."""
    out: Path
    """List to write."""
    unlabelled: bool = False
    """Leave labels out; otherwise the first sub-folder is a video's class."""
    overwrite: bool = False
    """Replace an existing list."""


def index(config: IndexConfig) -> None:
    """Write the list and, with labels, ``classes.txt`` beside it; say what was left out."""
    claim_file(config.out, overwrite=config.overwrite)
    beside = config.out.parent
    beside.mkdir(parents=True, exist_ok=True)
    # A second list beside the first (test beside train) must mean the same by a label.
    classes = [] if config.unlabelled else read_classes(beside)
    if classes:
        console.print(f"labels as in {beside / CLASSES}")
    found = find_videos(config.folder)
    with progress("looking into videos", len(found)) as bar:
        result = index_folder(
            config.folder, found, beside,
            labelled=not config.unlabelled, classes=classes, on_progress=bar.update,
        )  # fmt: skip
    write_list(config.out, result.videos)
    if result.classes:
        write_classes(beside, result.classes)
    for reason in result.left_out:
        console.print(f"left out: {reason}", style="yellow")
    kinds = f", {len(result.classes)} classes" if result.classes else ", unlabelled"
    left = f", {len(result.left_out)} left out" if result.left_out else ""
    console.print(f"{config.out}: {len(result.videos)} videos{kinds}{left}")
