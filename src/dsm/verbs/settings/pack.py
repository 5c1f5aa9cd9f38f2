"""Settings of `dsm data pack`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from dsm.errors import UserError
from dsm.inputs import RootFolder, Videos
from dsm.workers import usable_cores


@dataclass(frozen=True)
class PackConfig:
    """Settings of `dsm data pack`."""

    videos: tyro.conf.Positional[Videos]
    """List of the videos."""
    out: Path
    """Folder for the shards and list.txt. If packing was interrupted, the same command finishes it."""
    root: RootFolder | None = None
    """Folder that relative paths start from; by default the list's own."""
    short_side: int = 128
    """Shorter side of the frames, in pixels: the size used in training (--clip.resize)."""
    square: bool = False
    """Squeeze frames to a square, so that crops reach the sides of wide footage; shapes are squeezed too."""
    shard_videos: int = 100
    """Videos in each shard."""
    workers: int = usable_cores()
    """Shards written at the same time."""
    overwrite: bool = False
    """Replace a pack with other settings."""

    def __post_init__(self) -> None:
        if min(self.workers, self.shard_videos) < 1 or self.short_side < 16:
            raise UserError("workers and shard-videos must be at least 1, short-side at least 16.")
