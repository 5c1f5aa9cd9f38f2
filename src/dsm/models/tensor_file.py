"""Files of safetensors: tensors by name, and a few words about them; nothing in them can be executed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from dsm.errors import UserError
from dsm.files import written_aside

KEY = "dsm"


def write_tensors(path: str | Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write tensors, and what JSON can hold about them, whole or not at all."""
    # Copies: the format refuses tensors that share memory or do not lie in order.
    copies = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    with written_aside(path) as aside:
        # Not save_file: its files can be read by their owner only.
        aside.write_bytes(safetensors.torch.save(copies, {KEY: json.dumps(about)}))


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors by name, and what :func:`write_tensors` was told about them; of another's file nothing.

    Raises:
        UserError: no such file, or none of safetensors.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file.")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except safetensors.SafetensorError as error:
        raise UserError(f"{path}: is not a safetensors file ({error}).") from None
    try:
        about = json.loads(metadata.get(KEY, "{}"))
    except ValueError:
        about = {}
    return tensors, about if isinstance(about, dict) else {}
