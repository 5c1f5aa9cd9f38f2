"""ReLU in bfloat16: ours beside PyTorch's, interleaved in one run, alone and in I3D.

    python benchmarks/relu.py [--rounds 7] [--threads 2]

I3D sees four clips of 16x112x112 in training mode, without and with a gradient; the other way is the same
guard without its ReLU. Ratios are medians over rounds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F

from dsm.models import precision
from dsm.models.precision import channels_last, compute_in
from dsm.models.relu import relu
from dsm.models.zoo import create_model


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    maps = torch.randn(8, 64, 8, 56, 56).to(memory_format=torch.channels_last_3d).bfloat16()
    clips = torch.randn(4, 3, 16, 112, 112).to(memory_format=torch.channels_last_3d)
    encoder = channels_last(create_model("i3d")).train()

    def forward() -> torch.Tensor:
        with compute_in("bf16", "cpu"):
            return encoder(clips)

    def step() -> None:
        forward().float().sum().backward()

    def plain(x: torch.Tensor, inplace: bool = False) -> torch.Tensor:
        with torch._C.DisableTorchFunction():
            return F.relu(x, inplace)

    def with_plain(work: Callable[[], object]) -> Callable[[], object]:
        def patched() -> object:
            with mock.patch.object(precision, "relu", plain):
                return work()

        return patched

    works: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "8x64x8x56x56, in place": (lambda: relu(maps, inplace=True), lambda: F.relu(maps, inplace=True)),
        "8x64x8x56x56": (lambda: relu(maps), lambda: F.relu(maps)),
        "I3D forward": (torch.no_grad()(forward), with_plain(torch.no_grad()(forward))),
        "I3D forward and backward": (
            step, with_plain(step)
        ),
    }  # fmt: skip
    print(f"{'ms (medians)':28s} {'ours':>8s} {'torch':>8s} {'torch / ours':>13s}   {args.threads} threads")
    for name, ways in works.items():
        for way in ways:
            way()
        times = np.array([[seconds(way) for way in ways] for _ in range(args.rounds)])
        ours, theirs = 1e3 * np.median(times, axis=0)
        print(f"{name:28s} {ours:8.1f} {theirs:8.1f} {np.median(times[:, 1] / times[:, 0]):13.2f}")


if __name__ == "__main__":
    main()
