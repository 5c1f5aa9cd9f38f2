"""The worlds of MotionScenes. Each has a painter, actors and scenes of its own."""

from __future__ import annotations

from typing import Literal

from dsm.datasets.world import World
from dsm.datasets.world_dots import DOTS
from dsm.datasets.world_drone import DRONE
from dsm.datasets.world_scenes import SCENES
from dsm.datasets.world_walkers import WALKERS

WorldName = Literal["scenes", "dots", "walkers", "drone"]
WORLDS: dict[WorldName, World] = {"scenes": SCENES, "dots": DOTS, "walkers": WALKERS, "drone": DRONE}
"""By the name that ``dsm data synth --world`` takes."""
