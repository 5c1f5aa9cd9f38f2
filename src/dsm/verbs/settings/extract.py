"""Settings of `dsm extract`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from dsm.data.clip_settings import ClipChanges
from dsm.errors import UserError
from dsm.evaluate.settings import ExtractSettings
from dsm.inputs import RootFolder, Videos, Weights
from dsm.models.settings import LoadSettings


@dataclass(frozen=True)
class ExtractConfig:
    """Settings of `dsm extract`."""

    weights: Weights
    """A run folder, a checkpoint, or `none` for random weights."""
    data: Videos
    """List of videos, a folder of them, or one video."""
    out: Path
    """File to write: .npz or (for big sets) .parquet with labels and paths, or .npy with the bare array."""
    root: Annotated[RootFolder | None, tyro.conf.arg(aliases=["--data.root"])] = None
    """Folder put before relative paths; left out, the list's own."""
    loading: Annotated[LoadSettings, tyro.conf.arg(name="")] = field(default_factory=LoadSettings)
    clip: Annotated[ClipChanges, tyro.conf.arg(name="")] = field(default_factory=ClipChanges)
    settings: Annotated[ExtractSettings, tyro.conf.arg(name="")] = field(default_factory=ExtractSettings)
    devices: int = 1
    """Processes on this machine that share the list; on GPUs one each. torchrun begins them elsewhere too."""
    overwrite: bool = False
    """Replace an existing file, and what an extraction of other settings has begun."""

    def __post_init__(self) -> None:
        if self.devices < 1:
            raise UserError("devices must be at least 1.")
