"""How the commands that use weights are told to load them, and the weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dsm.engine.processes import is_first
from dsm.engine.progress import console
from dsm.errors import UserError
from dsm.models.weights import Head, Init, LoadedEncoder, load_weights


@dataclass(frozen=True)
class LoadSettings:
    """What weights do not say of themselves."""

    backbone: str = "i3d"
    """What to build for `--weights none`."""
    seed: int = 0
    """Seeds random weights, and what else is random."""
    init: Init = "own"
    """How random weights are drawn: as the backbone's paper has it, or `xavier`, as DSM's published code."""
    partial: bool = False
    """Be content with another's checkpoint that fills only part of the encoder."""

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UserError("seed must not be below 0.")

    def load(self, weights: str, head: Head | None = None) -> LoadedEncoder:
        """Load, and say what of another's checkpoint was taken.

        Args:
            weights, head: see :func:`dsm.models.weights.load_weights`.

        Raises:
            UserError: the weights cannot be read or do not fit.
        """
        torch.manual_seed(self.seed)
        loaded = load_weights(
            weights, head=head, backbone=self.backbone, partial=self.partial, init=self.init
        )
        if loaded.report and is_first():
            console.print(f"{weights}: {loaded.report}")
        return loaded
