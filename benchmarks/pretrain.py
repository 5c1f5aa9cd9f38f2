"""Training speed of a run: whole iterations of `dsm` from videos, frame folders and memory, interleaved.

    python benchmarks/pretrain.py [--backbone i3d] [--batch 4] [--rounds 5] [--list NAME=LIST …] [--json FILE]
    python benchmarks/pretrain.py --memory 500

It generates its videos with the size and length of UCF101's (320x240, 186 frames): MPEG-4 in avi like
UCF101's, and H.264 with a keyframe every twelve frames, which takes longer to decode. A clip is 16 frames,
every fourth, 112x112 of 128. Each iteration decodes anchor, positive and negative, augments and disturbs
them, and makes a step of SGD. In each round every variant trains for some steps, one after the other, so a
slow moment of the machine affects all of them. The first steps of a round are not counted, because their
batches were loaded while another variant trained. Ratios are medians over rounds. `memory` is the same loop
with batches that are already in memory.

The breakdown is measured separately, in one process, without a loader. With ``--memory`` it trains for many
steps instead, and prints the memory of the run and its loader.
"""

from __future__ import annotations

import copy
import itertools
import json
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from videos import VIDEOS, make_video

from dsm.data.clips import collate
from dsm.data.lists import VideoList, write_list
from dsm.models.precision import compute_in, fast_in_bf16
from dsm.models.settings import Precision
from dsm.render import render_view
from dsm.train.config import DataConfig, OptimConfig, PretrainConfig
from dsm.train.pretrain import build_trainer
from dsm.train.progress import StepTimer
from dsm.train.trainer import Trainer
from dsm.verbs.frames import frames
from dsm.verbs.settings.data import FramesConfig
from dsm.views import View

# Without instructions for bfloat16 it is many times slower, so nobody uses it.
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16") if fast_in_bf16("cpu") else ("fp32",)
UNCOUNTED = 2
CODECS = {"videos, MPEG-4": "mpeg4-avi", "videos, H.264": "h264-gop12"}
LENGTH = 186
SGD = OptimConfig("sgd", lr=0.003, weight_decay=1e-4, schedule="step", warmup=0)


@dataclass(frozen=True)
class Options:
    backbone: str = "i3d"
    batch: int = 4
    rounds: int = 5
    steps: int = 6
    """Counted steps per variant and round."""
    workers: int = 1
    list: tuple[str, ...] = ()
    """Further lists to measure: NAME=LIST."""
    memory: int = 0
    """Print the memory over this many steps instead."""
    json: Path | None = None
    """Also write the numbers to this file."""


def make_data(folder: Path, count: int) -> dict[str, Path]:
    """Lists of the same clips, as video files of two codecs and as folders of frames."""
    lists = {title: make_videos(folder, name, count) for title, name in CODECS.items()}
    frames(FramesConfig(lists[next(iter(CODECS))], out=folder / "frames", short_side=128))
    return {**lists, "frame folders": next((folder / "frames").glob("*.txt"))}


def make_videos(folder: Path, name: str, count: int) -> Path:
    suffix, codec, options = VIDEOS[name]
    (folder / name).mkdir(parents=True)
    files = [f"{name}/{number}.{suffix}" for number in range(count)]
    make_video(folder / files[0], codec, options, length=LENGTH)
    for other in files[1:]:
        shutil.copyfile(folder / files[0], folder / other)
    listed = folder / f"{name}.txt"
    write_list(listed, VideoList(files, np.full(count, -1), np.full(count, LENGTH), folder))
    return listed


def make_trainer(options: Options, out: Path, videos: Path, precision: Precision) -> Trainer:
    config = PretrainConfig(
        DataConfig(videos, batch_size=options.batch, workers=options.workers), out=out,
        backbone=options.backbone, steps=1_000_000, optim=SGD, precision=precision,
    )  # fmt: skip
    trainer = build_trainer(config)
    trainer.module.train()
    return trainer


def from_memory(trainer: Trainer) -> Iterator[dict[str, Any]]:
    """Repeat batches that are already in memory."""
    batches = [make_batch(trainer, number) for number in range(4)]
    for batch in itertools.cycle(batches):
        yield copy.copy(batch)


def make_batch(trainer: Trainer, number: int) -> dict[str, Any]:
    clips, size = trainer.batches.clips, trainer.config.data.batch_size
    return collate([clips[number, index % len(clips)] for index in range(size)])


def measure(options: Options, lists: dict[str, Path], folder: Path) -> dict[str, Any]:
    """Samples per second and the share of waiting, of each variant in each round."""
    variants: dict[str, tuple[Trainer, Iterator[dict[str, Any]]]] = {}
    for precision in PRECISIONS:
        for name, path in lists.items():
            trainer = make_trainer(options, folder / f"{name}-{precision}", path, precision)
            variants[f"{name}, {precision}"] = trainer, iter(trainer.batches)
        trainer = make_trainer(options, folder / f"memory-{precision}", lists[next(iter(CODECS))], precision)
        variants[f"memory, {precision}"] = trainer, from_memory(trainer)
    rates: dict[str, list[float]] = {variant: [] for variant in variants}
    waits: dict[str, list[float]] = {variant: [] for variant in variants}
    for number in range(options.rounds + 1):
        print(f"round {number} of {options.rounds}", flush=True)
        for variant, (trainer, batches) in variants.items():
            clock = StepTimer()
            for step in range(UNCOUNTED + options.steps):
                if step == UNCOUNTED:
                    clock = StepTimer()
                trainer.train_step(batches, clock)
                trainer.step += 1
            if number:  # the first round allocates memory
                reading = clock.read(options.batch)
                rates[variant].append(reading["clips_per_second"])
                waits[variant].append(reading["data_wait"])
    return {"rates": rates, "waits": waits}


def breakdown(options: Options, videos: Path, folder: Path) -> dict[str, dict[str, float]]:
    """Median milliseconds of the parts of one iteration, all in this process."""
    table = {}
    for precision in PRECISIONS:
        trainer = make_trainer(options, folder / f"breakdown-{precision}", videos, precision)
        parts: dict[str, list[float]] = {}
        for number in range(options.steps + 2):
            spent = one_iteration(trainer, number, precision)
            if number > 1:
                for name, seconds in spent.items():
                    parts.setdefault(name, []).append(seconds * 1e3)
        table[precision] = {name: float(np.median(values)) for name, values in parts.items()}
    return table


def one_iteration(trainer: Trainer, number: int, precision: Precision) -> dict[str, float]:
    spent, at = {}, time.perf_counter()

    def lap(name: str) -> None:
        nonlocal at
        now = time.perf_counter()
        spent[name], at = now - at, now

    batch = make_batch(trainer, number)
    lap("decode")
    plain = {view.name: View(view.name) for view in trainer.method.views}
    for view in trainer.method.views:
        render_view(plain[view.name], batch["clips"], batch["parameters"][view.name])
    lap("augment")
    views = trainer.render(batch)
    lap("disturb")
    spent["disturb"] -= spent["augment"]  # rotation, zoom and SLD are one resampling; this is what SLD adds
    with compute_in(precision, trainer.fabric.device.type):
        output = trainer.module(views)
    lap("forward")
    trainer.optimizer.zero_grad()
    trainer.fabric.backward(output.loss)
    lap("backward")
    trainer.optimizer.step()
    trainer.method.after_step(output.keys, 0.5)
    lap("rest")
    return spent


def watch_memory(options: Options, videos: Path, folder: Path) -> None:
    trainer = make_trainer(options, folder / "memory", videos, PRECISIONS[-1])
    batches = iter(trainer.batches)
    for step in range(1, options.memory + 1):
        trainer.train_step(batches, StepTimer())
        trainer.step += 1
        if step % max(options.memory // 10, 1) == 0:
            print(f"step {step:5d}: {resident():7.0f} MB", flush=True)


def resident() -> float:
    """Memory of this process and its workers, in MB."""
    pids = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids) * 4096 / 2**20


def report(results: dict[str, Any], batch: int) -> None:
    rates, waits = results["rates"], results["waits"]
    print(f"\n{'samples per second':28s} {'median':>7s} {'of memory':>10s} {'waiting':>8s}")
    for variant, values in rates.items():
        base = rates[f"memory, {variant.rsplit(', ', 1)[1]}"]
        share = np.median([one / other for one, other in zip(values, base, strict=True)])
        print(f"{variant:28s} {np.median(values):7.2f} {share:9.0%} {np.median(waits[variant]):8.1%}")
    for name in dict.fromkeys(variant.rsplit(", ", 1)[0] for variant in rates if "bf16" in PRECISIONS):
        ratio = np.median(
            [b / a for a, b in zip(rates[f"{name}, fp32"], rates[f"{name}, bf16"], strict=True)]
        )
        print(f"bf16 / fp32, {name}: {ratio:.2f}")
    print(f"\n{'ms per iteration':16s}" + "".join(f"{name:>10s}" for name in results["breakdown"]["fp32"]))
    for precision, parts in results["breakdown"].items():
        total = sum(parts.values())
        cells = "".join(f"{value:10.0f}" for value in parts.values())
        print(f"{precision:16s}{cells}   together {total:.0f}: {1e3 * batch / total:.2f} samples/s")


def main(options: Options) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lists = make_data(folder / "data", count=60)
        if options.memory:
            watch_memory(options, lists[next(iter(CODECS))], folder)
            return
        for given in options.list:
            title, _, path = given.partition("=")
            lists[title] = Path(path)
        results = measure(options, lists, folder / "runs")
        results["breakdown"] = breakdown(options, lists[next(iter(CODECS))], folder / "runs")
    threads = torch.get_num_threads()
    print(f"{options.backbone}, batch {options.batch}, {options.workers} worker, {threads} threads")
    report(results, options.batch)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
