"""Every backbone by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from dsm.errors import UserError, nearest
from dsm.models.c3d import C3D
from dsm.models.i3d import I3D
from dsm.models.r2plus1d import r2plus1d10, r2plus1d18, r2plus1d34
from dsm.models.r3d import r3d18, r3d34, r3d50
from dsm.models.s3d import s3d, s3dg
from dsm.models.tiny import Tiny

MODELS: dict[str, Callable[..., nn.Module]] = {
    "c3d": C3D,
    "i3d": I3D,
    "r2plus1d10": r2plus1d10,
    "r2plus1d18": r2plus1d18,
    "r2plus1d34": r2plus1d34,
    "r3d18": r3d18,
    "r3d34": r3d34,
    "r3d50": r3d50,
    "s3d": s3d,
    "s3dg": s3dg,
    "tiny": Tiny,
}


def create_model(name: str, **settings: Any) -> nn.Module:
    """Build an encoder: clips (B, C, T, H, W) -> features (B, ``feature_dim``).

    Args:
        name: a key of :data:`MODELS`.
        settings: the model's own, such as ``in_channels=3`` or ``pooling="avg"``.

    Raises:
        UserError: no model has that name; the nearest names are given.
    """
    if name not in MODELS:
        raise UserError(f"unknown backbone '{name}'{nearest(name, MODELS)}")
    return MODELS[name](**settings)
