"""Settings of models: how to load weights, and the names that flags choose between.

Command-line help needs them, so torch is imported only to load weights.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dsm.errors import UserError, check_range, did_you_mean
from dsm.terminal import console
from dsm.weights_names import LIBRARIES

if TYPE_CHECKING:
    from dsm.models.weights import LoadedEncoder

RANDOM = "none"
Init = Literal["own", "xavier"]
Head = Literal["projection", "classifier"]
HeadKind = Literal["linear", "mlp", "mlp-bn"]
Pooling = Literal["avg", "max", "avgmax", "gem"]
Precision = Literal["fp32", "bf16", "fp16"]
BACKBONES = (
    "c3d", "i3d", "r2plus1d10", "r2plus1d18", "r2plus1d34", "r3d18", "r3d34", "r3d50", "s3d", "s3dg", "tiny",
    "tiny2d", "tiny3d", "vjepa2",
)  # fmt: skip
"""The keys of ``MODELS`` in ``zoo.py`` that this package defines."""


def check_name(name: str) -> None:
    """Raise UserError, with the nearest names, if there is no such backbone."""
    # If a backbone was added to MODELS from outside, that module is already loaded.
    zoo = sys.modules.get("dsm.models.zoo")
    names = [*BACKBONES, *(name for name in (zoo.MODELS if zoo else ()) if name not in BACKBONES)]
    if name not in names and name.rpartition(":")[0] not in LIBRARIES:
        raise UserError(f"unknown backbone '{name}'{did_you_mean(name, names)}")


@dataclass(frozen=True)
class LoadSettings:
    """Settings for loading weights."""

    backbone: str = "i3d"
    """Network to build for `--weights none`."""
    pooling: Pooling | None = None
    """Its pooling; by default, as the backbone does it."""
    seed: int = 0
    """Seed of random weights and of everything else that is random."""
    init: Init = "own"
    """How to draw random weights: `own`, as in the backbone's paper, or `xavier`, as in DSM's code."""
    partial: bool = False
    """Accept a foreign checkpoint that fills only part of the encoder."""

    def __post_init__(self) -> None:
        check_range(self, "seed", least=0)

    def load(self, weights: str, head: Head | None = None) -> LoadedEncoder:
        """Load weights, and print what was loaded from a foreign checkpoint.

        Args:
            weights, head: see :func:`dsm.models.weights.load_weights`.

        Raises:
            UserError: the weights cannot be read or do not fit.
        """
        import torch

        from dsm.distributed import is_first
        from dsm.models.weights import load_weights

        torch.manual_seed(self.seed)
        loaded = load_weights(
            weights,
            head=head,
            backbone=self.backbone,
            pooling=self.pooling,
            partial=self.partial,
            init=self.init,
        )
        if loaded.report and is_first():
            console.print(f"{weights}: {loaded.report}")
        return loaded
