"""Settings of `dsm weights inspect`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from dsm.errors import UserError


@dataclass(frozen=True)
class InspectConfig:
    """Settings of `dsm weights inspect`."""

    file: tyro.conf.Positional[Path]
    """A checkpoint, written by dsm or another project, or a run folder."""
    names: int = 8
    """Tensors to list of each kind; 0 lists all."""

    def __post_init__(self) -> None:
        if self.names < 0:
            raise UserError("names must be 0 or more.")
