"""``dsm demo``: generates videos, and pretrains and evaluates on them from end to end.

It writes MotionScenes, pretrains ``moco`` and ``dsm`` with the same backbone, clips, steps and seed,
and evaluates random weights, moco and dsm on the three tests. It skips what an earlier call finished: an
interrupted demo continues, and a finished one is shown at once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.table import Table

from dsm.data.lists import read_list
from dsm.data.settings import ClipConfig
from dsm.devices import best_device
from dsm.evaluate.extract import extract_by_all
from dsm.evaluate.feature_files import load_features, save_features
from dsm.evaluate.features import Features, places_of
from dsm.evaluate.probe import linear_probe
from dsm.evaluate.retrieval import recall_rows, retrieve
from dsm.intervals import spread_of
from dsm.models.precision import fast_in_bf16
from dsm.models.weights import load_weights
from dsm.pages.demo_report import Evidence, write_report
from dsm.runs.claims import claim_by_settings
from dsm.runs.folder import lasting, plain
from dsm.runs.results import RESULTS, Row, share, write_results
from dsm.settings import takes_settings
from dsm.synthetic.motionscenes import write_motionscenes
from dsm.synthetic.settings import MotionScenesConfig
from dsm.terminal import progress
from dsm.train.config import DataConfig, PretrainConfig
from dsm.train.pretrain import pretrain
from dsm.train.start import train_once
from dsm.verbs.result import Result
from dsm.verbs.settings.training import DEMO_BATCH, DemoConfig

MARKER = "demo.json"
FORMAT = 1
TRAINED = ("moco", "dsm")
RUNS = ("random", *TRAINED)
TESTS = ("test_free", "test_conflict", "test")

CACHE_MB = 600
# Eight frames, every third: about one period of a motion.
CLIP = ClipConfig(frames=8, stride=3, resize=62, size=48)


def scenes_config(config: DemoConfig) -> MotionScenesConfig:
    return MotionScenesConfig(train=config.videos, test=config.tests)


def pretrain_config(config: DemoConfig, method: str, seed: int) -> PretrainConfig:
    """The settings of a run of `dsm pretrain`; both methods have their defaults."""
    return PretrainConfig(
        data=DataConfig(
            config.out / "scenes" / "train.txt",
            batch_size=DEMO_BATCH,
            workers=config.workers,
            cache_mb=CACHE_MB,
        ),
        out=run_folder(config, method, seed),
        method=method,
        backbone="tiny",
        steps=config.steps,
        clip=CLIP,
        precision="bf16" if fast_in_bf16(best_device().type) else "fp32",
        seed=seed,
        save_every=100,
        keep=1,
    )


def run_folder(config: DemoConfig, method: str, seed: int) -> Path:
    return config.out / "runs" / f"{method}-seed{seed}"


@takes_settings(DemoConfig)
def demo(config: DemoConfig) -> Result:
    """Make videos, pretrain and evaluate; write ``results.json`` and ``report.html``."""
    start = time.monotonic()
    _claim(config)
    scenes = scenes_config(config)
    total = scenes.train + len(TESTS) * scenes.test
    with progress("writing videos", total) as bar:
        write_motionscenes(scenes, config.out / "scenes", on_progress=bar.update)

    rows: list[Row] = []
    features: dict[tuple[str, int, str], Features] = {}
    for seed in config.seeds:
        for method in TRAINED:
            train_once(pretrain_config(config, method, seed), pretrain)
        of_run = _features_once(config, seed)
        for run in RUNS:
            rows += _evaluate(run, seed, of_run[run])
            features |= {(run, seed, split): value for split, value in of_run[run].items()}

    results, report = config.out / RESULTS, config.out / "report.html"
    write_results(results, rows)
    evidence = Evidence(
        rows=rows, runs=RUNS, trained=TRAINED, tests=TESTS, seeds=config.seeds, scenes=scenes,
        scenes_folder=config.out / "scenes",
        run_folders={(m, s): run_folder(config, m, s) for m in TRAINED for s in config.seeds},
        configs={m: pretrain_config(config, m, config.seeds[0]) for m in TRAINED}, features=features,
    )  # fmt: skip
    write_report(report, evidence)
    minutes = (time.monotonic() - start) / 60
    return Result(
        rows,
        [report, results],
        _tables(rows, chance=1 / scenes.motions),
        [f"{minutes:.1f} minutes. Open {report}; the numbers are in {results}."],
    )


def _claim(config: DemoConfig) -> None:
    """Claim the folder: continue a demo with the same settings, and refuse any other content."""
    # Seeds may be added and workers changed: neither affects earlier results.
    training = lasting(pretrain_config(config, TRAINED[0], 0), but=("data",))
    settings = {"format": FORMAT, "scenes": plain(scenes_config(config)), "training": training}
    claim_by_settings(config.out, MARKER, settings, what="a demo", overwrite=config.overwrite, needed=())


def _features_once(config: DemoConfig, seed: int) -> dict[str, dict[str, Features]]:
    """The features of all runs and lists, computed unless an earlier call saved them."""

    def file(run: str, split: str) -> Path:
        return config.out / "features" / f"{run}-seed{seed}" / f"{split}.npz"

    encoders, device = [], best_device()
    for run in RUNS:
        torch.manual_seed(seed)
        weights = "none" if run == "random" else run_folder(config, run, seed)
        encoders.append(load_weights(weights, backbone="tiny").module.to(device))
    videos = {split: read_list(config.out / "scenes" / f"{split}.txt") for split in ("train", *TESTS)}
    done = 0
    with progress("features of all", sum(map(len, videos.values()))) as bar:
        for split, listed in videos.items():
            if not all(file(run, split).exists() for run in RUNS):
                of_encoders = extract_by_all(
                    encoders, listed, CLIP, batch_size=32, workers=config.workers,
                    on_progress=bar.beyond(done),
                )  # fmt: skip
                for run, one in zip(RUNS, of_encoders, strict=True):
                    meta = {"run": run, "seed": seed, "list": split, **places_of(listed)}
                    save_features(file(run, split), replace(one, meta=meta))
            done += len(listed)
            bar.update(done)
    return {run: {split: load_features(file(run, split)) for split in videos} for run in RUNS}


def _evaluate(run: str, seed: int, features: dict[str, Features]) -> Iterator[Row]:
    """Retrieval of each test in the training videos, and a linear probe trained on them."""
    for test in TESTS:
        yield from recall_rows(run, seed, test, retrieve(features["train"], features[test]))
    hits = linear_probe(features["train"], [features[test] for test in TESTS])
    for test, right in zip(TESTS, hits, strict=True):
        yield share(run, seed, test, "linear_probe", right)


def _tables(rows: list[Row], chance: float) -> Sequence[Table]:
    """R@1 and the linear probe of each run on each test: the mean over seeds, and the standard deviation."""
    tables = []
    for metric, title in (("R@1", "R@1, nearest training video"), ("linear_probe", "linear probe")):
        table = Table(title=f"{title} (chance {chance:.0%})", title_justify="left")
        table.add_column("")
        for test in TESTS:
            table.add_column(test, justify="right")
        for run in RUNS:
            values = {
                test: [r.value for r in rows if (r.run, r.test, r.metric) == (run, test, metric)]
                for test in TESTS
            }
            table.add_row(run, *(str(spread_of(values[test])) for test in TESTS))
        tables.append(table)
    return tables
