"""Settings of reading videos, in a module that imports no decoder."""

from __future__ import annotations

from typing import Literal

Decoder = Literal["pyav", "torchcodec", "torchcodec-cuda"]

READING_TIME = 60.0
"""Default time limit for a video, in seconds: a decoder may hang."""
