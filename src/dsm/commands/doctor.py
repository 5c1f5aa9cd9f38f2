"""``dsm doctor``: is this machine ready?"""

from __future__ import annotations

import platform
from dataclasses import dataclass

import av
import torch
from rich.console import Console
from rich.table import Table

from dsm.cores import usable_cores
from dsm.engine.device import best_device
from dsm.engine.runfolder import versions
from dsm.models.precision import fast_in_bf16
from dsm.notes import many


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
