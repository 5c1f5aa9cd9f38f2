"""What checksums cost: writing and reading checkpoints, features and packs with and without them, in turn.

    python benchmarks/seals.py [--mb 500] [--rounds 7]

Prints the smallest time of all rounds, of the clock and of the processor.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import tyro

from dsm.evaluate.feature_files import load_features, save_features
from dsm.evaluate.features import Features
from dsm.models.checkpoint_file import read_file
from dsm.runs.checkpoint import save_checkpoint
from dsm.video import pack
from dsm.video.write import write_shard, write_video


@dataclass(frozen=True)
class Options:
    mb: int = 500
    """Size of the checkpoint, and of the features."""
    rounds: int = 7


def main(options: Options) -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        state = {"config": "{}", "method": {f"{i}": torch.randn(options.mb * 2**18 // 50) for i in range(50)}}
        rows = np.random.default_rng(0).normal(size=(options.mb * 256, 1024)).astype(np.float32)
        about = Features(rows, np.zeros(len(rows), np.int64), [str(i) for i in range(len(rows))])
        video, shard = work / "v.mp4", work / "shard-00000.tar"
        noise = np.random.default_rng(0).integers(0, 255, (240, 16, 20, 3), dtype=np.uint8)
        write_video(video, noise.repeat(8, 1).repeat(8, 2))
        write_shard(shard, [("v", video)], 128)
        checkpoint = save_checkpoint(work, 1, state, keep=1)
        save_features(work / "f.npz", about)
        member, clip = pack.find_member(shard, "v"), np.arange(0, 240, 15)

        def read_clips() -> None:
            for start in range(200):
                pack.read_packed(shard, "v", clip + start, None)

        tasks: dict[str, Callable[[], object]] = {
            f"save a checkpoint of {options.mb} MB": lambda: save_checkpoint(work, 1, state, keep=1),
            "read it": lambda: read_file(checkpoint),
            f"read features of {options.mb} MB": lambda: load_features(work / "f.npz"),
            "read 200 clips of 16 frames from a pack": read_clips,
        }
        without = (
            mock.patch("dsm.runs.checkpoint.seal_zip"),
            mock.patch("dsm.models.checkpoint_file.check_zip"),
            mock.patch("dsm.evaluate.feature_files.check_zip"),
            mock.patch("dsm.video.pack.find_member", return_value=member._replace(checksums=0)),
        )
        times: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
        for _ in range(options.rounds):
            for name, task in tasks.items():
                for place in (0, 1):
                    for patch in () if place else without:
                        patch.start()
                    clock, processor = time.perf_counter(), time.process_time()
                    task()
                    spent = time.perf_counter() - clock, time.process_time() - processor
                    times[name, place].append(spent)
                    mock.patch.stopall()
        for name in tasks:
            least = [[min(column) for column in zip(*times[name, place], strict=True)] for place in (0, 1)]
            print(
                f"{name}: {least[0][0]:.3f} s without, {least[1][0]:.3f} s with "
                f"(processor {least[0][1]:.3f} and {least[1][1]:.3f} s)",
                flush=True,
            )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
