"""Who learns motion? Methods ranked on MotionScenes over seeds: python studies/ranking.py --out runs/ranking

For each method and seed: the demo's training, on videos in which motion and scene agree in the share
``--correlation``. Then retrieval, a linear probe and fine-tuning on free, conflicting and tied scenes, scene
reliance, and map mass on motion. A seed draws weights, samples *and videos*, so intervals cover the variation
of all three. Writes ``ranking.json`` (one row per number), ``ranking.md`` (means over seeds with 95 % t
intervals, and paired differences of the same seeds) and ``ranking.png``. It can be stopped at any time;
finished work is not repeated. ``--quick`` tests in minutes that everything works.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from begin import begin
from measured import read_measured
from ranking_tables import draw, headline, write_tables
from trial import Trial
from trials import is_done, run_all, write_all

from dsm.demo import SLD, TESTS, TLD, pretrain_config
from dsm.disturb.spatial_mix import SpatialMix
from dsm.disturb.temporal import TemporalMix
from dsm.files import write_text
from dsm.methods.settings import PLUS, ClassifyConfig, DsmConfig, DsmTripletConfig, MethodSettings
from dsm.runs.folder import plain
from dsm.runs.results import Row
from dsm.synthetic.motionscenes import write_motionscenes
from dsm.synthetic.settings import MotionScenesConfig
from dsm.terminal import console, progress
from dsm.train.config import FinetuneConfig, FinetuneData, OptimConfig, PretrainConfig
from dsm.verbs.settings.training import DemoConfig

PAPER = DsmConfig(sld=SpatialMix.only("local"), tld=TemporalMix.only("shift"), look="own")
"""`dsm-paper`: the local warp, and one shifted window with its own look, as in the paper's scripts."""
QUICK_STEPS = 20
QUICK_SEEDS = (0, 1)
"""The same for every ranking, so that encoders that two rankings share are trained once."""
DEMO_TIE = MotionScenesConfig().scene_correlation


@dataclass(frozen=True)
class Options:
    out: Path = Path("runs/ranking")
    name: str = "ranking"
    """Name of the files to write; two rankings can share trained encoders in one folder."""
    methods: tuple[str, ...] = ("random", "moco", "dsm-triplet", "dsm")
    """Also available: `dsm-paper`, `be`, `simclr`."""
    seeds: tuple[int, ...] = tuple(range(25, 35))
    """Not the seeds that settings were chosen on (3 to 7), on which the light was found to be a short cut
    (10 to 14), of the demo (0 to 2), or of earlier, shorter rankings (15 to 24)."""
    correlation: float = DEMO_TIE
    """Share of training videos in which motion and scene agree."""
    measures: tuple[str, ...] = ("features", "finetuned", "bias", "look")
    tuned: tuple[int, ...] | None = None
    """Seeds whose encoders are fine-tuned, which takes as long as everything else; default: all."""
    steps: int = DemoConfig.steps
    jobs: int = 2
    """Encoders to train at the same time; they share the cores."""
    known: tuple[Path, ...] = ()
    """Files ``measured/*.json``: measurements of the same settings are reused."""
    quick: bool = False
    """Two seeds, few videos and steps, to test the study; the numbers mean nothing."""

    @property
    def tests(self) -> tuple[str, ...]:
        """Names of the tests in tables."""
        return tuple(f"{test}@{self.correlation:g}" for test in TESTS)


def trial(options: Options, method: str, seed: int) -> Trial:
    """One encoder; all methods train alike except for their own settings."""
    folder = options.out / f"r{options.correlation:g}"
    demo = DemoConfig(out=folder, steps=options.steps, workers=0)
    base = pretrain_config(demo, "dsm", seed)
    scenes = folder / f"scenes-{seed}"
    base = replace(base, data=replace(base.data, train=scenes / "train.txt"))
    settings = MethodSettings(
        dsm=PAPER if method == "dsm-paper" else PLUS, dsm_triplet=DsmTripletConfig(sld=SLD, tld=TLD)
    )
    name = "dsm" if method in ("random", "dsm-paper") else method
    config = replace(base, method=name, settings=settings, out=folder / f"{method}-{seed}")
    tests = tuple(scenes / f"{test}.txt" for test in TESTS)
    is_tuned = options.tuned is None or seed in options.tuned
    return Trial(
        method,
        config,
        tests,
        tuple(name for name in options.measures if name != "finetuned" or is_tuned),
        suffix=f"@{options.correlation:g}",
        random=method == "random",
        tuned=tuned_like(config, quick=options.quick),
        videos=json.dumps(plain(scenes_config(options, seed))),
    )


def tuned_like(config: PretrainConfig, *, quick: bool) -> FinetuneConfig:
    """Fine-tuning with the clips and augmentation of pretraining, for about ten epochs.

    Chosen on seeds 3 to 5: with colour jitter or dropout, some encoders learn nothing in so few steps.
    """
    data = FinetuneData(config.data.train, batch_size=32, workers=0, cache_mb=config.data.cache_mb)
    return FinetuneConfig(
        data, Path(), config.backbone, steps=QUICK_STEPS if quick else 310, clip=config.clip,
        augment=config.augment, optim=OptimConfig("adamw", lr=1e-3, weight_decay=1e-4),
        head=ClassifyConfig(dropout=0),
    )  # fmt: skip


def scenes_config(options: Options, seed: int) -> MotionScenesConfig:
    """The demo's videos with this seed and correlation."""
    whole = MotionScenesConfig(scene_correlation=options.correlation, seed=seed)
    return replace(whole, train=96, test=40) if options.quick else whole


def write_scenes(options: Options, seed: int) -> None:
    """Write the videos of a seed."""
    scenes = scenes_config(options, seed)
    with progress(f"videos, seed {seed}", scenes.train + len(TESTS) * scenes.test) as bar:
        folder = options.out / f"r{options.correlation:g}" / f"scenes-{seed}"
        write_motionscenes(scenes, folder, on_progress=bar.update)


class OfSeeds(Protocol):
    """Options of a study with separate videos for each seed."""

    @property
    def out(self) -> Path: ...
    @property
    def seeds(self) -> tuple[int, ...]: ...
    @property
    def correlation(self) -> float: ...
    @property
    def jobs(self) -> int: ...
    @property
    def known(self) -> tuple[Path, ...]: ...
    @property
    def quick(self) -> bool: ...


def features_only(options: OfSeeds, steps: int) -> Options:
    """Options for :func:`trial`, for a study that measures only features."""
    return Options(
        options.out,
        correlation=options.correlation,
        measures=("features",),
        steps=steps,
        quick=options.quick,
    )


def measure_seeds(
    options: OfSeeds, trials_of: Callable[[int], list[Trial]], name: str
) -> tuple[list[Trial], list[Row]]:
    """Run the trials of all seeds, each on its seed's videos; write NAME.json; return trials and rows."""
    known = read_measured(options.known)
    shared = Options(options.out, correlation=options.correlation, quick=options.quick)
    trials = []
    for seed in options.seeds:
        some = trials_of(seed)
        if not all(is_done(one, known) for one in some):
            write_scenes(shared, seed)
        trials += some
    return trials, write_all(options.out, run_all(trials, options.jobs, known), name)


def main(options: Options) -> None:
    if options.quick:
        options = replace(options, seeds=QUICK_SEEDS, tuned=None, steps=QUICK_STEPS)

    def trials_of(seed: int) -> list[Trial]:
        return [trial(options, method, seed) for method in options.methods]

    _, rows = measure_seeds(options, trials_of, options.name)
    write_text(options.out / f"{options.name}.md", write_tables(rows, options))
    if {"dsm", "moco"} <= set(options.methods) and options.name == Options.name:
        write_text(options.out / "headline.md", headline(rows, options))
    draw(rows, options, options.out / f"{options.name}.png")
    console.print(f"{options.out}: {options.name}.json, {options.name}.md, {options.name}.png")


if __name__ == "__main__":
    begin(main, Options, __doc__)
