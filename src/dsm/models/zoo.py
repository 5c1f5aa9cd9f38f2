"""Every backbone by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from dsm.errors import UserError, nearest
from dsm.models.adapters import ADAPTERS
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
    "tiny3d": partial(Tiny, stem_frames=3),
}
"""What builds each backbone, by name."""


def create_model(name: str, **settings: Any) -> nn.Module:
    """Build an encoder: clips (B, C, T, H, W) -> features (B, ``feature_dim``).

    Args:
        name: a key of :data:`~dsm.models.zoo.MODELS`; ``tv:`` and ``hf:`` before the name of a video model of
            torchvision or transformers.
        settings: the model's own, such as ``in_channels=3`` or ``pooling="avg"``.

    Raises:
        UserError: no model has that name; the nearest names are given.
    """
    check_name(name)
    library, _, inner = name.rpartition(":")
    return ADAPTERS[library](inner, **settings) if library else MODELS[name](**settings)


def initialise_xavier(module: nn.Module) -> None:
    """Draw convolutions and linear maps anew as DSM's published code does (Glorot & Bengio 2010).

    Left alone, each backbone is drawn as its own paper has it.
    """
    for one in module.modules():
        if isinstance(one, nn.Conv3d | nn.Linear):
            nn.init.xavier_normal_(one.weight)
            if one.bias is not None:
                nn.init.zeros_(one.bias)


def check_name(name: str) -> None:
    """Raise UserError, with the nearest names, where no backbone is called so."""
    if name not in MODELS and name.rpartition(":")[0] not in ADAPTERS:
        raise UserError(f"unknown backbone '{name}'{nearest(name, MODELS)}")
