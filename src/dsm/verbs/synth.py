"""``dsm data synth``: write MotionScenes, videos in which motion and scene are known separately."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from dsm.data.lists import read_list
from dsm.errors import UserError
from dsm.files import empty_folder
from dsm.runs.folder import hold_alone
from dsm.settings import takes_settings
from dsm.synthetic.motionscenes import (
    MARKER,
    SPLITS,
    Preset,
    WorldName,
    holds_others,
    with_overrides,
    write_motionscenes,
)
from dsm.terminal import progress
from dsm.verbs.result import ListResult


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


@takes_settings(SynthConfig)
def synth(config: SynthConfig) -> ListResult:
    """Write MotionScenes: the videos, one list to train on and three to test on."""
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
    hold_alone(config.out)
    if config.overwrite and holds_others(config.out, settings):
        empty_folder(config.out, MARKER)
    with progress("MotionScenes", settings.train + 3 * settings.test) as bar:
        write_motionscenes(settings, config.out, workers=config.workers, on_progress=bar.update)
    files = [config.out / f"{name}.txt" for name in SPLITS]
    line = f"{settings.train} videos to train and 3 x {settings.test} to test, lists beside: {config.out}"
    return ListResult(files=files, lines=[line], lists=[read_list(file) for file in files])
