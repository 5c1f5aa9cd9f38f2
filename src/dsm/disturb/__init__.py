"""Spatial and temporal local disturbance, for any pipeline, and the views that methods make with them."""

from dsm.disturb import spatial, temporal
from dsm.disturb.appearance import AddBackground, ExchangeScene, ReplaceBackground
from dsm.disturb.local_warp import LocalWarp, local_warp_exact
from dsm.disturb.motion_scale import MotionScale, scale_motion
from dsm.disturb.spatial import Affine, SmoothWarp, ThinPlate, thin_plate_spline
from dsm.disturb.spatial_mix import SpatialMix
from dsm.disturb.temporal import TemporalMix
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
