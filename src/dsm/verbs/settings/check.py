"""Settings of `dsm data check`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from dsm.errors import UserError
from dsm.inputs import RootFolder, Videos
from dsm.video.settings import READING_TIME
from dsm.workers import usable_cores


@dataclass(frozen=True)
class CheckConfig:
    """Settings of `dsm data check`."""

    videos: tyro.conf.Positional[Videos]
    """A list, or a folder, in which every file that could be a video is checked."""
    root: RootFolder | None = None
    """Folder that relative paths of a list start from; by default the list's own."""
    json: Path | None = None
    """File to write all verdicts to."""
    clean: Path | None = None
    """List to write of the usable videos, with the number of frames that can be decoded."""
    frames: int = 16
    """Frames in a clip; a video with fewer is `short`."""
    timeout: float = READING_TIME
    """Seconds allowed for each video, plus one for every 2 MB; then its decoder is killed."""
    workers: int = usable_cores()
    """Videos decoded at the same time."""
    overwrite: bool = False
    """Replace existing files."""

    def __post_init__(self) -> None:
        if self.frames < 1 or self.workers < 1 or not self.timeout > 0:
            raise UserError("frames and workers must be at least 1, timeout above 0 seconds.")
