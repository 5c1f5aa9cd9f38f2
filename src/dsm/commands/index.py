"""``dsm data index``: a folder of videos -> a list."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.markup import escape

from dsm.datasets.catalog import find_videos, index_folder
from dsm.datasets.lists import write_list
from dsm.engine.progress import console, progress
from dsm.errors import UserError


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
    classes_file = config.out.parent / "classes.txt"
    for file in [config.out] if config.unlabelled else [config.out, classes_file]:
        if file.exists() and not config.overwrite:
            raise UserError(f"{file} already exists; choose another --out, or --overwrite to replace it.")
    found = find_videos(config.folder)
    with progress("looking into videos", len(found)) as bar:
        result = index_folder(
            config.folder, found, config.out.parent, labelled=not config.unlabelled, on_progress=bar.update
        )
    write_list(config.out, result.videos)
    if result.classes:
        classes_file.write_text("".join(f"{name}\n" for name in result.classes), encoding="utf-8")
    for reason in result.left_out:
        console.print(f"[yellow]left out:[/] {escape(reason)}")
    kinds = f", {len(result.classes)} classes" if result.classes else ", unlabelled"
    left = f", {len(result.left_out)} left out" if result.left_out else ""
    console.print(f"{config.out}: {len(result.videos)} videos{kinds}{left}")
