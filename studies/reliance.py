"""Does `dsm bias` measure what it should? Classifiers of known scene reliance: python studies/reliance.py

Writes MotionScenes in which motion and scene family agree in no, half and nine tenths of the videos, and
trains `tiny` on each with labels. A fourth classifier learns from the nine tenths with every video frozen at
its middle frame, so it can learn only the picture. All four are tested on the same videos, those of nine
tenths, in one report. Scene reliance must be near 0 for the first, near 1 for the last, and rise in between.
The table adds a number that only MotionScenes can give: the share of the skill that is lost if every scene
belongs to another motion (`test` against `test_conflict`). Writes ``reliance.md`` and the first seed's
pictures. About eight minutes per seed on one core; finished work is not repeated.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from begin import begin
from command import dsm_command
from tables import interval
from trials import study_command

import dsm
from dsm.data.lists import VideoList, read_list, write_list
from dsm.files import write_text
from dsm.models.checkpoint_file import checkpoint_of
from dsm.runs.results import RESULTS, Row, read_results
from dsm.terminal import console
from dsm.video.write import write_video

CORRELATIONS = ("0", "0.5", "0.9")
CHANCE = 0.1
CLASSIFIERS = {
    "tied-0": "untied",
    "tied-0.5": "tied by half",
    "tied-0.9": "tied by nine tenths",
    "frozen": "nine tenths, frozen",
}
"""Names of the classifiers' runs, and in the table."""
PICTURES = {
    "bars.png": "bias_bars.png",
    "bias.png": "bias_classes.png",
    "variants.png": "bias_variants.png",
}
"""Pictures of the report, and their names in the docs."""
CLIP = "--clip.frames 8 --clip.stride 3 --clip.resize 62 --clip.size 48"
RECIPE = (
    "--weights none --backbone tiny --data.batch-size 32 --data.workers 0 --data.cache-mb 800 "
    "--augment.jitter 0 --optim.name adamw --optim.lr 0.002 --dropout 0 "
)


def freeze(scenes: Path) -> None:
    """Write each training video again as its repeated middle frame, with the list ``frozen.txt``."""
    if (scenes / "frozen.txt").exists():
        return
    videos = read_list(scenes / "train.txt")
    names = [f"frozen/{place:05d}.mp4" for place in range(len(videos))]
    length = 24
    for place, name in enumerate(names):
        frame = dsm.read_clip(videos.file(place), frames=1, start=int(videos.frames[place]) // 2)
        write_video(scenes / name, np.repeat(frame, length, axis=0))
    write_list(scenes / "frozen.txt", VideoList(names, videos.labels, np.full(len(names), length), scenes))


@dataclass(frozen=True)
class Options:
    out: Path = Path("runs/reliance")
    seeds: tuple[int, ...] = (0,)
    train: int = 800
    """Training videos."""
    test: int = 150
    """Videos of each test."""
    steps: int = 300
    quick: bool = False
    """One seed, few videos and steps, to test the study; the numbers mean nothing."""


Numbers = dict[str, dict[str, Row]]
"""Classifier -> metric -> number; the accuracy on ``test_conflict`` is ``conflict``."""


def one_seed(folder: Path, seed: int, options: Options) -> Numbers:
    """Write the videos, train the classifiers, and report on them."""
    for tied in CORRELATIONS:
        dsm_command(
            f"data synth {folder}/scenes-{tied} --scene-correlation {tied} "
            f"--train {options.train} --test {options.test} --seed {seed}"
        )
    freeze(folder / "scenes-0.9")
    runs = {f"tied-{tied}": (f"scenes-{tied}/train.txt", options.steps) for tied in CORRELATIONS}
    # Fewer steps: the picture alone is learned sooner, and then overfitted.
    runs["frozen"] = ("scenes-0.9/frozen.txt", options.steps * 2 // 5)
    for run, (train, steps) in runs.items():
        if not checkpoint_of(folder / run, steps).exists():
            dsm_command(
                f"finetune {RECIPE} {CLIP} --data.train {folder}/{train} --steps {steps} --seed {seed} "
                f"--out {folder}/{run} --overwrite"
            )
    test = folder / "scenes-0.9"
    dsm_command(
        f"bias --weights {' '.join(str(folder / run) for run in runs)} --names {' '.join(runs)} "
        f"--data.test {test}/test.txt --data.conflict {test}/test_conflict.txt --data.workers 0 "
        f"--batch-size 16 --out {folder}/report --overwrite"
    )
    numbers: Numbers = {run: {} for run in runs}
    for row in read_results(folder / "report" / RESULTS):
        numbers[row.run]["conflict" if row.test == "test_conflict" else row.metric] = row
    return numbers


def table(by_seed: dict[int, Numbers]) -> str:
    """One row per classifier and seed, in %; a number that cannot be determined is left empty."""
    columns = ("clip", "`test_conflict`", "lost there", "scene reliance", "motion gain", "order", "direction")
    lines = [f"| trained on | seed | {' | '.join(columns)} |", "|---" * (2 + len(columns)) + "|"]
    for run, title in CLASSIFIERS.items():
        for place, (seed, runs) in enumerate(by_seed.items()):
            of = runs[run]
            skill = of["acc_clip"].value - CHANCE
            lost = (of["acc_clip"].value - of["conflict"].value) / skill if skill > 0 else float("nan")
            cells = [f"{100 * of[name].value:.1f}" for name in ("acc_clip", "conflict")]
            cells.append(f"{100 * lost:.1f}" if np.isfinite(lost) else "")
            cells.append(f"**{interval(of['scene_reliance'])}**" if "scene_reliance" in of else "")
            for name in ("motion_gain", "order_sensitivity", "direction_sensitivity"):
                cells.append(f"{100 * of[name].value:.0f}" if name in of else "")
            lines.append(f"| {title if place == 0 else ''} | {seed} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(options: Options) -> None:
    if options.quick:
        options = replace(options, seeds=options.seeds[:1], train=96, test=40, steps=20)
    numbers = {seed: one_seed(options.out / f"seed-{seed}", seed, options) for seed in options.seeds}
    write_text(options.out / "reliance.md", f"`{study_command()}`\n\n{table(numbers)}")
    report = options.out / f"seed-{options.seeds[0]}" / "report"
    for picture, name in PICTURES.items():
        if (report / picture).exists():
            shutil.copyfile(report / picture, options.out / name)
    console.print(f"{options.out}: reliance.md and pictures")


if __name__ == "__main__":
    begin(main, Options, __doc__)
