"""Checkpoints: everything a run needs to go on, and a user needs to load its encoder.

A file is written aside and renamed, so there is never half a checkpoint. It holds tensors, numbers
and text only, and is read with ``weights_only=True``: nothing in it is executed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from dsm.files import written_aside
from dsm.models.weights import FORMAT, list_checkpoints


def save_checkpoint(run: Path, step: int, state: dict[str, Any], *, keep: int) -> Path:
    """Write ``checkpoints/step_NNNNNNNN.pt`` and remove all but the newest ``keep``."""
    path = run / "checkpoints" / f"step_{step:08d}.pt"
    with written_aside(path) as aside:
        torch.save({"format": FORMAT, "step": step, **state}, aside)
    for old in list_checkpoints(run)[:-keep]:
        old.unlink()
    return path
