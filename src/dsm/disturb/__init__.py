"""Spatial and temporal local disturbance (SLD and TLD), for any pipeline."""

from __future__ import annotations

from dsm.disturb import spatial, temporal
from dsm.disturb.appearance import AddBackground, ExchangeScene, ReplaceBackground
from dsm.disturb.spatial import Affine, LocalWarp, SmoothWarp, ThinPlate, local_warp_exact, thin_plate_spline
from dsm.disturb.spatial_mix import SpatialMix
from dsm.disturb.temporal import MotionScale, TemporalMix, scale_motion
from dsm.disturb.warp import identity_grid, inside, warp

__all__ = [
    "AddBackground",
    "Affine",
    "ExchangeScene",
    "LocalWarp",
    "MotionScale",
    "ReplaceBackground",
    "SmoothWarp",
    "SpatialMix",
    "TemporalMix",
    "ThinPlate",
    "identity_grid",
    "inside",
    "local_warp_exact",
    "scale_motion",
    "spatial",
    "temporal",
    "thin_plate_spline",
    "warp",
]
