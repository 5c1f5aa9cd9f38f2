"""Settings of `dsm recipes` and `dsm run`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from dsm.inputs import ListFile, RootFolder
from dsm.models.settings import Precision


@dataclass(frozen=True)
class RecipesConfig:
    """Settings of `dsm recipes`."""

    name: Annotated[str | None, tyro.conf.Positional] = None
    """Show all settings of this recipe."""


@dataclass(frozen=True)
class RecipeData:
    """Lists, as written by `dsm data convert` and `dsm data index`."""

    train: ListFile
    """Labelled training videos. Pretraining uses them too, unless `pretrain` is given."""
    test: ListFile | None = None
    """Labelled test videos; recipes that test need them."""
    root: RootFolder | None = None
    """Folder that relative paths start from; by default the folder of each list."""
    pretrain: ListFile | None = None
    """Videos to pretrain on; their labels are ignored."""
    pretrain_root: RootFolder | None = None
    """Folder that their relative paths start from; by default `root`."""
    workers: int | None = None
    """Processes that decode videos; by default as in the recipe."""


@dataclass(frozen=True)
class Changes:
    """Changes to a stage of a recipe; by default there are none."""

    epochs: int | None = None
    """Passes over the videos."""
    steps: int | None = None
    """Training steps, instead of epochs."""
    batch_size: int | None = None
    """Videos per step."""
    frames: int | None = None
    """Frames per clip."""
    stride: int | None = None
    """Take every so many frames of the video."""
    size: int | None = None
    """Side of the crop in pixels; the size at which videos are read scales with it."""


@dataclass(frozen=True)
class RunRecipeConfig:
    """Settings of `dsm run`."""

    recipe: Annotated[str, tyro.conf.Positional]
    """Name of the recipe; `dsm recipes` lists them."""
    data: RecipeData
    out: Path
    """Folder for the runs and their results. The same command continues an interrupted recipe."""
    weights: str | None = None
    """Weights that the first stage starts from; by default as in the recipe, mostly random."""
    backbone: str | None = None
    """Backbone; by default the recipe's."""
    devices: int | None = None
    """Number of processes; by default the recipe's."""
    precision: Precision | None = None
    """Precision; by default the recipe's."""
    seed: int = 0
    """Seeds the weights, the order of the videos and every random draw."""
    pretrain: Changes = field(default_factory=Changes)
    finetune: Changes = field(default_factory=Changes)
    windows: int = 10
    """Clips per video in the test."""
    overwrite: bool = False
    """Replace results of another recipe or of other settings in `out`."""
