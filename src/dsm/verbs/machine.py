"""``dsm doctor`` checks this machine; ``dsm models`` lists the backbones and measures their speed."""

from __future__ import annotations

import platform
import sys
import time
from functools import partial
from typing import Any

import av
import torch
from rich.markup import escape
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from dsm.devices import best_device
from dsm.extras import installed_extras
from dsm.models.precision import channels_last, fast_in_bf16
from dsm.models.zoo import MODELS, create_model
from dsm.runs.folder import versions
from dsm.settings import takes_settings
from dsm.terminal import many, progress
from dsm.verbs.result import Result
from dsm.verbs.settings.weights import DoctorConfig, ModelsConfig
from dsm.workers import usable_cores


@takes_settings(DoctorConfig)
def doctor(config: DoctorConfig) -> Result:
    """Show versions, cores, the device that training would use, and the required codecs."""
    table = Table(show_header=False)
    for name, version in versions().items():
        table.add_row(name, version)
    table.add_row(
        "machine", f"{platform.system()} {platform.machine()}, {many(usable_cores(), 'usable core')}"
    )
    table.add_row("torch threads", str(torch.get_num_threads()))
    device = best_device()
    table.add_row("device", torch.cuda.get_device_name(device) if device.type == "cuda" else device.type)
    if device.type == "cuda":
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        table.add_row("cuDNN", cudnn_note(torch.__version__, cudnn))
    fast = fast_in_bf16(device.type)
    table.add_row("bfloat16", "fast: --precision bf16" if fast else "slow: keep --precision fp32")
    for codec, mode in (("h264", "r"), ("libx264", "w")):
        available = "yes" if codec in av.codecs_available else "MISSING"
        table.add_row(f"{codec} ({'reads' if mode == 'r' else 'writes'} mp4)", available)
    extras = installed_extras()
    present, missing = (
        [name for name, found in extras.items() if found is wanted] for wanted in (True, False)
    )
    table.add_row("extras", ", ".join(present) or "none")
    hint = f"pip install 'dsm-video[{missing[0]}]' adds one" if missing else ""
    table.add_row("extras not installed", escape(f"{', '.join(missing)} ({hint})") if missing else "none")
    return Result(tables=[table])


def cudnn_note(torch_version: str, cudnn: int | None) -> str:
    """cuDNN's version, and whether torch 2.9 avoids its 3-D convolutions in bf16 and fp16.

    It does so with cuDNN 9.8 to 9.14, and uses slow code of its own (issue 166643 of PyTorch).

    Args:
        cudnn: as PyTorch numbers it: 91002 is 9.10.2, and None none.
    """
    if cudnn is None:
        return "MISSING: 3-D convolutions are slow"
    shown = f"{cudnn // 10000}.{cudnn // 100 % 100}.{cudnn % 100}"
    if not (torch_version.startswith("2.9.") and 90800 <= cudnn < 91500):
        return shown
    return f"{shown}: with torch 2.9, --precision bf16 and fp16 are slow; use torch 2.10 or --precision fp32"


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
