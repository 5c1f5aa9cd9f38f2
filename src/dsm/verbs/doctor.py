"""``dsm doctor``: versions, device, codecs and extras of this machine."""

from __future__ import annotations

import platform

import av
import torch
from rich.markup import escape
from rich.table import Table

from dsm.devices import best_device
from dsm.extras import installed_extras
from dsm.models.precision import fast_in_bf16
from dsm.runs.folder import versions
from dsm.settings import takes_settings
from dsm.terminal import many
from dsm.verbs.result import Result
from dsm.verbs.settings.weights import DoctorConfig
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
    device = best_device()  # first, as it limits the threads to the usable cores
    table.add_row("torch threads", str(torch.get_num_threads()))
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
