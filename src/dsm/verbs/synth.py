"""``dsm data synth``: write MotionScenes, videos in which motion and scene are known separately."""

from __future__ import annotations

from dsm.data.lists import read_list
from dsm.files import empty_folder
from dsm.runs.claims import hold_alone
from dsm.settings import takes_settings
from dsm.synthetic.motionscenes import MARKER, SPLITS, holds_others, write_motionscenes
from dsm.synthetic.settings import with_overrides
from dsm.terminal import progress
from dsm.verbs.result import ListResult
from dsm.verbs.settings.data import SynthConfig


@takes_settings(SynthConfig)
def synth(config: SynthConfig) -> ListResult:
    """Write MotionScenes: the videos, one list to train on and three to test on."""
    settings = with_overrides(
        config.preset, world=config.world, scene_correlation=config.scene_correlation, motions=config.motions,
        train=config.train, test=config.test, size=config.size, frames=config.frames, seed=config.seed,
    )  # fmt: skip
    hold_alone(config.out)
    if config.overwrite and holds_others(config.out, settings):
        empty_folder(config.out, MARKER)
    with progress("MotionScenes", settings.train + 3 * settings.test) as bar:
        write_motionscenes(settings, config.out, workers=config.workers, on_progress=bar.update)
    files = [config.out / f"{name}.txt" for name in SPLITS]
    line = f"{settings.train} videos to train and 3 x {settings.test} to test, lists beside: {config.out}"
    return ListResult(files=files, lines=[line], lists=[read_list(file) for file in files])
