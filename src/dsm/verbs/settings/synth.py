"""Settings of `dsm data synth`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from dsm.errors import UserError
from dsm.synthetic.settings import Preset, WorldName


@dataclass(frozen=True)
class SynthConfig:
    """Settings of `dsm data synth`."""

    out: tyro.conf.Positional[Path]
    """Folder to write. If writing was interrupted, the same command finishes it."""
    preset: Preset = "demo"
    """`demo`: minutes on a laptop. `full`: larger and much harder."""
    world: WorldName = "scenes"
    """`scenes`: shapes in front of patterns. `dots`: actor and scene made of the same dots, so that only
    motion tells them apart. `walkers`: people in rooms and streets. `drone`: a vehicle seen from above, over
    moving ground."""
    scene_correlation: float | None = None
    """How often a motion appears in its own scene family, in train and test (0 to 1)."""
    motions: int | None = None
    """Number of motion classes."""
    train: int | None = None
    """Number of training videos."""
    test: int | None = None
    """Number of videos in each test list."""
    size: int | None = None
    """Side of the square frame, in pixels."""
    frames: int | None = None
    """Frames in each video."""
    seed: int | None = None
    """The same seed and settings give the same videos."""
    workers: int | None = None
    """Number of processes; by default one per core."""
    overwrite: bool = False
    """Replace MotionScenes with other settings."""

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise UserError(f"workers must be at least 1, not {self.workers}.")
