"""Spatial and temporal local disturbance, and the views that methods make with them."""

from dsm.disturb import spatial, temporal

__all__ = ["spatial", "temporal"]
