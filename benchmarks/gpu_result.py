"""What `dsm` learns that `moco` does not, on a GPU: MotionScenes of the preset `full`, videos of 128².

    python benchmarks/gpu_result.py [--minutes 8] [--backbone r3d18] [--json gpu-result.json]
    python benchmarks/gpu_result.py --videos 8000 --steps 3000 --seeds 0 1
    python benchmarks/gpu_result.py --quick

It writes and packs 3,000 of the preset's 8,000 training videos, and 1,000 to test, on all cores: about 90
seconds on 16. It pretrains `moco` and `dsm` with the same backbone, clips (16x112²), steps and seed in bf16:
as many steps as fit into the minutes, which it finds out by timing some; the second command sets all itself.
It compares both with random weights: retrieval (R@1) of the videos of test_free, whose scenes say nothing
about the motion, among the training videos, and a linear probe trained on these. All is in one folder: the
same command continues after an interruption. Nothing is downloaded. `--quick` is a tiny copy on any machine,
which shows that the benchmark works, and nothing about the methods.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import tyro

from dsm.data.lists import read_list
from dsm.data.settings import ClipConfig
from dsm.devices import algorithms, best_device, reading_workers
from dsm.evaluate.extract import extract_by_all
from dsm.evaluate.features import Features
from dsm.evaluate.probe import linear_probe
from dsm.evaluate.retrieval import recall_rows, retrieve
from dsm.models.precision import fast_in_bf16
from dsm.models.weights import load_weights
from dsm.runs.folder import read_record, versions
from dsm.runs.results import Row, share
from dsm.synthetic.motionscenes import write_motionscenes
from dsm.synthetic.settings import PRESETS, MotionScenesConfig
from dsm.terminal import progress, show_progress
from dsm.train.config import DataConfig, MonitorConfig, PretrainConfig
from dsm.train.prepare import train_mode
from dsm.train.pretrain import build_trainer, pretrain
from dsm.train.progress import StepTimer
from dsm.train.start import train_once
from dsm.verbs.pack import pack
from dsm.verbs.settings.data import PackConfig
from dsm.workers import usable_cores

TRAINED = ("moco", "dsm")
RUNS = ("random", *TRAINED)
TEST = "test_free"
TIMED = 15
"""Steps of a method that are timed, after as many others."""
AROUND = 90.0
"""Seconds a seed for all but the steps: the timing, starts and ends of the runs, features and probes."""
FEWEST_STEPS, MOST_STEPS = 20, 3000


@dataclass(frozen=True)
class Options:
    out: Path = Path("runs/gpu-result")
    """Folder of the videos, packs and runs."""
    backbone: str = "r3d18"
    """r3d18 or i3d."""
    videos: int = 3000
    """Training videos to write."""
    minutes: float = 8.0
    """Time for everything, as far as the steps are not given."""
    steps: int | None = None
    """Training steps of each method; by default as many as fit into the minutes."""
    batch: int = 32
    seeds: tuple[int, ...] = (0,)
    precision: Literal["bf16", "fp32"] = "bf16"
    quick: bool = False
    """Few small videos, a tiny network and few steps, for any machine."""
    json: Path = Path("gpu-result.json")
    """Write the numbers to this file."""


FULL_CLIP = ClipConfig(frames=16, stride=3, resize=128, size=112)
QUICK_CLIP = ClipConfig(frames=4, stride=3, resize=40, size=32)
QUICK_SCENES = replace(PRESETS["demo"], train=32, test=12)


def make_lists(scenes: MotionScenesConfig, clip: ClipConfig, out: Path) -> dict[str, Path]:
    """Write the videos and pack them; the packs' lists."""
    with progress("writing videos", scenes.train + scenes.test) as bar:
        write_motionscenes(scenes, out / "scenes", splits=("train", TEST), on_progress=bar.update)
    lists = {}
    for split in ("train", TEST):
        folder = out / "packs" / split
        if not (folder / "list.txt").exists():
            pack(  # shards so small that each core has some
                PackConfig(
                    out / "scenes" / f"{split}.txt", folder, short_side=clip.resize, shard_videos=25,
                    workers=usable_cores(),
                )
            )  # fmt: skip
        lists[split] = folder / "list.txt"
    return lists


def run_of(options: Options, train: Path, clip: ClipConfig, method: str, seed: int) -> PretrainConfig:
    """The settings of a run; its steps must be known."""
    assert options.steps is not None
    return PretrainConfig(
        DataConfig(train, batch_size=options.batch), out=options.out / f"{method}-seed{seed}", method=method,
        backbone=options.backbone, steps=options.steps, clip=clip, precision=options.precision, seed=seed,
        monitor=MonitorConfig(videos=0), keep=1,
    )  # fmt: skip


def steps_that_fit(options: Options, train: Path, clip: ClipConfig, seconds: float) -> int:
    """The number of steps that both methods can take in so many seconds, by timing some of each.

    A run that was begun keeps its number.
    """
    begun = read_record(options.out / f"{TRAINED[0]}-seed{options.seeds[0]}")
    if begun:
        return int(begun["config"]["steps"])
    a_step = 0.0
    for method in TRAINED:
        run = run_of(replace(options, steps=MOST_STEPS), train, clip, method, options.seeds[0])
        trainer = build_trainer(replace(run, out=options.out / "timing" / method, overwrite=True))
        train_mode(trainer.method)
        batches = iter(trainer.batches)
        with algorithms(trainer.fabric.device.type, deterministic=False):
            for number in range(2 * TIMED):
                if number == TIMED:  # the first ones wait for the workers, and time cuDNN's algorithms
                    at = time.monotonic()
                trainer.train_step(batches, StepTimer())
            a_step += (time.monotonic() - at) / TIMED
        batches.close()
    steps = int((seconds / len(options.seeds) - AROUND) / a_step)
    return max(min(steps, MOST_STEPS), FEWEST_STEPS)


def features_of(
    weights: list[str],
    options: Options,
    seed: int,
    lists: dict[str, Path],
    clip: ClipConfig,
) -> list[dict[str, Features]]:
    """For each of the weights, the features of each list."""
    encoders = []
    for one in weights:
        torch.manual_seed(seed)
        encoders.append(load_weights(one, backbone=options.backbone).module.to(best_device()))
    found: list[dict[str, Features]] = [{} for _ in weights]
    for split, listed in lists.items():
        videos = read_list(listed)
        with progress(f"features of {split}", len(videos)) as bar:
            extracted = extract_by_all(
                encoders, videos, clip, workers=reading_workers(None), precision=options.precision,
                on_progress=bar.update,
            )  # fmt: skip
        for of_run, features in zip(found, extracted, strict=True):
            of_run[split] = features
    return found


def rows_of(run: str, seed: int, features: dict[str, Features]) -> Iterator[Row]:
    """Retrieval of the tests in the training videos, and a linear probe trained on them."""
    yield from recall_rows(run, seed, TEST, retrieve(features["train"], features[TEST]))
    (hits,) = linear_probe(features["train"], [features[TEST]])
    yield share(run, seed, TEST, "linear_probe", hits)


def main(options: Options) -> None:
    show_progress()
    device, clip, scenes = best_device(), FULL_CLIP, replace(PRESETS["full"], train=options.videos)
    if options.quick:
        options = replace(
            options,
            out=options.out / "quick",
            backbone="tiny",
            videos=QUICK_SCENES.train,
            minutes=0,
            batch=8,
            precision="fp32",
        )
        clip, scenes = QUICK_CLIP, QUICK_SCENES
    elif not fast_in_bf16(device.type) or device.type == "cpu":
        raise SystemExit(
            "this takes days without a GPU with bfloat16; --quick shows whether the benchmark works."
        )
    begun = time.monotonic()
    lists = make_lists(scenes, clip, options.out)
    rows: list[Row] = []
    seconds: dict[str, float] = {"data": time.monotonic() - begun}
    if options.steps is None:
        left = 60 * options.minutes - seconds["data"]
        timing = time.monotonic()
        options = replace(options, steps=steps_that_fit(options, lists["train"], clip, left))
        seconds["timing"] = time.monotonic() - timing
    for seed in options.seeds:
        for method in TRAINED:
            begun = time.monotonic()
            train_once(run_of(options, lists["train"], clip, method, seed), pretrain)
            seconds[f"{method}-seed{seed}"] = time.monotonic() - begun
        begun = time.monotonic()
        weights = ["none", *(str(options.out / f"{method}-seed{seed}") for method in TRAINED)]
        found = features_of(weights, options, seed, lists, clip)
        for name, features in zip(RUNS, found, strict=True):
            rows += rows_of(name, seed, features)
        seconds[f"evaluation-seed{seed}"] = time.monotonic() - begun
    machine = {**versions(), "cores": usable_cores(), "device": device.type}
    if device.type == "cuda":
        machine["card"] = torch.cuda.get_device_name()
    named = ("backbone", "videos", "steps", "batch", "precision", "quick")
    made = {name: getattr(options, name) for name in named}
    results = {"machine": machine, "settings": made, "seconds": seconds, "rows": [*map(asdict, rows)]}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(results, indent=2) + "\n")
    print(", ".join(f"{name} {value}" for name, value in {**machine, **made}.items()))
    print(f"{f'{TEST}, chance {1 / scenes.motions:.1%}':24s}{'R@1':>26s}{'linear probe':>26s}")
    for name in RUNS:
        cells = [
            f"{row.value:.1%} {row.interval('({:.1%} to {:.1%})')}" for metric in ("R@1", "linear_probe")
            for row in rows if (row.run, row.metric, row.seed) == (name, metric, options.seeds[0])
        ]  # fmt: skip
        print(f"{name:24s}" + "".join(f"{cell:>26s}" for cell in cells))
    print(", ".join(f"{name} {value:.0f} s" for name, value in seconds.items()) + f"; {options.json}")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
