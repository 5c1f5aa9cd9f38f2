"""What a GPU does with `dsm`: rates, waiting, memory and extraction, in one run of a few minutes.

    python benchmarks/gpu.py [--minutes 8] [--json gpu.json]
    python benchmarks/gpu.py --device cpu --quick

A row trains whole iterations of `dsm` for a few seconds: read, augment, disturb, forward, backward, SGD, and
every tenth step the numbers that are logged. Rows of *rates* are fed from memory, for each backbone and
precision, with and without channels last and compilation. Rows of *feeding* read the same clips from a pack
and from videos of 320x240, MPEG-4 and H.264, with several numbers of workers. The *plain* loop is what one
would write without this package: PyAV, transforms of each clip in the workers of a DataLoader, the same
network, a like loss. *Extraction* is the loop of `dsm extract`. *Again* takes the same steps twice, with and
without `--deterministic`, and compares the weights. A row for which the GPU's memory is too small says so.

Rows are in the order of their importance, those that compile last. When the minutes are over, the rest is
left out, and named; with --begun the minutes include the tests, whose results --tests adds. The JSON file is
written after every row, so a run that is killed leaves what it measured. Nothing is downloaded.
"""

from __future__ import annotations

import copy
import errno
import gc
import itertools
import json
import os
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np
import torch
import tyro
from plain_loop import plain_batches, plain_step
from videos import VIDEOS, make_video

from dsm.data.clips import collate
from dsm.data.lists import VideoList, read_list, write_list
from dsm.data.settings import ClipConfig
from dsm.devices import algorithms
from dsm.errors import machine_fault
from dsm.evaluate.extract import extract_by_all
from dsm.models.settings import Precision
from dsm.models.zoo import create_model
from dsm.runs.folder import versions
from dsm.train.config import DataConfig, MonitorConfig, OptimConfig, PretrainConfig
from dsm.train.pretrain import build_trainer
from dsm.train.progress import StepTimer
from dsm.train.trainer import Trainer
from dsm.verbs.pack import pack
from dsm.verbs.settings.data import PackConfig
from dsm.workers import usable_cores

CODECS = {"MPEG-4": "mpeg4-avi", "H.264": "h264-gop12"}
AGAIN = 20
"""Steps that are timed and compared."""
# cuBLAS reads it when it is first used; without it `--deterministic` would not be.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
SGD = OptimConfig("sgd", lr=0.003, weight_decay=1e-4, schedule="step", warmup=0)


@dataclass(frozen=True)
class Options:
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """`auto` is CUDA, or where there is none the CPU with `quick`."""
    minutes: float = 8.0
    """Begin no row that would probably not end within so many minutes."""
    begun: float | None = None
    """When the minutes began, in seconds since 1970; by default now."""
    tests: Path | None = None
    """Results of the tests, as pytest's --junitxml writes them, to add to the numbers."""
    tests_cut: bool = False
    """The tests were ended before they were done: say so in the table."""
    batch: int = 16
    seconds: float = 3.0
    """Counted seconds of each row."""
    quick: bool = False
    """Tiny clips, a tiny network and few videos: shows that the benchmark works, not how fast anything is."""
    json: Path = Path("gpu.json")
    """Write the numbers to this file."""


@dataclass(frozen=True)
class Size:
    """What ``quick`` makes smaller."""

    backbones: tuple[str, ...] = ("i3d", "r3d18", "s3d", "c3d", "r2plus1d18")
    clip: ClipConfig = field(default_factory=ClipConfig)
    workers: tuple[int, ...] = (12, 4, 1)
    videos: int = 64
    length: int = 186
    large: ClipConfig | None = field(default_factory=lambda: ClipConfig(resize=256, size=224))
    compiled: bool = True


QUICK = Size(("tiny",), ClipConfig(frames=8, stride=2, resize=40, size=32), (2, 1), 8, 40, None, False)
COMPILING = 60.0
"""Seconds that a row which compiles may take, until one has been timed."""


@dataclass(frozen=True)
class Row:
    """A measurement: its name, and how the loop runs."""

    kind: Literal["rate", "feeding", "plain", "extraction", "again"]
    backbone: str
    clip: ClipConfig
    precision: Precision = "bf16"
    source: str = "memory"
    workers: int = 0
    tf32: bool = True
    channels_last: bool = True
    compiled: bool = False
    deterministic: bool = False
    chosen: bool = True
    """Whether cuDNN times its algorithms and takes the fastest."""
    fused: bool = True
    """Whether one kernel updates all weights."""

    def name(self) -> str:
        """Its line in the table."""
        words = [self.kind, self.backbone, f"{self.clip.frames}x{self.clip.size}²", self.precision]
        words += ["TF32"] * (self.precision == "fp32" and self.tf32)
        words += ["contiguous"] * (not self.channels_last) + ["compiled"] * self.compiled
        words += ["deterministic"] * self.deterministic + ["algorithms not timed"] * (not self.chosen)
        words += ["not fused"] * (not self.fused)
        words += [f"from {self.source}"] + [f"{self.workers} worker{'s' * (self.workers > 1)}"] * (
            self.workers > 0
        )
        return ", ".join(words)


def rows_of(size: Size) -> list[Row]:
    """All rows, the most important first."""
    first, clip, many = size.backbones[0], size.clip, size.workers[0]

    def rates(backbones: tuple[str, ...], clip: ClipConfig) -> list[Row]:
        base = [Row("rate", name, clip) for name in backbones]
        single = [replace(row, precision="fp32", tf32=tf32) for tf32 in (True, False) for row in base]
        return [*base, *single]

    feeding = [
        Row("feeding", first, clip, source=source, workers=count)
        for count in size.workers for source in ("pack", *CODECS)
    ]  # fmt: skip
    variants = [
        replace(Row("rate", name, clip), **without) for name in size.backbones
        for without in ({"channels_last": False}, {"chosen": False}, {"fused": False})
    ]  # fmt: skip
    compiled = [Row("rate", name, clip, compiled=True) for name in size.backbones if size.compiled]
    encoder = size.backbones[min(1, len(size.backbones) - 1)]
    extraction = [
        Row("extraction", encoder, clip, source=source, workers=many) for source in ("pack", *CODECS)
    ]
    again = [Row("again", encoder, clip, deterministic=exact) for exact in (False, True)]
    every = [
        *rates(size.backbones[:2], clip),
        *feeding[: 1 + len(CODECS)],
        Row("plain", first, clip, source="MPEG-4", workers=many),
        *extraction,
        *again,
        *rates(size.backbones[2:], clip),
        *variants[:3], *feeding[1 + len(CODECS) :],
    ]  # fmt: skip
    return [*every, *(rates(size.backbones, size.large) if size.large else []), *variants[3:], *compiled]


class Bench:
    """The data, and how rows are measured."""

    def __init__(self, options: Options, size: Size, folder: Path) -> None:
        self.options, self.size, self.folder = options, size, folder
        self.device = torch.device(options.device)
        self.lists = {title: self._make_videos(title, name) for title, name in CODECS.items()}
        cores = min(usable_cores(), 12)
        pack(PackConfig(self.lists["MPEG-4"], folder / "pack", short_side=size.clip.resize, workers=cores))
        self.lists["pack"] = folder / "pack" / "list.txt"
        self._batches: dict[ClipConfig, list[dict[str, Any]]] = {}
        self._runs = 0

    def _make_videos(self, title: str, name: str) -> Path:
        """Copies of one video, and their list."""
        suffix, codec, how = VIDEOS[name]
        (self.folder / name).mkdir(parents=True)
        files = [f"{name}/{number}.{suffix}" for number in range(self.size.videos)]
        make_video(self.folder / files[0], codec, how, length=self.size.length)
        for other in files[1:]:
            shutil.copyfile(self.folder / files[0], self.folder / other)
        lengths = np.full(len(files), self.size.length)
        write_list(
            self.folder / f"{title}.txt", VideoList(files, np.full(len(files), -1), lengths, self.folder)
        )
        return self.folder / f"{title}.txt"

    def measure(self, row: Row) -> dict[str, float]:
        """The numbers of a row: samples or videos a second, the share of waiting, peak memory in MB."""
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = row.tf32
        torch.manual_seed(0)
        if self.device.type == "cuda":
            gc.collect()  # the last row's trainer refers to itself
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        ways: dict[str, Callable[[Row], dict[str, float]]] = {
            "rate": self._train, "feeding": self._train, "plain": self._plain, "extraction": self._extract,
            "again": self._again,
        }  # fmt: skip
        numbers = ways[row.kind](row)
        if self.device.type == "cuda":
            numbers["peak_mb"] = torch.cuda.max_memory_allocated() / 2**20
        return numbers

    def _train(self, row: Row) -> dict[str, float]:
        trainer = self._trainer(row)
        batches = iter(trainer.batches) if row.workers else self._from_memory(trainer)

        def step(clock: StepTimer) -> None:
            output, *_ = trainer.train_step(batches, clock)
            trainer.step += 1
            if trainer.step % trainer.config.log_every == 0:
                trainer.health.read(output, trainer.step)
                clock.lap("work")

        try:
            with self._algorithms(row):
                return self._timed(step, uncounted=2 * row.workers + 3)
        finally:
            close(batches)

    @contextmanager
    def _algorithms(self, row: Row) -> Iterator[None]:
        with algorithms(self.device.type, deterministic=row.deterministic):
            torch.backends.cudnn.benchmark &= row.chosen
            yield

    def _again(self, row: Row) -> dict[str, float]:
        """How far the weights are apart after the same steps were taken twice, as a share of their norm."""
        ends, seconds = [], 0.0
        for _ in range(2):
            trainer = self._trainer(row)
            batches = self._from_memory(trainer)
            with self._algorithms(row):
                trainer.train_step(batches, StepTimer())
                begun = time.perf_counter()
                for _ in range(AGAIN):
                    trainer.step += 1
                    trainer.train_step(batches, StepTimer())
                seconds = time.perf_counter() - begun
            weights = trainer.method.query.encoder.parameters()
            ends.append(torch.cat([one.detach().double().flatten() for one in weights]).cpu())
        differs = float((ends[0] - ends[1]).norm() / ends[0].norm())
        return {"per_second": AGAIN * self.options.batch / seconds, "differs": differs}

    def _trainer(self, row: Row) -> Trainer:
        self._runs += 1
        listed = self.lists["MPEG-4" if row.source == "memory" else row.source]
        config = PretrainConfig(
            DataConfig(listed, batch_size=self.options.batch, workers=row.workers),
            out=self.folder / f"run-{self._runs}", backbone=row.backbone, steps=1_000_000, clip=row.clip,
            optim=SGD, precision=row.precision, compile=row.compiled, monitor=MonitorConfig(videos=0),
        )  # fmt: skip
        trainer = build_trainer(config, channels_last=row.channels_last, fused=row.fused)
        if trainer.fabric.device.type != self.device.type:
            raise SystemExit(f"dsm would train on {trainer.fabric.device.type}, not on {self.device.type}.")
        trainer.module.train()
        if not row.channels_last:  # the clips too
            render = trainer.render
            trainer.render = lambda batch: {k: x.contiguous() for k, x in render(batch).items()}  # type: ignore[method-assign]
        return trainer

    def _from_memory(self, trainer: Trainer) -> Iterator[dict[str, Any]]:
        """Repeat batches that are already in memory, pinned as the loader's are."""
        clip, clips = trainer.config.clip, trainer.batches.clips
        if clip not in self._batches:
            indices = [
                range(start, start + self.options.batch) for start in (0, self.options.batch)
            ]  # two batches are enough to differ
            made = [collate([clips[0, index % len(clips)] for index in part]) for part in indices]
            self._batches[clip] = [pinned(batch) for batch in made] if self.device.type == "cuda" else made
        for batch in itertools.cycle(self._batches[clip]):
            yield copy.copy(batch)

    def _plain(self, row: Row) -> dict[str, float]:
        paths = [str(self.lists[row.source].parent / one) for one in read_list(self.lists[row.source]).paths]
        step = plain_step(row.backbone, self.device, row.precision)
        batches = plain_batches(
            paths, self.size.length, row.clip, self.options.batch, row.workers, self.device.type == "cuda"
        )

        def one(clock: StepTimer) -> None:
            batch = next(batches)
            clock.lap("wait")
            step(batch)
            clock.lap("work")
            clock.step_done()

        try:
            return self._timed(one, uncounted=2 * row.workers + 3)
        finally:
            close(batches)

    def _timed(self, step: Callable[[StepTimer], None], uncounted: int) -> dict[str, float]:
        """Run steps for some seconds. The first ones were loaded while the GPU warmed up, or compile."""
        for _ in range(3 if self.options.quick else uncounted):
            step(StepTimer())
        clock, begun, steps = StepTimer(), time.perf_counter(), 0
        while steps < 3 or time.perf_counter() - begun < self.options.seconds:
            step(clock)
            steps += 1
        reading = clock.read(self.options.batch)
        return {"per_second": reading["clips_per_second"], "waiting": reading["data_wait"], "steps": steps}

    def _extract(self, row: Row) -> dict[str, float]:
        """The difference of two lengths leaves out the time to start."""
        encoder = create_model(row.backbone).to(self.device)
        videos = read_list(self.lists[row.source])
        seconds = []
        counts = (len(videos) // 4, len(videos) * (1 if self.options.quick else 4))
        for count in counts:
            some = videos.part(np.arange(count) % len(videos), self.folder)
            begun = time.perf_counter()
            extract_by_all([encoder], some, row.clip, workers=row.workers, precision=row.precision)
            seconds.append(time.perf_counter() - begun)
        return {"per_second": (counts[1] - counts[0]) / (seconds[1] - seconds[0])}


def close(batches: Any) -> None:
    """End the workers of a loader."""
    getattr(batches, "close", lambda: None)()


def pinned(tree: Any) -> Any:
    """The same batch in memory that can be copied to the GPU in the background."""
    if isinstance(tree, dict):
        return {name: pinned(value) for name, value in tree.items()}
    return tree.pin_memory() if isinstance(tree, torch.Tensor) else tree


def machine(options: Options) -> dict[str, Any]:
    """What the numbers depend on."""
    about: dict[str, Any] = {**versions(), "cores": usable_cores(), "device": options.device}
    if options.device == "cuda":
        about["card"] = torch.cuda.get_device_name()
        about["memory_gb"] = round(torch.cuda.get_device_properties(0).total_memory / 2**30)
        about["cuda"], about["cudnn"] = torch.version.cuda, torch.backends.cudnn.version()
    return about


def tests_of(file: Path) -> dict[str, Any]:
    """The counts of tests, and the first line of each failure."""
    try:
        suite = ElementTree.parse(file).getroot().find("testsuite")
        assert suite is not None
    except (OSError, ElementTree.ParseError) as error:
        return {"failed": f"no results: {error}"}
    counts = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    failures = {
        f"{case.get('classname')}::{case.get('name')}": (fault.get("message") or "").split("\n")[0]
        for case in suite.iter("testcase") for kind in ("failure", "error") for fault in case.iter(kind)
    }  # fmt: skip
    return {**counts, "seconds": float(suite.get("time", 0)), "failed_tests": failures}


def report(results: dict[str, Any]) -> None:
    """The table, and what it says in short."""
    if tests := results.get("tests"):
        cut = ", CUT OFF when their time was over" if tests.get("cut") else ""
        counts = {name: value for name, value in tests.items() if name not in ("failed_tests", "cut")}
        print("\ntests: " + ", ".join(f"{name} {value}" for name, value in counts.items()) + cut)
        for name, message in tests.get("failed_tests", {}).items():
            print(f"{name}: {message}")
    print("\n" + ", ".join(f"{name} {value}" for name, value in results["machine"].items()))
    print(f"{'':72s} {'per second':>10s} {'waiting':>8s} {'peak MB':>8s}")
    for one in results["rows"]:
        numbers = one["numbers"]
        if no_rate := numbers.get("failed") or numbers.get("full"):
            print(f"{one['name']:72s} {no_rate}")
            continue
        waiting = f"{numbers['waiting']:8.1%}" if "waiting" in numbers else f"{'–':>8s}"
        peak = f"{numbers['peak_mb']:8.0f}" if "peak_mb" in numbers else f"{'–':>8s}"
        print(f"{one['name']:72s} {numbers['per_second']:10.1f} {waiting} {peak}")
    for line in results["in_short"]:
        print(line)
    if results["left_out"]:
        print(f"time was over; {len(results['left_out'])} rows left out: " + "; ".join(results["left_out"]))


def in_short(rows: list[dict[str, Any]]) -> list[str]:
    """Ours over the plain loop's rate, from the same videos with as many workers; and how steps repeat."""
    lines = [
        f"{one['name']}: {AGAIN + 1} steps, taken twice, differ by {one['numbers']['differs']:.1e}"
        for one in rows
        if "differs" in one["numbers"]
    ]
    for plain in rows:
        if plain["row"]["kind"] != "plain" or "per_second" not in plain["numbers"]:
            continue
        same = {**plain["row"], "kind": "feeding"}
        for ours in rows:
            if ours["row"] == same and "per_second" in ours["numbers"]:
                ratio = ours["numbers"]["per_second"] / plain["numbers"]["per_second"]
                lines.append(f"{ours['name']}: {ratio:.2f} times the plain loop")
    return lines


def main(options: Options) -> None:
    begun = options.begun or time.time()
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before CUDA is asked for anything
    elif torch.cuda.is_available():
        options = replace(options, device="cuda")
    elif options.device == "cuda":
        raise SystemExit("no CUDA here; --device cpu --quick shows whether the benchmark works.")
    else:
        print("no CUDA here: tiny rows on the CPU, which only show that the benchmark works")
        options = replace(options, device="cpu", quick=True)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    size = QUICK if options.quick else Size()
    if options.quick:
        options = replace(options, batch=4, seconds=0.5)
    results: dict[str, Any] = {"machine": machine(options), "rows": [], "in_short": [], "left_out": []}
    if options.tests:
        results["tests"] = {**tests_of(options.tests), "cut": options.tests_cut}
    longest = {False: 0.0, True: COMPILING}
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(options, size, Path(name))
        for row in rows_of(size):
            row_begun = time.time()
            if row_begun + longest[row.compiled] - begun > 60 * options.minutes:
                results["left_out"].append(row.name())
                continue
            numbers: dict[str, Any]
            try:
                numbers = bench.measure(row)
            except Exception as error:  # a row that fails must not cost the others
                if machine_fault(error) == errno.ENOMEM:
                    numbers = {"full": "out of memory"}
                else:
                    numbers = {"failed": f"failed: {type(error).__name__}"}
                numbers["traceback"] = traceback.format_exc()
            results["rows"].append({"name": row.name(), "row": json_of(row), "numbers": numbers})
            longest[row.compiled] = max(longest[row.compiled], time.time() - row_begun)
            results["in_short"] = in_short(results["rows"])
            options.json.write_text(json.dumps(results, indent=2) + "\n")
            print(f"{time.time() - begun:5.0f} s  {row.name()}", flush=True)
    options.json.write_text(json.dumps(results, indent=2) + "\n")
    report(results)
    if any("failed" in one["numbers"] for one in results["rows"]):
        raise SystemExit(f"some rows failed; {options.json} says why.")


def json_of(row: Row) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(row)))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
