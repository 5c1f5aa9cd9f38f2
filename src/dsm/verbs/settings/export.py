"""Settings of `dsm export`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from dsm.inputs import Weights
from dsm.models.settings import LoadSettings


@dataclass(frozen=True)
class ExportConfig:
    """Settings of `dsm export`."""

    weights: Weights
    """A run folder, a checkpoint, or `none` for random weights."""
    out: Path
    """File to write: .safetensors (dsm can load it again), .onnx, or .pt2 (torch.export)."""
    head: Literal["none", "projection"] = "none"
    """`projection` adds the projection head of pretraining."""
    frames: int | None = None
    """Frames per clip; by default as in training."""
    size: int | None = None
    """Side of the crop in pixels; by default as in training."""
    loading: Annotated[LoadSettings, tyro.conf.arg(name="")] = field(default_factory=LoadSettings)
    overwrite: bool = False
    """Replace an existing file."""
