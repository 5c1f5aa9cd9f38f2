"""Training speed of backbones: float32, float32 in channels_last_3d and guarded bfloat16, interleaved.

    python benchmarks/models.py [--models i3d tiny] [--batch 8] [--rounds 5] [--threads 2] [--json FILE]

One step is a forward and a backward pass over random clips, 16x112x112 by default. In each round every
variant runs once, one after the other, so a slow moment of the machine affects all of them. Rates are medians
over rounds, and so are ratios, each to plain float32 in the same round. A first round, which allocates
memory, is not counted.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import Tensor

from dsm.models.precision import encode
from dsm.models.settings import Precision
from dsm.models.zoo import MODELS, create_model

VARIANTS: dict[str, tuple[Precision, torch.memory_format]] = {
    "fp32": ("fp32", torch.contiguous_format),
    "fp32 channels last": ("fp32", torch.channels_last_3d),
    "bf16 guarded": ("bf16", torch.channels_last_3d),
}


@dataclass(frozen=True)
class Options:
    models: tuple[str, ...] = tuple(sorted(MODELS))
    batch: int = 8
    """Use a smaller one for large models."""
    frames: int = 16
    size: int = 112
    rounds: int = 5
    threads: int = 2
    json: Path | None = None
    """Also write the numbers to this file."""


def build_step(name: str, variant: str, clips: Tensor) -> Callable[[], None]:
    precision, memory_format = VARIANTS[variant]
    model = create_model(name).to(memory_format=memory_format)
    clips = clips.contiguous(memory_format=memory_format)

    def step() -> None:
        model.zero_grad()
        encode(model, clips, precision).square().mean().backward()

    return step


def measure(name: str, clips: Tensor, rounds: int) -> dict[str, list[float]]:
    """Clips per second, of each variant in each round."""
    steps = {variant: build_step(name, variant, clips) for variant in VARIANTS}
    rates: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for number in range(rounds + 1):
        for variant, step in steps.items():
            begun = time.perf_counter()
            step()
            if number:
                rates[variant].append(len(clips) / (time.perf_counter() - begun))
    return rates


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    shape = (options.batch, 3, options.frames, options.size, options.size)
    clips = torch.randn(shape)
    print(f"{'x'.join(map(str, shape))}, {options.threads} threads, forward and backward")
    print(f"{'':12} {'':20} {'clips/s':>8}   times fp32")
    results = {}
    for name in options.models:
        rates = measure(name, clips, options.rounds)
        for variant, values in rates.items():
            ratios = np.array(values) / np.array(rates["fp32"])
            print(
                f"{name:12} {variant:20} {np.median(values):8.1f}   "
                f"{np.median(ratios):.2f}  ({ratios.min():.2f} to {ratios.max():.2f})",
                flush=True,
            )
        results[name] = rates
    if options.json:
        record = {"shape": shape, "threads": options.threads, "clips_per_second": results}
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
