"""``dsm data synth``: write MotionScenes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from dsm.errors import UserError
from dsm.files import empty_folder
from dsm.synthetic.motionscenes import Preset, WorldName, holds_others, with_overrides, write_motionscenes
from dsm.terminal import console, progress


@dataclass(frozen=True)
class SynthConfig:
    """Settings of `dsm data synth`."""

    out: tyro.conf.Positional[Path]
    """Folder to write; an unfinished one is finished."""
    preset: Preset = "demo"
    """`demo` for minutes on a laptop; `full` is larger and much harder."""
    world: WorldName = "scenes"
    """`scenes`: shapes before patterns. `dots`: actor and scene of the same dots, so that only motion tells
    them apart. `walkers`: people in rooms and streets. `drone`: a vehicle from above, over moving ground."""
    scene_correlation: float | None = None
    """How often a motion is seen on its own scene family, in train and test (0 to 1)."""
    motions: int | None = None
    """Motion classes."""
    train: int | None = None
    """Training videos."""
    test: int | None = None
    """Videos of each test list."""
    size: int | None = None
    """Side of the frame, pixels."""
    frames: int | None = None
    """Frames a video."""
    seed: int | None = None
    """Same seed and settings, same videos."""
    workers: int | None = None
    """Processes; left out, one a core."""
    overwrite: bool = False
    """Replace MotionScenes of other settings."""

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise UserError(f"workers must be at least 1, not {self.workers}.")


def synth(config: SynthConfig) -> None:
    """Write the videos and lists, with a progress bar."""
    settings = with_overrides(
        config.preset,
        world=config.world,
        scene_correlation=config.scene_correlation,
        motions=config.motions,
        train=config.train,
        test=config.test,
        size=config.size,
        frames=config.frames,
        seed=config.seed,
    )
    if config.overwrite and holds_others(config.out, settings):
        empty_folder(config.out)
    with progress("MotionScenes", settings.train + 3 * settings.test) as bar:
        write_motionscenes(settings, config.out, workers=config.workers, on_progress=bar.update)
    console.print(
        f"{settings.train} videos to train and 3 x {settings.test} to test, lists beside: {config.out}"
    )
