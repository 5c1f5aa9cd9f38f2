"""Settings of the verbs that train: demo, pretrain, finetune, recipes and run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from dsm.errors import UserError, check_range
from dsm.inputs import ListFile, RootFolder
from dsm.models.settings import Precision
from dsm.runs.trackers import TrackerName
from dsm.synthetic.settings import PRESETS
from dsm.train.config import FinetuneConfig
from dsm.train.config import PretrainConfig as PretrainConfig  # the settings of `dsm pretrain`

DEMO_BATCH = 32
"""Videos per training step of the demo."""


@dataclass(frozen=True)
class DemoConfig:
    """Settings of `dsm demo`."""

    out: Path
    """Folder for videos, runs, results.json and report.html."""
    seeds: Annotated[tuple[int, ...], tyro.conf.arg(aliases=["--seed"])] = (0,)
    """Train and evaluate once per seed; with several, the report gives mean and standard deviation."""
    steps: int = 800
    """Training steps of each method. `dsm` learns late: for some seeds, 600 steps are too few."""
    videos: int = PRESETS["demo"].train
    """Number of training videos."""
    tests: int = PRESETS["demo"].test
    """Number of videos in each of the three tests."""
    workers: int = 1
    """Processes that decode videos."""
    overwrite: bool = False
    """Replace a demo in `out` that was made with other settings."""

    def __post_init__(self) -> None:
        if not self.seeds:
            raise UserError("the demo needs at least one seed.")
        check_range(self, "steps", least=1)
        if self.videos < DEMO_BATCH:
            raise UserError(f"the demo needs at least {DEMO_BATCH} videos (one batch), not {self.videos}.")
        if min(self.seeds) < 0:
            raise UserError(f"seeds must be at least 0, not {min(self.seeds)}.")
        check_range(self, "workers", least=0)


@dataclass(frozen=True)
class FractionsConfig(FinetuneConfig):
    """Settings of `dsm finetune`; the paper's are sgd, lr 0.001, 45 epochs of 64 frames, batch 4."""

    fractions: tuple[float, ...] = ()
    """Train one run on each of these shares of every class (0.01 for 1 %; a smaller share is part of a larger
    one) and, if `data.test` is given, test it. The same command continues an interrupted sweep."""

    def __post_init__(self) -> None:
        super().__post_init__()
        wrong = [fraction for fraction in self.fractions if not 0 < fraction <= 1]
        if wrong:
            raise UserError(f"fractions must be above 0 and at most 1 (0.01 is 1 %), not {wrong[0]:g}.")
        if len(set(self.fractions)) < len(self.fractions):
            raise UserError("two of --fractions are the same; give each once.")


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
    """Take every n-th frame."""
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
    """Weights that the first stage starts from; by default those of the recipe, usually random."""
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
    track: tuple[TrackerName, ...] = ()
    """Trackers that receive the curves, settings, pictures and results of the runs."""
    overwrite: bool = False
    """Replace results in `out` of another recipe, or that were made with other settings."""
