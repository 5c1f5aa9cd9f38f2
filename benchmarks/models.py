"""How fast backbones train: float32, float32 in channels_last_3d and guarded bfloat16, interleaved.

    python benchmarks/models.py [--models i3d tiny] [--batch 8] [--rounds 5] [--threads 2] [--json FILE]

One step is a forward and a backward pass over random clips, 16x112x112 if not told otherwise. In each
round every way runs once, one after the other, so that a slow moment of the machine meets them all;
rates are medians over rounds, and so are ratios, each to plain float32 in the same round. A first
round, in which memory is set up, is not counted.
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

WAYS: dict[str, tuple[Precision, torch.memory_format]] = {
    "fp32": ("fp32", torch.contiguous_format),
    "fp32 channels last": ("fp32", torch.channels_last_3d),
    "bf16 guarded": ("bf16", torch.channels_last_3d),
}


@dataclass(frozen=True)
class Options:
    models: tuple[str, ...] = tuple(sorted(MODELS))
    batch: int = 8
    """Smaller for heavy models."""
    frames: int = 16
    size: int = 112
    rounds: int = 5
    threads: int = 2
    json: Path | None = None
    """Where the numbers are written, too."""


def build_step(name: str, way: str, clips: Tensor) -> Callable[[], None]:
    precision, memory_format = WAYS[way]
    model = create_model(name).to(memory_format=memory_format)
    clips = clips.contiguous(memory_format=memory_format)

    def step() -> None:
        model.zero_grad()
        encode(model, clips, precision).square().mean().backward()

    return step


def measure(name: str, clips: Tensor, rounds: int) -> dict[str, list[float]]:
    """Clips a second of each way in each round."""
    steps = {way: build_step(name, way, clips) for way in WAYS}
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(rounds + 1):
        for way, step in steps.items():
            begun = time.perf_counter()
            step()
            if number:
                rates[way].append(len(clips) / (time.perf_counter() - begun))
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
        for way, values in rates.items():
            ratios = np.array(values) / np.array(rates["fp32"])
            print(
                f"{name:12} {way:20} {np.median(values):8.1f}   "
                f"{np.median(ratios):.2f}  ({ratios.min():.2f} to {ratios.max():.2f})",
                flush=True,
            )
        results[name] = rates
    if options.json:
        record = {"shape": shape, "threads": options.threads, "clips_per_second": results}
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
