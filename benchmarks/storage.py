"""Training speed from packs in an S3 server on the loopback, against the same packs on the local disk.

    python benchmarks/storage.py [--latency-ms 20] [--rounds 7] [--steps 20] [--json FILE]

Needs the extra `storage`, and moto for the server: pip install 'moto[server]'. It makes videos of the size
and length of UCF101's, packs them, uploads the pack, and trains `dsm` with the `tiny` backbone on 64x64 crops
from three places in turn: `local`, `warm` (every byte is in the cache already) and `cold` (the cache is empty
at first). Each answer of the server comes after a latency. In each round every variant trains for some steps,
one after the other and each round in another order, so a slow moment of the machine affects all; ratios
are medians over rounds of the ratio within a round. The first steps of `local` and `warm` in a round are not
counted, because their batches were loaded while another variant trained; of `cold` a whole epoch is, from its
first request.

First it prints the time of a core that reading alone takes, from the disk and from the full cache.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from videos import VIDEOS, make_video

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from stores import Store, s3_store, upload

from dsm.data.lists import VideoList, write_list
from dsm.data.settings import ClipConfig
from dsm.storage import cache, objects
from dsm.train.config import DataConfig, OptimConfig, PretrainConfig
from dsm.train.pretrain import build_trainer
from dsm.train.progress import StepTimer
from dsm.train.trainer import Trainer
from dsm.verbs.pack import pack
from dsm.video.pack import read_packed

BUCKET = "videos"
SGD = OptimConfig("sgd", lr=0.003, weight_decay=1e-4, schedule="step", warmup=0)


@dataclass(frozen=True)
class Options:
    latency_ms: float = 20.0
    """Milliseconds before each answer of the server."""
    videos: int = 64
    batch: int = 8
    workers: int = 1
    rounds: int = 7
    steps: int = 20
    """Counted steps per variant and round."""
    backbone: str = "tiny"
    """A fast backbone and small clips make reading the bottleneck."""
    frames: int = 16
    size: int = 64
    json: Path | None = None
    """Also write the numbers to this file."""


def make_pack(folder: Path, count: int) -> Path:
    suffix, codec, options = VIDEOS["h264-gop12"]
    (folder / "videos").mkdir()
    files = [f"videos/{number}.{suffix}" for number in range(count)]
    make_video(folder / files[0], codec, options, length=186)
    for other in files[1:]:
        shutil.copyfile(folder / files[0], folder / other)
    write_list(folder / "list.txt", VideoList(files, np.full(count, -1), np.full(count, 186), folder))
    pack(videos=folder / "list.txt", out=folder / "served" / "pack", workers=1, shard_videos=16)
    return folder / "served" / "pack"


def make_trainer(options: Options, listed: str, out: Path) -> Trainer:
    data = DataConfig(Path(listed), batch_size=options.batch, workers=options.workers)
    config = PretrainConfig(
        data,
        out=out,
        backbone=options.backbone,
        steps=1_000_000,
        optim=SGD,
        overwrite=True,
        clip=ClipConfig(frames=options.frames, size=options.size),
    )
    trainer = build_trainer(config)
    trainer.module.train()
    return trainer


def rate(trainer: Trainer, batches: Iterator[dict[str, Any]], steps: int, *, uncounted: int) -> float:
    """Samples per second over some steps."""
    for step in range(uncounted + steps):
        if step == uncounted:
            begun = time.perf_counter()
        trainer.train_step(batches, StepTimer())
        trainer.step += 1
    return steps * trainer.config.data.batch_size / (time.perf_counter() - begun)


def measure(options: Options, store: Store, packed: Path, folder: Path) -> dict[str, list[float]]:
    places = {"local": str(packed / "list.txt"), "warm": f"s3://{BUCKET}/pack/list.txt"}
    store.latency = options.latency_ms / 1000
    for file in packed.iterdir():
        fill(f"s3://{BUCKET}/pack/{file.name}")
    print(
        "a clip of 16 frames: {:.2f} ms of a core from the disk, {:.2f} from the full cache".format(
            *reading(packed)
        )
    )
    running = {}
    for name, listed in places.items():
        trainer = make_trainer(options, listed, folder / f"run {name}")
        running[name] = trainer, iter(trainer.batches)
    rates: dict[str, list[float]] = {"local": [], "warm": [], "cold": []}
    turns = itertools.cycle(itertools.permutations(rates))
    for number in range(options.rounds + 1):
        for name in next(turns):
            if name == "cold":
                one = cold_rate(options, places["warm"], folder)
            else:
                one = rate(*running[name], options.steps, uncounted=3)
            if number:  # the first round allocates memory
                rates[name].append(one)
        shown = ", ".join(f"{name} {some[-1]:.1f}" for name, some in rates.items() if some)
        print(f"round {number} of {options.rounds}  {shown}", flush=True)
    return rates


def cold_rate(options: Options, listed: str, folder: Path) -> float:
    """Samples per second of an epoch that begins with an empty cache, the start of the workers included."""
    cache.set_cache(folder / "cold", None)
    objects.forget_all()
    trainer = make_trainer(options, listed, folder / "run cold")
    batches = iter(trainer.batches)
    try:
        return rate(trainer, batches, options.videos // options.batch, uncounted=0)
    finally:
        batches.close()  # type: ignore[attr-defined]
        shutil.rmtree(folder / "cold")
        cache.set_cache(folder / "warm", None)


def reading(packed: Path, rounds: int = 40) -> tuple[float, float]:
    """Median milliseconds of a core to read a clip of 16 frames from the disk, and from the full cache.

    Other work on the machine changes them little, as time that it takes is not counted.
    """
    near, far = packed / "shard-00000.tar", Path(f"s3://{BUCKET}/pack/shard-00000.tar")
    names = list(json.loads(near.with_suffix(".json").read_text())["members"])
    spent: dict[Path, list[float]] = {near: [], far: []}
    for number in range(rounds):
        for shard in (near, far) if number % 2 else (far, near):
            begun = time.process_time()
            for name in names:
                read_packed(shard, name, np.arange(0, 64, 4) + number, 128)
            spent[shard].append((time.process_time() - begun) / len(names) * 1e3)
    return statistics.median(spent[near]), statistics.median(spent[far])


def fill(url: str) -> None:
    """Read an object as packs are read, so that its blocks are in the cache."""
    size = objects.facts_of(url).size
    objects.read_pieces(url, [(0, memoryview(bytearray(size)))])


def main(options: Options) -> None:
    with tempfile.TemporaryDirectory() as name, s3_store(BUCKET) as store:
        folder = Path(name)
        os.environ |= {
            "AWS_ENDPOINT_URL": store.url, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
        }  # fmt: skip
        cache.set_cache(folder / "warm", None)
        packed = make_pack(folder, options.videos)
        size = sum(file.stat().st_size for file in packed.iterdir())
        upload(store, BUCKET, packed.parent)
        rates = measure(options, store, packed, folder)
    print(
        f"{options.videos} videos, {size / 1e6:.0f} MB packed; {options.latency_ms:g} ms before each answer"
    )
    about: dict[str, Any] = {"megabytes": size / 1e6, "rates": rates}
    for name, some in rates.items():
        ratios = [one / local for one, local in zip(some, rates["local"], strict=True)]
        about[f"{name}/local"] = statistics.median(ratios)
        print(
            f"{name:6} {statistics.median(some):7.1f} samples/s, {statistics.median(ratios):6.1%} of local "
            f"(rounds: {min(ratios):.1%} to {max(ratios):.1%})"
        )
    if options.json:
        options.json.write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options))
