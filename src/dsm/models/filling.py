"""Weights of a file into the module that the file speaks of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dsm.models.zoo import MODELS


def build_filled(
    build: Callable[[], nn.Module], tensors: Mapping[str, Tensor], about: Mapping[str, Any]
) -> nn.Module:
    """What ``build`` makes, with these weights, in evaluation mode.

    A backbone of our own is first built without memory: a stranger's file may speak of a module a thousand
    times as large as itself.

    Args:
        about: what the file says; its ``backbone``.

    Raises:
        RuntimeError: the weights do not fit the module.
    """
    if about["backbone"] in MODELS:
        with torch.device("meta"):
            wanted = build().state_dict()
        for name, tensor in wanted.items():
            if name in tensors and tensors[name].shape != tensor.shape:
                shapes = f"{tuple(tensors[name].shape)}, not {tuple(tensor.shape)}"
                raise RuntimeError(f"its {name} is of shape {shapes}")
        if odd := sorted(wanted.keys() ^ tensors.keys()):
            raise RuntimeError(f"{odd[0]} is not in {'it' if odd[0] in wanted else 'such an encoder'}")
    module = build()
    module.load_state_dict(tensors)
    return module.eval()
