"""Settings of the verbs on weights, networks and the machine: export, card, weights inspect, models and
doctor.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from dsm.errors import check_range
from dsm.inputs import RunFolder, Weights
from dsm.models.settings import LoadSettings


@dataclass(frozen=True)
class ExportConfig:
    """Settings of `dsm export`."""

    weights: Weights
    """A run folder, a checkpoint, a published model (`hf:ID`, `tv:NAME`, `timm:NAME`), `motion` (comes with
    dsm; trained on synthetic videos), or `none` for random weights."""
    out: Path
    """File to write: .safetensors (dsm can load it again), .onnx, or .pt2 (torch.export); or with --to hub, a
    folder."""
    to: Literal["file", "hub"] = "file"
    """`hub` writes a folder in the layout of model hubs: safetensors, config.json and README.md. `hf:FOLDER`
    reads it; after `hf upload NAME FOLDER`, which asks for your login, so does `hf:NAME`."""
    head: Literal["none", "projection"] = "none"
    """`projection` adds the projection head of pretraining."""
    frames: int | None = None
    """Frames per clip; by default as in training."""
    size: int | None = None
    """Side of the crop in pixels; by default as in training."""
    half: bool = False
    """Store the weights of .safetensors and `hub` in float16, in half the space."""
    loading: Annotated[LoadSettings, tyro.conf.arg(name="")] = field(default_factory=LoadSettings)
    overwrite: bool = False
    """Replace an existing file."""


@dataclass(frozen=True)
class CardConfig:
    """Settings of `dsm card`."""

    run: tyro.conf.Positional[RunFolder]
    """A run folder; the card is its README.md."""
    results: tuple[Path, ...] = ()
    """Result folders of `dsm test`, `dsm probe`, `dsm retrieve` or `dsm bias` to quote in the card."""
    overwrite: bool = False
    """Replace a card that was edited by hand."""


@dataclass(frozen=True)
class InspectConfig:
    """Settings of `dsm weights inspect`."""

    file: tyro.conf.Positional[Weights]
    """A checkpoint, written by dsm or another project, a run folder, or a published model."""
    names: int = 8
    """Number of tensors to list of each kind; 0 lists all."""

    def __post_init__(self) -> None:
        check_range(self, "names", least=0)


@dataclass(frozen=True)
class DoctorConfig:
    """`dsm doctor` has no settings."""


@dataclass(frozen=True)
class ModelsConfig:
    """Settings of `dsm models`."""

    measure: bool = False
    """Time the forward pass of each backbone on this machine's CPU."""
    frames: int = 16
    """Frames of the clip that GFLOPs and time are measured on."""
    size: int = 112
    """Side of that clip in pixels."""

    def __post_init__(self) -> None:
        check_range(self, "frames", least=1)
        check_range(self, "size", least=16)
