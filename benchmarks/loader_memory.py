"""Does the memory of a loader stay flat? RSS of all its processes over many clips, as a picture.

    python benchmarks/loader_memory.py [--clips 20000] [--workers 2] [--out loader_memory.png]

It makes 200 short videos, names each of them a hundred times in a list, and reads training clips for `dsm`
from it as a run does. RSS counts pages that processes share once for each, so the sum is an upper bound.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from dsm.augment import Augment
from dsm.datasets.clips import EpochBatches, TrainingClips
from dsm.datasets.lists import VideoList, read_list, write_list
from dsm.datasets.motionscenes import MotionScenesConfig, write_motionscenes
from dsm.datasets.reading import ClipConfig
from dsm.disturb.spatial import SmoothWarp
from dsm.disturb.temporal import TemporalMix
from dsm.disturb.views import View
from dsm.engine.loading import Batches

BATCH = 16


def resident(pids: list[int]) -> float:
    """MB of memory of the processes."""
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * 4096 / 2**20


def processes() -> list[int]:
    return [os.getpid(), *(child.pid for child in multiprocessing.active_children() if child.pid)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=20000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("loader_memory.png"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scenes = Path(folder)
        write_motionscenes(MotionScenesConfig(train=200, test=10), scenes)
        videos = read_list(scenes / "train.txt")
        again = np.tile(np.arange(len(videos)), 100)
        names = [videos.paths[place] for place in again]
        write_list(scenes / "long.txt", VideoList(names, videos.labels[again], videos.frames[again], scenes))
        views = (
            View("anchor", spatial=SmoothWarp()),
            View("positive"),
            View("negative", temporal=TemporalMix()),
        )
        clips = TrainingClips(
            read_list(scenes / "long.txt"), ClipConfig(8, 3, resize=62, size=48), Augment(), views, 0,
            seconds=60, workers=options.workers,
        )  # fmt: skip
        order = EpochBatches(len(clips), BATCH, 0, 0, options.clips // BATCH)
        loaded, memory = [], []
        begun = time.monotonic()
        for number, _ in enumerate(Batches(clips, order, options.workers, 60, pin_memory=False), start=1):
            if number % 10 == 0:
                loaded.append(number * BATCH)
                memory.append(resident(processes()))
    seconds = time.monotonic() - begun
    early, late = np.mean(memory[len(memory) // 10 : len(memory) // 5]), np.mean(memory[-len(memory) // 10 :])
    print(f"{options.clips} clips in {seconds:.0f} s: {early:.0f} MB after a tenth, {late:.0f} MB at the end")
    figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
    axes.plot(loaded, memory)
    axes.set(xlabel="clips", ylabel="RSS of all processes, MB", ylim=(0, 1.15 * max(memory)))
    figure.savefig(options.out, dpi=110)


if __name__ == "__main__":
    main()
