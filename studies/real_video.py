"""Real video, small: python studies/real_video.py LIST --groups TABLE --out runs/real

Random weights, `moco` and `dsm` on a labelled list whose videos come in groups (one source, one camera),
over seeds, with the settings of the recipe `still-camera`. Every encoder is pretrained on all videos, without
labels, as one would with footage of one's own; then R@1 among videos of *other* groups, a linear probe and
fine-tuning on groups it was not trained on, scene reliance, and map mass on motion. The videos are
packed first, squeezed to squares, so that what happens at the sides of wide footage is not cut off. Writes
``real_video.json``, ``real_video.md`` and the runs. What is done is not done again.
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

SHOWN = {
    "R@1": "R@1 among videos of other sources",
    "linear_probe": "Linear probe, sources it was not trained on",
    "finetuned_top1": "Fine-tuned on the sources of a split and tested on the others, top-1",
    "finetuned_mean_class_top1": "The same, mean over the classes",
    "scene_reliance": "Scene reliance (`dsm bias`)",
    "motion_gain": "Motion gain (`dsm bias`)",
    "order_sensitivity": "Order sensitivity (`dsm bias`)",
    "map_mass_above_other_map": "Map mass on motion above that of another video's map (`dsm look --score`)",
}
VIDEOS = "videos"
JITTERED = "-jitter"
"""Behind a method's name: the colours of every clip are jittered."""
AGAINST = (
    ("dsm", "moco"),
    ("moco", "random"),
    ("dsm", "random"),
    ("moco-jitter", "moco"),
    ("moco-jitter", "random"),
    ("dsm", "moco-jitter"),
)
RECIPE = find_recipe("still-camera")
PRETRAIN, FINETUNE = cast(PretrainConfig, RECIPE.pretrain), cast(FinetuneConfig, RECIPE.finetune)
"""The settings of `dsm run still-camera` are measured here."""


@dataclass(frozen=True)
class Options:
    list: tyro.conf.Positional[Path]
    """Labelled videos."""
    groups: Path
    """Table of the group of each."""
    out: Path = Path("runs/real")
    root: Path | None = None
    """Folder put before relative paths; left out, the list's own."""
    name: str = "real_video"
    """Of the files that are written: two tables may share trained encoders in one folder."""
    methods: tuple[str, ...] = ("random", "moco", "dsm")
    """`moco-jitter` and `dsm-jitter` are others."""
    seeds: tuple[int, ...] = (10, 11, 12, 13, 14, 35, 36, 37, 38, 39)
    steps: int = cast(int, PRETRAIN.steps)
    precision: Precision = "fp32"
    """Of the training; bf16 is twice as fast where `dsm doctor` says it is fast."""
    measures: tuple[str, ...] = ("other_groups", "finetuned", "bias", "look")
    jobs: int = 2
    """Encoders trained side by side; they share the cores."""
    known: tuple[Path, ...] = ()
    """Files ``measured/*.json``: what they hold of the same settings is taken, not measured again."""
    quick: bool = False
    """Two seeds, 20 steps: numbers that mean nothing, by the same way."""


def trial(options: Options, method: str, seed: int, videos: str) -> Trial:
    """``videos``: see :func:`prepare`."""
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
    """What the probe of `dsm bias` learns from and is asked about: a split by groups for each seed."""
    folder = options.out.absolute() / VIDEOS
    return folder / f"train-{seed}.txt", folder / f"test-{seed}.txt"


def prepare(options: Options) -> str:
    """Pack the videos, write down the groups of those in the pack, and split them by groups.

    Returns:
        A word for these videos; other videos, labels or groups have another.
    """
    folder = options.out / VIDEOS
    packed = pack_real(options.list, options.root, options.groups, folder, PRETRAIN.clip.resize)
    for seed in options.seeds:
        test = split_by_group(packed.groups, 0.3, seed)
        for file, chosen in zip(split_files(options, seed), (~test, test), strict=True):
            write_list(file, packed.videos.part(np.flatnonzero(chosen), folder))
    return packed.word


def headline(rows: Sequence[Row], steps: int) -> str:
    """What README says: R@1 among other sources, top-1 after fine-tuning, and what `dsm` gains."""
    found = by_seed(rows)

    def means(metric: str) -> str:
        dsm, moco, random = (
            mean_of(list(found[name, VIDEOS, metric].values())).told() for name in ("dsm", "moco", "random")
        )
        gain = mean_of(paired(found, ("dsm", VIDEOS, metric), ("moco", VIDEOS, metric))).told(signed=True)
        return f"{dsm} % with `dsm`, {moco} % with `moco`, {random} % with random weights; {gain} points"

    seeds = len(found["dsm", VIDEOS, "R@1"])
    count = max(row.n for row in rows if row.metric == "R@1")
    over = "for `dsm` over `moco`"
    text = (
        f"On {count} clips of surveillance cameras, fights and none, with such settings ([docs/evidence.md]"
        f"(docs/evidence.md#real-video); {seeds} seeds, pretrained on all clips for {steps} steps, without "
        f"labels), the nearest clip of another source is of the right class for {means('R@1')} {over}. "
        "Guessing is right for half (mean ± half a 95 % t interval over training seeds, on the same clips; "
        "the settings of pretraining were found on these clips, which favours `dsm`)."
    )
    if any(row.metric == "finetuned_top1" for row in rows):
        keys = [(name, VIDEOS, "finetuned_top1") for name in ("dsm", "random")]
        text += (
            f" Fine-tuned, and asked about sources it has no label of: {means('finetuned_top1')} {over}, "
            f"{mean_of(paired(found, keys[0], keys[1])).told(signed=True)} over random weights."
        )
    return f"{text}\n"


def main(options: Options) -> None:
    if options.quick:
        options = replace(options, seeds=options.seeds[:2], steps=QUICK_STEPS)
    videos = prepare(options)
    trials = [trial(options, method, seed, videos) for seed in options.seeds for method in options.methods]
    # Each seed has a split of its own; the videos are the same.
    found = run_all(trials, options.jobs, read_measured(options.known))
    rows = [replace(row, test=VIDEOS) for row in write_all(options.out, found, options.name)]
    text = f"`{study_command()}`\n\n{caption(rows)}\n"
    for metric, title in SHOWN.items():
        if any(row.metric == metric for row in rows):
            text += f"\n{title}:\n\n"
            text += table(rows, metric, runs=options.methods, tests=(VIDEOS,), against=AGAINST)
    write_text(options.out / f"{options.name}.md", text)
    if {"random", "moco", "dsm"} <= set(options.methods) and options.name == Options.name:
        write_text(options.out / "real_headline.md", headline(rows, options.steps))
    console.print(f"{options.out}: {options.name}.json, {options.name}.md")


if __name__ == "__main__":
    begin(main, Options, __doc__)
