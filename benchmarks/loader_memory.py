"""Does the memory of a loader stay flat? RSS of all its processes over many clips, as a picture.

    python benchmarks/loader_memory.py [--clips 20000] [--workers 2] [--out loader_memory.png]

It generates 200 short videos, lists each of them a hundred times, and reads training clips for `dsm` as a run
does. RSS counts a shared page once for every process, so the sum is an upper bound.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import tyro

from dsm.data.clips import EpochBatches, TrainingClips
from dsm.data.lists import VideoList, read_list, write_list
from dsm.data.loading import Batches
from dsm.data.settings import ClipConfig
from dsm.disturb.spatial_mix import SpatialMix
from dsm.disturb.temporal import TemporalMix
from dsm.synthetic.motionscenes import write_motionscenes
from dsm.synthetic.settings import MotionScenesConfig
from dsm.views import Augment, View

BATCH = 16


@dataclass(frozen=True)
class Options:
    clips: int = 20000
    workers: int = 2
    out: Path = Path("loader_memory.png")


def resident() -> list[float]:
    """Memory of this process, and of each of its workers, in MB."""
    workers = sorted(child.pid for child in multiprocessing.active_children() if child.pid)
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in [os.getpid(), *workers]]
    return [count * 4096 / 2**20 for count in pages]


def main(options: Options) -> None:
    with tempfile.TemporaryDirectory() as folder:
        scenes = Path(folder)
        write_motionscenes(MotionScenesConfig(train=200, test=10), scenes)
        videos = read_list(scenes / "train.txt")
        again = np.tile(np.arange(len(videos)), 100)
        names = [videos.paths[place] for place in again]
        write_list(scenes / "long.txt", VideoList(names, videos.labels[again], videos.frames[again], scenes))
        views = (
            View("anchor", spatial=SpatialMix()),
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
                memory.append(resident())
    seconds = time.monotonic() - begun
    each = np.array(memory)  # (readings, processes)
    early, late = each[len(each) // 10 : len(each) // 5].mean(0), each[-len(each) // 10 :].mean(0)
    print(
        f"{options.clips} clips in {seconds:.0f} s: {early.sum():.0f} MB after a tenth, {late.sum():.0f} MB "
        f"at the end (main process {early[0]:.0f} -> {late[0]:.0f}, workers "
        + ", ".join(f"{one:.0f} -> {two:.0f}" for one, two in zip(early[1:], late[1:], strict=True))
        + ")"
    )
    figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
    axes.plot(loaded, each.sum(1), label="all")
    axes.plot(loaded, each[:, 0], label="main process")
    axes.plot(loaded, each[:, 1:], label=[f"worker {number + 1}" for number in range(each.shape[1] - 1)])
    axes.legend(frameon=False, ncols=4, loc="lower right")
    axes.set(xlabel="clips", ylabel="RSS, MB", ylim=(0, 1.15 * each.sum(1).max()))
    figure.savefig(options.out, dpi=110)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
