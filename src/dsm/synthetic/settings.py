"""Settings of MotionScenes: its worlds and presets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from dsm.errors import UserError, check_range, did_you_mean
from dsm.synthetic.dots import DOTS
from dsm.synthetic.drone import DRONE
from dsm.synthetic.scenes import SCENES
from dsm.synthetic.walkers import WALKERS
from dsm.synthetic.world import World

WorldName = Literal["scenes", "dots", "walkers", "drone"]
Preset = Literal["demo", "full"]

WORLDS: dict[WorldName, World] = {"scenes": SCENES, "dots": DOTS, "walkers": WALKERS, "drone": DRONE}
"""Worlds by their names in ``dsm data synth --world``."""


@dataclass(frozen=True)
class MotionScenesConfig:
    """Settings of a MotionScenes folder. The presets are in :data:`PRESETS`."""

    world: WorldName = "scenes"
    """Kind of actors and scenes, and how they are drawn."""
    motions: int = 10
    """Number of motion classes: the first ones of the world's list."""
    train: int = 1000
    """Number of training videos."""
    test: int = 500
    """Number of videos in each of the three test lists."""
    size: int = 72
    """Side of the (square) frame in pixels; even."""
    frames: int = 40
    """Frames per video."""
    scene_correlation: float = 0.9
    """Share of the videos in `train` and `test` that show a motion in its own scene family (0 to 1)."""
    radius: tuple[float, float] = (0.2, 0.275)
    """Smallest and largest radius of the actor, as a share of the frame's side."""
    contrast: float = 0.65
    """Contrast of the scenes' patterns (0 to 1)."""
    shake: float = 0.012
    """Camera shake, as a share of the frame's side."""
    bystanders: int = 0
    """Number of smaller actors that drift straight through the picture, unrelated to the label."""
    seed: int = 0
    """The same seed and settings give the same videos."""

    def __post_init__(self) -> None:
        if self.world not in WORLDS:
            raise UserError(f"world must be one of {', '.join(WORLDS)}, not {self.world}.")
        world = WORLDS[self.world]
        if not 2 <= self.motions <= len(world.motions):
            raise UserError(f"motions must be 2 to {len(world.motions)}, not {self.motions}.")
        if self.bystanders and not world.bystanders:
            raise UserError(f"the world {self.world} has no bystanders; set bystanders to 0.")
        check_range(self, "scene_correlation", least=0, most=1)
        if self.size % 2 or self.size < 16:
            raise UserError(f"size must be an even number, at least 16, not {self.size}.")
        check_range(self, "train", "test", "frames", least=1)
        check_range(self, "seed", least=0)


PRESETS: dict[str, MotionScenesConfig] = {
    "demo": MotionScenesConfig(),
    "full": MotionScenesConfig(
        motions=16, train=8000, test=1000, size=128, frames=64, radius=(0.1, 0.2), contrast=0.9,
        shake=0.03, bystanders=2,
    ),
}  # fmt: skip
"""Preset settings by name."""


def with_overrides(preset: Preset, **changes: object) -> MotionScenesConfig:
    """A preset with some settings changed; None keeps the preset's value.

    Raises:
        UserError: the settings are invalid, or the world does not have the preset.
    """
    if preset not in PRESETS:
        raise UserError(f"unknown preset '{preset}'{did_you_mean(preset, PRESETS)}")
    world = changes.get("world") or "scenes"
    if preset == "full" and world != "scenes":
        raise UserError(
            f"only the world scenes has the preset full; for {world}, use demo and change settings."
        )
    return replace(PRESETS[preset], **{k: v for k, v in changes.items() if v is not None})  # type: ignore[arg-type]
