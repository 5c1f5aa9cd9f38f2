"""``dsm models``: the backbones there are."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table

from dsm.models.zoo import MODELS, create_model


@dataclass(frozen=True)
class ModelsConfig:
    """`dsm models` has no settings."""


def models(config: ModelsConfig) -> None:
    """Print name, parameters, feature dimensions and what each is."""
    table = Table()
    for column in ("name", "parameters", "features", "what it is"):
        table.add_column(column, justify="right" if column in ("parameters", "features") else "left")
    for name in sorted(MODELS):
        with torch.device("meta"):
            model = create_model(name)
        size = sum(parameter.numel() for parameter in model.parameters())
        text = sys.modules[type(model).__module__].__doc__ or ""
        table.add_row(
            name, f"{size / 1e6:.2f} M", str(model.feature_dim), text.split("\n")[0].split(": ", 1)[-1]
        )
    Console().print(table)
