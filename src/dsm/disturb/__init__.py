"""Spatial and temporal local disturbance (SLD and TLD), for any pipeline.

Names are imported on first use: the weights of the kinds are settings, which need no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dsm.disturb import spatial, temporal
    from dsm.disturb.appearance import AddBackground, ExchangeScene, ReplaceBackground
    from dsm.disturb.grid import identity_grid, inside, warp
    from dsm.disturb.motion_scale import scale_motion
    from dsm.disturb.spatial import (
        Affine,
        LocalWarp,
        SmoothWarp,
        ThinPlate,
        local_warp_exact,
        thin_plate_spline,
    )
    from dsm.disturb.spatial_mix import SpatialMix
    from dsm.disturb.temporal import MotionScale, TemporalMix

_HOMES = {
    "AddBackground": "appearance",
    "Affine": "spatial",
    "ExchangeScene": "appearance",
    "LocalWarp": "spatial",
    "MotionScale": "temporal",
    "ReplaceBackground": "appearance",
    "SmoothWarp": "spatial",
    "SpatialMix": "spatial_mix",
    "TemporalMix": "temporal",
    "ThinPlate": "spatial",
    "identity_grid": "grid",
    "inside": "grid",
    "local_warp_exact": "spatial",
    "scale_motion": "motion_scale",
    "thin_plate_spline": "spatial",
    "warp": "grid",
}
"""The module of each name."""

__all__ = [
    "AddBackground", "Affine", "ExchangeScene", "LocalWarp", "MotionScale", "ReplaceBackground", "SmoothWarp",
    "SpatialMix", "TemporalMix", "ThinPlate", "identity_grid", "inside", "local_warp_exact", "scale_motion",
    "spatial", "temporal", "thin_plate_spline", "warp",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"dsm.disturb.{_HOMES[name]}"), name)
    if name in ("spatial", "temporal"):
        return importlib.import_module(f"dsm.disturb.{name}")
    raise AttributeError(f"module 'dsm.disturb' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]
