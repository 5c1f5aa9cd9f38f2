"""``dsm models``: the backbones, their sizes and their speed."""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import Any

import torch
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from dsm.models.precision import channels_last
from dsm.models.zoo import MODELS, create_model
from dsm.settings import takes_settings
from dsm.terminal import progress
from dsm.verbs.result import Result
from dsm.verbs.settings.weights import ModelsConfig

ROUNDS = 3
"""Number of timed forward passes; the fastest counts."""


@takes_settings(ModelsConfig)
def models(config: ModelsConfig) -> Result:
    """List the backbones: name, parameters, GFLOPs, feature dimensions and a description."""
    columns = ["parameters", "GFLOPs", "features", *(["clips/s"] if config.measure else [])]
    table = Table(
        caption=f"GFLOPs for one clip of {config.frames} x {config.size}²; a multiply-add counts as two"
    )
    table.add_column("name")
    for column in columns:
        table.add_column(column, justify="right")
    table.add_column("what it is")
    rows = []
    with progress("models", len(MODELS)) as bar:
        for done, name in enumerate(sorted(MODELS), start=1):
            rows.append(_row(name, config))
            bar.update(done)
    for row in rows:
        table.add_row(*row)
    return Result(
        tables=[table], lines=["also tv:NAME from torchvision and hf:NAME from transformers, if installed"]
    )


def _row(name: str, config: ModelsConfig) -> list[str]:
    shape = (1, 3, config.frames, config.size, config.size)
    with torch.device("meta"):
        model: Any = create_model(name).eval()
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            model(torch.empty(shape))
    size = sum(parameter.numel() for parameter in model.parameters())
    row = [name, f"{size / 1e6:.2f} M", f"{counter.get_total_flops() / 1e9:.1f}", str(model.feature_dim)]
    if config.measure:
        row.append(f"{_clips_per_second(create_model(name).eval(), shape):.1f}")
    return [*row, _description(name)]


def _clips_per_second(model: Any, shape: tuple[int, ...]) -> float:
    clip = torch.rand(shape).contiguous(memory_format=torch.channels_last_3d)
    channels_last(model)
    seconds = []
    with torch.inference_mode():
        for _ in range(ROUNDS + 1):  # the first is a warm-up
            start = time.perf_counter()
            model(clip)
            seconds.append(time.perf_counter() - start)
    return 1 / min(seconds[1:])


def _description(name: str) -> str:
    """The first line of the docstring of a model's module."""
    builder = MODELS[name]
    owner = builder.func if isinstance(builder, partial) else builder
    text = sys.modules[owner.__module__].__doc__ or ""
    return text.split("\n")[0].split(": ", 1)[-1]
