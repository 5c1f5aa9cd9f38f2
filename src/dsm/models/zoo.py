"""Backbones by name, and a check of which clips they accept: some need a fixed size or number of frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dsm.errors import UserError, first_line, machine_fault
from dsm.models.adapters import ADAPTERS
from dsm.models.c3d import C3D
from dsm.models.i3d import I3D
from dsm.models.r2plus1d import r2plus1d10, r2plus1d18, r2plus1d34
from dsm.models.r3d import r3d18, r3d34, r3d50
from dsm.models.s3d import s3d, s3dg
from dsm.models.settings import check_name
from dsm.models.tiny import Tiny
from dsm.models.vjepa import VJepa

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
    "tiny2d": partial(Tiny, frame_by_frame=True),
    "tiny3d": partial(Tiny, stem_frames=3),
    "vjepa2": VJepa,
}
"""The function or class that builds each backbone, by name. ``BACKBONES`` lists the names too."""


def create_model(name: str, **settings: Any) -> nn.Module:
    """Build an encoder: clips (B, C, T, H, W) -> features (B, ``feature_dim``).

    Args:
        name: a key of :data:`~dsm.models.zoo.MODELS`, or ``tv:`` or ``hf:`` and the name of a video model of
            torchvision or transformers.
        settings: the model's own, such as ``in_channels=3`` or ``pooling="avg"``.

    Raises:
        UserError: no model has that name; the message suggests the nearest names.
    """
    check_name(name)
    library, _, inner = name.rpartition(":")
    return ADAPTERS[library](inner, **settings) if library else MODELS[name](**settings)


def initialise_xavier(module: nn.Module) -> None:
    """Redraw convolutions and linear layers as DSM's published code does (Glorot & Bengio 2010).

    By default each backbone is initialised as in its own paper.
    """
    for one in module.modules():
        if isinstance(one, nn.Conv3d | nn.Linear):
            nn.init.xavier_normal_(one.weight)
            if one.bias is not None:
                nn.init.zeros_(one.bias)


REFUSALS = (RuntimeError, ValueError, IndexError, AssertionError)
"""Errors that networks raise for clips that they do not accept."""


def check_takes(network: nn.Module, shape: Sequence[int]) -> Tensor:
    """Run a network on one clip of zeros.

    Args:
        shape: the clip's shape, (C, T, H, W).

    Returns:
        Its output: (1, D).

    Raises:
        UserError: the network does not accept such clips.
    """
    was_training = network.training
    clip = torch.zeros(1, *shape, device=next(network.parameters()).device)
    try:
        with torch.no_grad():
            output: Tensor = network.eval()(clip)
            return output
    except torch.cuda.OutOfMemoryError:
        raise
    except REFUSALS as error:
        if machine_fault(error) is not None:
            raise
        raise refusal(shape, error) from None
    finally:
        network.train(was_training)


def refusal(shape: Sequence[int], error: Exception) -> UserError:
    """The error to raise when a network failed on a clip of a shape (C, T, H, W)."""
    size = "x".join(str(side) for side in shape)
    return UserError(
        f"the network does not take clips of {size} ({first_line(error)}); change --frames or "
        "--size (in training: --clip.frames or --clip.size)."
    )
