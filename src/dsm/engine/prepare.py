"""A method made ready for its devices: layout, norms over processes, memory, compilation."""

from __future__ import annotations

from typing import Any

from lightning_fabric import Fabric

from dsm.engine.progress import console
from dsm.engine.run import RunConfig
from dsm.engine.sync_norm import synchronise_norms
from dsm.models.precision import channels_last, fast_in_bf16
from dsm.models.recompute import recompute_stages


def prepare(method: Any, config: RunConfig, fabric: Fabric) -> None:
    """Change a method in place, as a run's settings and processes want it; the numbers stay the same."""
    device = fabric.device.type
    if config.precision == "bf16" and fabric.is_global_zero and not fast_in_bf16(device):
        console.print(
            f"this {device} has no instructions for bfloat16 and is many times slower in it; "
            "--precision fp32 is the fast one here.",
            style="bold yellow",
        )
    channels_last(method)
    if fabric.world_size > 1:
        synchronise_norms(method, fabric.device)
    if config.recompute:
        recompute_stages(method.query.encoder, config.precision, device)
    if config.compile:
        method.query.encoder.compile()
