"""``dsm extract``: videos -> features."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import tyro

from dsm.datasets.lists import read_list
from dsm.datasets.reading import ClipConfig
from dsm.engine.device import best_device
from dsm.engine.progress import console, progress
from dsm.engine.runfolder import claim_file
from dsm.errors import UserError
from dsm.evaluate.features import extract_features, save_features
from dsm.models.weights import Init, load_weights


@dataclass(frozen=True)
class ExtractConfig:
    """Settings of `dsm extract`."""

    weights: str
    """A run folder, a checkpoint, or `none` for random weights."""
    data: Path
    """List of videos."""
    out: Path
    """File to write: .npz with labels and paths, or .npy with the bare array."""
    root: Annotated[Path | None, tyro.conf.arg(aliases=["--data.root"])] = None
    """Folder put before relative paths; left out, the list's own."""
    backbone: str = "i3d"
    """What to build for `--weights none`."""
    seed: int = 0
    """Seeds random weights."""
    init: Init = "own"
    """How random weights are drawn: as the backbone's paper has it, or `xavier`, as DSM's published code."""
    partial: bool = False
    """Be content with another's checkpoint that fills only part of the encoder."""
    windows: int = 3
    """Clips a video, evenly spread; their features are averaged."""
    frames: int | None = None
    """Frames a clip; left out, as the weights were trained."""
    stride: int | None = None
    """Every so manieth frame; left out, as the weights were trained."""
    resize: int | None = None
    """Pixels of the shorter side; left out, as the weights were trained."""
    size: int | None = None
    """Side of the crop; left out, as the weights were trained."""
    batch_size: int = 8
    """Videos at a time."""
    workers: int = 1
    """Processes that decode."""
    overwrite: bool = False
    """Replace an existing file."""

    def __post_init__(self) -> None:
        if min(self.windows, self.batch_size) < 1:
            raise UserError("windows and batch-size must be at least 1.")
        if min(self.workers, self.seed) < 0:
            raise UserError("workers and seed must not be below 0.")


def extract(config: ExtractConfig) -> None:
    """Extract and write; say what came out."""
    claim_file(config.out, overwrite=config.overwrite)
    if config.out.suffix not in (".npz", ".npy"):
        raise UserError(f"{config.out}: --out must end in .npz (with labels and paths) or .npy (bare array).")
    config.out.parent.mkdir(parents=True, exist_ok=True)
    videos = read_list(config.data, config.root)
    torch.manual_seed(config.seed)
    loaded = load_weights(config.weights, backbone=config.backbone, partial=config.partial, init=config.init)
    if loaded.report:
        console.print(f"{config.weights}: {loaded.report}")
    wanted = {name: getattr(config, name) for name in ("frames", "stride", "resize", "size")}
    clip = replace(
        ClipConfig(**loaded.config.get("clip", {})), **{k: v for k, v in wanted.items() if v is not None}
    )
    with progress(f"features by {loaded.name}", len(videos)) as bar:
        features = extract_features(
            loaded.module.to(best_device()),
            videos,
            clip,
            windows=config.windows,
            batch_size=config.batch_size,
            workers=config.workers,
            meta={
                "run": loaded.name,
                "weights": config.weights,
                "list": config.data.stem,
                "seed": config.seed,
            },
            on_progress=bar.update,
        )
    save_features(config.out, features)
    console.print(
        f"{config.out}: {features.features.shape[0]} videos x {features.features.shape[1]} dimensions"
    )
