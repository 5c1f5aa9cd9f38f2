"""Checkpoints: everything a run needs to go on, and a user needs to load its encoder.

A file is written aside and renamed, so there is never half a checkpoint. It holds tensors, numbers
and text only, and is read with ``weights_only=True``: nothing in it is executed.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import torch

FORMAT = 1
_NAME = re.compile(r"step_(\d+)\.pt")


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], *, keep: int) -> Path:
    """Write ``step_NNNNNNNN.pt`` and remove all but the newest ``keep``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step_{step:08d}.pt"
    aside = folder / f".{path.name}.{os.getpid()}.part"
    try:
        torch.save({"format": FORMAT, "step": step, **state}, aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    for old in list_checkpoints(folder)[:-keep]:
        old.unlink()
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a folder, oldest first."""
    return sorted(path for path in folder.glob("step_*.pt") if _NAME.fullmatch(path.name))
