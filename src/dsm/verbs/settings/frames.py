"""Settings of `dsm data frames`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from dsm.errors import UserError
from dsm.inputs import RootFolder, Videos
from dsm.workers import usable_cores


@dataclass(frozen=True)
class FramesConfig:
    """Settings of `dsm data frames`."""

    videos: tyro.conf.Positional[Videos]
    """List of the videos."""
    out: Path
    """Folder for list.txt and one folder of frames per video. Videos that are already done are skipped, so
    an interrupted command can simply be run again."""
    root: RootFolder | None = None
    """Folder that relative paths start from; by default the list's own."""
    short_side: int | None = None
    """Shorter side of the frames, in pixels; by default that of the videos."""
    square: bool = False
    """Squeeze frames to a square, so that crops reach the sides of wide footage; shapes are squeezed too."""
    flow: bool = False
    """Write the optical flow between frames instead, as pairs of pictures (needs OpenCV)."""
    quality: int = 90
    """JPEG quality, 1 to 95."""
    workers: int = usable_cores()
    """Videos decoded at the same time."""
    overwrite: bool = False
    """Replace frames with other settings."""

    def __post_init__(self) -> None:
        if self.workers < 1 or not 1 <= self.quality <= 95 or (self.short_side or 16) < 16:
            raise UserError("workers must be at least 1, quality 1 to 95, short-side at least 16.")
