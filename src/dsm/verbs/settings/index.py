"""Settings of `dsm data index`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from dsm.errors import UserError
from dsm.workers import usable_cores


@dataclass(frozen=True)
class IndexConfig:
    """Settings of `dsm data index`."""

    folder: tyro.conf.Positional[Path]
    """Folder of the videos; its sub-folders are searched too."""
    out: Path
    """List to write. If the folder consists of train and val (or test) with class folders inside, each gets
    its own list: OUT_train, OUT_val."""
    unlabelled: bool = False
    """Write no labels. Otherwise a video's label is its first sub-folder."""
    workers: int = usable_cores()
    """Processes that count frames, if there are many videos."""
    overwrite: bool = False
    """Replace an existing list."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UserError("workers must be at least 1.")
