"""Settings of `dsm demo`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dsm.errors import UserError
from dsm.synthetic.settings import TEST, TRAIN

BATCH = 32


@dataclass(frozen=True)
class DemoConfig:
    """Settings of `dsm demo`."""

    out: Path
    """Folder for videos, runs, results.json and report.html."""
    seeds: Annotated[tuple[int, ...], tyro.conf.arg(aliases=["--seed"])] = (0,)
    """Train and evaluate once per seed; with several, the report gives mean and standard deviation."""
    steps: int = 900
    """Training steps of each method. `dsm` learns late: for some seeds, 600 steps are too few."""
    videos: int = TRAIN
    """Number of training videos."""
    tests: int = TEST
    """Number of videos in each of the three tests."""
    workers: int = 1
    """Processes that decode videos."""
    overwrite: bool = False
    """Replace a demo with other settings in `out`."""

    def __post_init__(self) -> None:
        if not self.seeds or self.steps < 1:
            raise UserError("the demo needs at least one seed and one step.")
        if self.videos < BATCH:
            raise UserError(f"the demo needs at least {BATCH} videos (one batch), not {self.videos}.")
        if min(*self.seeds, self.workers) < 0:
            raise UserError("seeds and workers must not be below 0.")
