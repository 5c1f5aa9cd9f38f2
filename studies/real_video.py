"""A small study on real video: python studies/real_video.py LIST --groups TABLE --out runs/real

Compares random weights, `moco` and `dsm` over seeds, with the settings of the recipe `still-camera`, on a
labelled list whose videos come in groups (one source or camera each). Every encoder is pretrained on all
videos without labels, as users would on their own footage. It measures R@1 among videos of *other* groups; a
linear probe and fine-tuning, tested on groups they were not trained on; scene reliance; and map mass on
motion. The videos are packed first, squeezed to squares, so that crops reach the sides of wide footage.
Writes ``real_video.json``, ``real_video.md`` and the runs. Finished work is not repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import tyro
from begin import begin
from measured import read_measured
from ranking import QUICK_STEPS
from real_pack import GROUPS, pack_real
from tables import by_seed, caption, mean_of, paired, table
from trial import Trial
from trials import run_all, study_command, write_all

from dsm.data.lists import write_list
from dsm.data.splits import split_by_group
from dsm.files import write_text
from dsm.models.settings import Precision
from dsm.recipes import find_recipe
from dsm.runs.results import Row
from dsm.terminal import console
from dsm.train.config import FinetuneConfig, PretrainConfig
from dsm.verbs.pack import LIST

TITLES = {
    "R@1": "R@1 among videos of other sources",
    "linear_probe": "Linear probe, tested on sources it was not trained on",
    "finetuned_top1": "Fine-tuned, tested on sources it was not trained on, top-1",
    "finetuned_mean_class_top1": "The same, mean over the classes",
    "scene_reliance": "Scene reliance (`dsm bias`)",
    "motion_gain": "Motion gain (`dsm bias`)",
    "order_sensitivity": "Order sensitivity (`dsm bias`)",
    "map_mass_above_other_map": "Map mass on motion minus that of another video's map (`dsm look --score`)",
}
VIDEOS = "videos"
JITTERED = "-jitter"
"""Suffix of a method's name: with colour jitter."""
DIFFERENCES = (
    ("dsm", "moco"),
    ("moco", "random"),
    ("dsm", "random"),
    ("moco-jitter", "moco"),
    ("moco-jitter", "random"),
    ("dsm", "moco-jitter"),
)
RECIPE = find_recipe("still-camera")
PRETRAIN, FINETUNE = cast(PretrainConfig, RECIPE.pretrain), cast(FinetuneConfig, RECIPE.finetune)
"""The settings to measure: those of `dsm run still-camera`."""


@dataclass(frozen=True)
class Options:
    list: tyro.conf.Positional[Path]
    """List of labelled videos."""
    groups: Path
    """Table with the group of each video."""
    out: Path = Path("runs/real")
    root: Path | None = None
    """Folder that the list's paths are relative to; default: the list's own."""
    name: str = "real_video"
    """Name of the files to write; two tables can share trained encoders in one folder."""
    methods: tuple[str, ...] = ("random", "moco", "dsm")
    """Also available: `moco-jitter`, `dsm-jitter`."""
    seeds: tuple[int, ...] = (10, 11, 12, 13, 14, 35, 36, 37, 38, 39)
    steps: int = cast(int, PRETRAIN.steps)
    precision: Precision = "fp32"
    """Precision of training; bf16 takes half the time where `dsm doctor` says it is fast."""
    measures: tuple[str, ...] = ("other_groups", "finetuned", "bias", "look")
    jobs: int = 2
    """Encoders to train at the same time; they share the cores."""
    known: tuple[Path, ...] = ()
    """Files ``measured/*.json``: measurements of the same settings are reused."""
    quick: bool = False
    """Two seeds, 20 steps, to test the study; the numbers mean nothing."""


def trial(options: Options, method: str, seed: int, videos: str) -> Trial:
    """One encoder; ``videos`` is the digest of :func:`prepare`."""
    root = (options.out / VIDEOS).absolute()
    config = replace(
        PRETRAIN,
        data=replace(PRETRAIN.data, train=root / LIST, root=root, workers=0),
        out=options.out / f"{method}-{seed}",
        method="dsm" if method == "random" else method.removesuffix(JITTERED),
        augment=replace(PRETRAIN.augment, jitter=1.0 if method.endswith(JITTERED) else 0.0),
        steps=options.steps,
        precision=options.precision,
        seed=seed,
        keep=1,
    )
    train, test = split_files(options, seed)
    tuned = replace(
        FINETUNE,
        data=replace(FINETUNE.data, train=train, root=root, workers=0),
        steps=QUICK_STEPS if options.quick else FINETUNE.steps,
        precision=options.precision,
    )
    return Trial(
        method,
        config,
        (config.data.train, test),
        options.measures,
        windows=3,
        groups=groups_file(options),
        random=method == "random",
        labelled=train,
        tuned=tuned,
        videos=videos,
    )


def groups_file(options: Options) -> Path:
    return options.out.absolute() / VIDEOS / GROUPS


def split_files(options: Options, seed: int) -> tuple[Path, Path]:
    """Training and test list for fine-tuning and the probe of `dsm bias`: a split by groups per seed."""
    folder = options.out.absolute() / VIDEOS
    return folder / f"train-{seed}.txt", folder / f"test-{seed}.txt"


def prepare(options: Options) -> str:
    """Pack the videos, write the table of their groups, and split them by groups.

    Returns:
        A digest of these videos, their labels and groups.
    """
    folder = options.out / VIDEOS
    packed = pack_real(options.list, options.root, options.groups, folder, PRETRAIN.clip.resize)
    for seed in options.seeds:
        test = split_by_group(packed.groups, 0.3, seed)
        for file, chosen in zip(split_files(options, seed), (~test, test), strict=True):
            write_list(file, packed.videos.part(np.flatnonzero(chosen), folder))
    return packed.word


def headline(rows: Sequence[Row], steps: int) -> str:
    """README's paragraph: R@1 among other sources, top-1 after fine-tuning, and the gain of `dsm`."""
    values = by_seed(rows)

    def means(metric: str) -> str:
        dsm, moco, random = (
            mean_of(list(values[name, VIDEOS, metric].values())).text() for name in ("dsm", "moco", "random")
        )
        gain = mean_of(paired(values, ("dsm", VIDEOS, metric), ("moco", VIDEOS, metric))).text(signed=True)
        return (
            f"{dsm} % with `dsm`, {moco} % with `moco` and {random} % with random weights: "
            f"{gain} points for `dsm` over `moco`"
        )

    seeds = len(values["dsm", VIDEOS, "R@1"])
    count = max(row.n for row in rows if row.metric == "R@1")
    text = (
        f"With these settings, encoders were pretrained on {count} clips of surveillance cameras, with and "
        f"without fights: {steps} steps without labels, on {seeds} seeds "
        "([docs/evidence.md](docs/evidence.md#real-video)). The nearest clip of another source has the right "
        f"class for {means('R@1')}. Guessing is right for half. Values are means ± half a 95 % t interval "
        "over training seeds, on the same clips. The settings of pretraining were chosen on these clips, "
        "which favours `dsm`."
    )
    if any(row.metric == "finetuned_top1" for row in rows):
        keys = [(name, VIDEOS, "finetuned_top1") for name in ("dsm", "random")]
        text += (
            f" After fine-tuning, top-1 on sources without training labels is {means('finetuned_top1')}, and "
            f"{mean_of(paired(values, keys[0], keys[1])).text(signed=True)} over random weights."
        )
    return f"{text}\n"


def main(options: Options) -> None:
    if options.quick:
        options = replace(options, seeds=options.seeds[:2], steps=QUICK_STEPS)
    videos = prepare(options)
    trials = [trial(options, method, seed, videos) for seed in options.seeds for method in options.methods]
    # Each seed has its own split of the same videos, so tests get one name.
    measured = run_all(trials, options.jobs, read_measured(options.known))
    rows = [replace(row, test=VIDEOS) for row in write_all(options.out, measured, options.name)]
    text = f"`{study_command()}`\n\n{caption(rows)}\n"
    for metric, title in TITLES.items():
        if any(row.metric == metric for row in rows):
            text += f"\n{title}:\n\n"
            text += table(rows, metric, runs=options.methods, tests=(VIDEOS,), against=DIFFERENCES)
    write_text(options.out / f"{options.name}.md", text)
    if {"random", "moco", "dsm"} <= set(options.methods) and options.name == Options.name:
        write_text(options.out / "real_headline.md", headline(rows, options.steps))
    console.print(f"{options.out}: {options.name}.json, {options.name}.md")


if __name__ == "__main__":
    begin(main, Options, __doc__)
