"""What flags of MotionScenes choose between, and its usual size."""

from __future__ import annotations

from typing import Literal

WorldName = Literal["scenes", "dots", "walkers", "drone"]


Preset = Literal["demo", "full"]

TRAIN, TEST = 1000, 500
"""Videos to train on, and in each of the three tests, of the preset `demo`."""
