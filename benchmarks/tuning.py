"""What adapting costs: parameters trained, memory and steps a second of ``--tune``, each in its own process.

    python benchmarks/tuning.py [--tune all lora last:2 head] [--batch 4] [--size 224] [--json FILE]

The encoder is a VideoMAE of the size of ViT-B with random weights. A step is that of ``dsm``: the views of
a batch of random clips through the encoder and its momentum copy, the gradient, and AdamW. Rates are medians.
On a CPU, memory is the process's greatest less what it had before the model was built; on a GPU, what PyTorch
allocated. Linux keeps much of what tensors free, and memory then depends on the order of their sizes: begin
the command with ``MALLOC_MMAP_THRESHOLD_=1000000`` to give it back, which costs some time.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro

from dsm.devices import best_device
from dsm.methods import MethodSettings
from dsm.methods.registry import create_method
from dsm.models.tuning import tuned
from dsm.models.zoo import create_model
from dsm.train.optim import OptimConfig, build_optimizer
from dsm.train.prepare import train_mode

SIZES: dict[str, dict[str, int]] = {
    "base": {},
    "tiny": {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768},
}
"""Settings of VideoMAE; ViT-B's are its defaults."""


@dataclass(frozen=True)
class Options:
    tune: tuple[str, ...] = ("all", "lora", "last:2", "head")
    rank: int = 8
    model: Literal["base", "tiny"] = "base"
    """`base`, or `tiny` to try the benchmark."""
    batch: int = 4
    frames: int = 16
    size: int = 224
    steps: int = 5
    """Steps that are timed, after two that are not."""
    threads: int = 2
    json: Path | None = None
    """Also write the numbers to this file."""


def measure(options: Options) -> dict[str, float]:
    """The numbers of the one way of ``options.tune``."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device, empty = best_device(), peak_memory()
    encoder = create_model(
        "hf:videomae", image_size=options.size, num_frames=options.frames, **SIZES[options.model]
    )
    encoder, _ = tuned(encoder, options.tune[0], options.rank)
    method = create_method("dsm", encoder, MethodSettings()).to(device)
    optimizer = build_optimizer(OptimConfig(), method)
    train_mode(method)
    shape = (options.batch, 3, options.frames, options.size, options.size)
    views = {view.name: torch.randn(shape, device=device) for view in method.views}
    seconds = []
    for _ in range(options.steps + 2):
        begun = time.perf_counter()
        optimizer.zero_grad()
        method(views).loss.backward()
        optimizer.step()
        method.after_step(None, progress=0.5)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated() / 1e6
    else:
        memory = peak_memory() - empty
    return {
        "trained": sum(p.numel() for p in method.parameters() if p.requires_grad) / 1e6,
        "of": sum(p.numel() for p in method.query.parameters()) / 1e6,
        "memory": memory,
        "rate": 1 / float(np.median(seconds[2:])),
    }


def peak_memory() -> float:
    """The greatest memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main(options: Options) -> None:
    if len(options.tune) == 1:
        print(json.dumps(measure(options)))
        return
    found = {}
    print(f"{options.model}, {options.batch} clips of {options.frames} x {options.size}² on {best_device()}")
    print(f"{'':8}{'trained (M)':>12}{'of (M)':>9}{'memory (MB)':>13}{'steps/s':>10}")
    for how in options.tune:
        flags = {**asdict(options), "tune": how, "json": None}
        line = [
            word for name, value in flags.items() if value is not None for word in (f"--{name}", str(value))
        ]
        output = subprocess.run([sys.executable, __file__, *line], check=True, capture_output=True, text=True)
        found[how] = json.loads(output.stdout.splitlines()[-1])
        print("{:8}{trained:12.2f}{of:9.1f}{memory:13.0f}{rate:10.3f}".format(how, **found[how]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options))
