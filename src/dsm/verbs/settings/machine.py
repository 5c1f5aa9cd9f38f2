"""Settings of `dsm doctor` and `dsm models`."""

from __future__ import annotations

from dataclasses import dataclass

from dsm.errors import UserError


@dataclass(frozen=True)
class DoctorConfig:
    """`dsm doctor` has no settings."""


@dataclass(frozen=True)
class ModelsConfig:
    """Settings of `dsm models`."""

    measure: bool = False
    """Time the forward pass of each backbone on this machine's CPU."""
    frames: int = 16
    """Frames of the clip that GFLOPs and time are measured on."""
    size: int = 112
    """Side of that clip in pixels."""

    def __post_init__(self) -> None:
        if self.frames < 1 or self.size < 16:
            raise UserError("frames must be at least 1, and size at least 16.")
