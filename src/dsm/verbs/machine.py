"""``dsm doctor`` and ``dsm models``: is this machine ready, and how fast are the backbones on it?"""

from __future__ import annotations

import platform
import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import av
import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from dsm.distributed import best_device
from dsm.errors import UserError
from dsm.models.precision import channels_last, fast_in_bf16
from dsm.models.zoo import MODELS, create_model
from dsm.runs.folder import versions
from dsm.terminal import many, progress
from dsm.workers import usable_cores


@dataclass(frozen=True)
class DoctorConfig:
    """`dsm doctor` has no settings."""


def doctor(config: DoctorConfig) -> None:
    """Print versions, cores, the device that training would use, and the codecs needed."""
    table = Table(show_header=False)
    for name, version in versions().items():
        table.add_row(name, version)
    table.add_row(
        "machine", f"{platform.system()} {platform.machine()}, {many(usable_cores(), 'core')} to use"
    )
    table.add_row("torch threads", str(torch.get_num_threads()))
    device = best_device()
    table.add_row("device", torch.cuda.get_device_name(device) if device.type == "cuda" else device.type)
    fast = fast_in_bf16(device.type)
    table.add_row("bfloat16", "fast: --precision bf16" if fast else "slow: stay with --precision fp32")
    for codec, mode in (("h264", "r"), ("libx264", "w")):
        there = codec in av.codecs_available
        table.add_row(f"{codec} ({'reads' if mode == 'r' else 'writes'} mp4)", "yes" if there else "MISSING")
    Console().print(table)


ROUNDS = 3


@dataclass(frozen=True)
class ModelsConfig:
    """Settings of `dsm models`."""

    measure: bool = False
    """Time the forward pass of each on this machine, on the CPU."""
    frames: int = 16
    """Frames of the clip that is counted and timed."""
    size: int = 112
    """Its side."""

    def __post_init__(self) -> None:
        if self.frames < 1 or self.size < 16:
            raise UserError("frames must be at least 1, size at least 16.")


def models(config: ModelsConfig) -> None:
    """Print name, parameters, GFLOPs, feature dimensions and what each is."""
    columns = ["parameters", "GFLOPs", "features", *(["clips/s"] if config.measure else [])]
    table = Table(caption=f"GFLOPs: of one clip of {config.frames} x {config.size}², two a multiply-add")
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
    Console().print(table)
    Console().print("and tv:NAME of torchvision, hf:NAME of transformers, where these are installed")


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
    return [*row, _told(name)]


def _clips_per_second(model: Any, shape: tuple[int, ...]) -> float:
    clip = torch.rand(shape).contiguous(memory_format=torch.channels_last_3d)
    channels_last(model)
    taken = []
    with torch.inference_mode():
        for _ in range(ROUNDS + 1):  # the first makes ready
            begun = time.perf_counter()
            model(clip)
            taken.append(time.perf_counter() - begun)
    return 1 / min(taken[1:])


def _told(name: str) -> str:
    """What the first line of a model's module says of it."""
    builder = MODELS[name]
    owner = builder.func if isinstance(builder, partial) else builder
    text = sys.modules[owner.__module__].__doc__ or ""
    return text.split("\n")[0].split(": ", 1)[-1]
