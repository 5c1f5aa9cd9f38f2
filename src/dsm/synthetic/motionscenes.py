"""MotionScenes: synthetic videos in which the motion and the scene are known separately.

The label of a video is its *motion*. Each motion has its own *scene family*, in which it appears in a
share ``scene_correlation`` of the training videos. A network can therefore learn the label from the scene,
and the test lists measure whether it did:

- ``train.txt``, ``test.txt``      tied: motion and family agree in a share ``scene_correlation``
- ``test_conflict.txt``            every motion in a family that belongs to another motion
- ``test_free.txt``                families that no training video shows

Files are H.264 mp4, lists are ``path label frames``; ``scenes.tsv`` gives each video's family.
The same settings and seed give the same videos. A *world* (:data:`dsm.synthetic.settings.WORLDS`) draws the
motions and scenes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsm.data.classes import write_classes
from dsm.errors import UserError
from dsm.files import read_object, write_text
from dsm.synthetic.settings import WORLDS, MotionScenesConfig
from dsm.synthetic.world import Shot
from dsm.video.write import write_video
from dsm.workers import side_by_side, usable_cores

SPLITS = ("train", "test", "test_conflict", "test_free")
FORMAT = 1
MARKER = "motionscenes.json"


@dataclass(frozen=True)
class VideoPlan:
    """What one video shows; its seed decides everything else."""

    split: str
    index: int
    motion: int
    family: str

    @property
    def path(self) -> str:
        return f"videos/{self.split}/{self.index:05d}.mp4"


def motion_names(config: MotionScenesConfig) -> list[str]:
    """The names of the motions, by label."""
    return list(WORLDS[config.world].motions[: config.motions])


def plan_split(config: MotionScenesConfig, split: str) -> list[VideoPlan]:
    """The motion and scene family of each video of a split; all motions are equally frequent."""
    world = WORLDS[config.world]
    families = world.training_families
    order = np.random.default_rng([config.seed, 99]).permutation(len(families))
    owned = {families[place] for place in order[: config.motions]}
    rng = np.random.default_rng([config.seed, 100 + SPLITS.index(split)])
    plans = []
    for index in range(config.train if split == "train" else config.test):
        motion = index % config.motions
        own = families[order[motion % len(families)]]
        others = [family for family in families if family != own and family in owned]
        if split == "test_free":
            family = str(rng.choice(world.free_families))
        elif split == "test_conflict" or rng.random() >= config.scene_correlation:
            family = str(rng.choice(others))
        else:
            family = own
        plans.append(VideoPlan(split, index, motion, family))
    return plans


def render(config: MotionScenesConfig, plan: VideoPlan) -> NDArray[np.uint8]:
    """Draw one video: uint8 RGB, shape (frames, size, size, 3)."""
    world = WORLDS[config.world]
    shot = Shot(
        motion=world.motions[plan.motion], family=plan.family, frames=config.frames, size=config.size,
        radius=config.radius, contrast=config.contrast, shake=config.shake, bystanders=config.bystanders,
    )  # fmt: skip
    return world.render(shot, np.random.default_rng([config.seed, SPLITS.index(plan.split), plan.index]))


def _write_chunk(config: MotionScenesConfig, out: Path, plans: list[VideoPlan]) -> int:
    for plan in plans:
        path = out / plan.path
        if not path.exists():
            write_video(path, render(config, plan))
    return len(plans)


def write_motionscenes(
    config: MotionScenesConfig,
    out: str | Path,
    *,
    splits: Sequence[str] = SPLITS,
    workers: int | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Path:
    """Write the videos and lists, or finish an interrupted call.

    Args:
        config: what to write.
        out: folder; created if missing.
        splits: write only these; a later call may add others.
        workers: number of processes; None for one per core.
        on_progress: called with the number of videos done.

    Returns:
        The folder.

    Raises:
        UserError: the folder contains MotionScenes with other settings, or other files; or a process was
            killed.
    """
    out = Path(out)
    marker = out / MARKER
    if workers is not None and workers < 1:
        raise UserError(f"workers must be at least 1, not {workers}.")
    settings = _marker_content(config)
    earlier = _read_marker(marker)
    if holds_others(out, config):
        raise UserError(
            f"{out} contains MotionScenes with other settings; choose another folder, or use --overwrite."
        )
    if earlier is None and out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty and does not contain MotionScenes; choose another folder.")
    write_text(marker, json.dumps(settings, indent=2) + "\n")

    plans = {split: plan_split(config, split) for split in splits}
    everything = [plan for split in splits for plan in plans[split]]
    workers = workers or usable_cores()
    jobs = {start: (config, out, everything[start : start + 20]) for start in range(0, len(everything), 20)}
    done = 0
    for _, written in side_by_side(_write_chunk, jobs, workers):
        done += written.result()
        on_progress(done)

    names = motion_names(config)
    write_classes(out, names)
    for split in splits:
        lines = [f"{plan.path} {plan.motion} {config.frames}\n" for plan in plans[split]]
        write_text(out / f"{split}.txt", "".join(lines))
    table = ["path\tmotion\tfamily\n"]
    written_before = [split for split in SPLITS if (out / f"{split}.txt").is_file()]
    listed = [plan for split in written_before for plan in plan_split(config, split)]
    table += [f"{plan.path}\t{names[plan.motion]}\t{plan.family}\n" for plan in listed]
    write_text(out / "scenes.tsv", "".join(table))
    return out


def holds_others(out: Path, config: MotionScenesConfig) -> bool:
    """Whether a folder contains MotionScenes with other settings."""
    earlier = _read_marker(out / MARKER)
    return earlier is not None and earlier != _marker_content(config)


def _marker_content(config: MotionScenesConfig) -> dict[str, Any]:
    """The settings to store in a marker. Older folders, which are all `scenes`, have no `world` entry."""
    settings = json.loads(json.dumps(asdict(config)))
    if config.world == "scenes":
        del settings["world"]
    return {"format": FORMAT, **settings}


def _read_marker(marker: Path) -> dict[str, Any] | None:
    """A marker's content; None if it is missing or another kind of file."""
    content = read_object(marker)
    return content if content and "format" in content else None
