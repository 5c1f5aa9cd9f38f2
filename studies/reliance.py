"""Does `dsm bias` measure what it should? Classifiers of known scene reliance: python studies/reliance.py

Writes MotionScenes in which motion and scene family agree in no, half and nine tenths of the videos, and
trains `tiny` on each with labels. A fourth classifier learns from the nine tenths with every video frozen at
its middle frame, so it can learn only the picture. All four are tested on the same videos, those of nine
tenths, in one report. Scene reliance must be near 0 for the first, near 1 for the last, and rise in between.
The table adds a number that only MotionScenes can give: the share of the skill that is lost if every scene
belongs to another motion (`test` against `test_conflict`). A fifth, `random`, is a linear probe on random
weights. ``agreement.md`` has every measure of the report for all five, and its rank correlation with what is
lost, over all classifiers, seeds and worlds. Writes ``reliance.md``, ``agreement.md`` and the first seed's
pictures. About ten minutes per seed and world on one core; finished work is not repeated.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from begin import begin
from command import dsm_command
from scipy.stats import spearmanr
from tables import interval
from trials import study_command

import dsm
from dsm.data.lists import VideoList, read_list, write_list
from dsm.files import write_text
from dsm.models.checkpoint_file import checkpoint_of
from dsm.runs.results import RESULTS, Row, read_results
from dsm.synthetic.settings import WorldName
from dsm.terminal import console
from dsm.video.write import write_video

CORRELATIONS = ("0", "0.5", "0.9")
CHANCE = 0.1
CLASSIFIERS = {
    "tied-0": "untied",
    "tied-0.5": "tied by half",
    "tied-0.9": "tied by nine tenths",
    "frozen": "nine tenths, frozen",
    "random": "a probe on random weights",
}
"""Names of the classifiers' runs, and in the table."""
PICTURES = {
    "bars.png": "bias_bars.png",
    "bias.png": "bias_classes.png",
    "variants.png": "bias_variants.png",
}
"""Pictures of the report, and their names in the docs."""
SIZES = "--frames 8 --stride 3 --resize 62 --size 48"
CLIP = SIZES.replace("--", "--clip.")
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
    worlds: tuple[WorldName, ...] = ("scenes",)
    """Worlds of MotionScenes; the table of scene reliance and the pictures are those of the first."""
    train: int = 800
    """Training videos."""
    test: int = 150
    """Videos of each test."""
    steps: int = 300
    quick: bool = False
    """One seed, few videos and steps, to test the study; the numbers mean nothing."""


Numbers = dict[str, dict[str, Row]]
"""Classifier -> metric -> number; the accuracy on ``test_conflict`` is ``conflict``."""


def one_seed(folder: Path, world: WorldName, seed: int, options: Options) -> Numbers:
    """Write the videos, train the classifiers, and report on them."""
    for tied in CORRELATIONS:
        dsm_command(
            f"data synth {folder}/scenes-{tied} --world {world} --scene-correlation {tied} "
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
        f"bias --weights {' '.join(str(folder / run) for run in runs)} none --names {' '.join(runs)} random "
        f"--data.train {test}/train.txt --data.test {test}/test.txt "
        f"--data.conflict {test}/test_conflict.txt --data.workers 0 --backbone tiny {SIZES} "
        f"--batch-size 16 --out {folder}/report --overwrite"
    )
    numbers: Numbers = {run: {} for run in CLASSIFIERS}
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
            lost = lost_in(of)
            cells = [f"{100 * of[name].value:.1f}" for name in ("acc_clip", "conflict")]
            cells.append(f"{100 * lost:.1f}" if np.isfinite(lost) else "")
            cells.append(f"**{interval(of['scene_reliance'])}**" if "scene_reliance" in of else "")
            for name in ("motion_gain", "order_sensitivity", "direction_sensitivity"):
                cells.append(f"{100 * of[name].value:.0f}" if name in of else "")
            lines.append(f"| {title if place == 0 else ''} | {seed} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def lost_in(of: dict[str, Row]) -> float:
    """The share of the skill that is lost on ``test_conflict``; NaN for a classifier without skill."""
    # A probe of chance loses a random share of nothing.
    if "motion_gain" not in of:
        return float("nan")
    return (of["acc_clip"].value - of["conflict"].value) / (of["acc_clip"].value - CHANCE)


def agreement(all_numbers: list[Numbers]) -> str:
    """One row a measure: its mean for each classifier, and its rank correlation with what is lost."""
    every = [of for numbers in all_numbers for of in numbers.values()]
    left_out = ("acc_clip", "conflict", "actor_left")
    metrics = [name for name in dict.fromkeys(name for of in every for name in of) if name not in left_out]
    lines = [
        f"| measure | {' | '.join(CLASSIFIERS.values())} | rank correlation with the loss | of |",
        "|---" * (len(CLASSIFIERS) + 3) + "|",
    ]
    for metric in metrics:
        cells = []
        for run in CLASSIFIERS:
            values = [numbers[run][metric].value for numbers in all_numbers if metric in numbers[run]]
            cells.append(f"{100 * np.mean(values):.0f}" if values else "")
        pairs = [(lost_in(of), of[metric].value) for of in every if metric in of and np.isfinite(lost_in(of))]
        found = float(spearmanr(*zip(*pairs, strict=True)).statistic) if len(pairs) > 2 else float("nan")
        ranks = f"{found:+.2f}" if np.isfinite(found) else ""
        lines.append(f"| `{metric}` | {' | '.join(cells)} | {ranks} | {len(pairs)} |")
    return "\n".join(lines) + "\n"


def main(options: Options) -> None:
    if options.quick:
        options = replace(options, seeds=options.seeds[:1], train=96, test=40, steps=20)
    by_world: dict[WorldName, dict[int, Numbers]] = {}
    for world in options.worlds:
        folder = options.out if world == options.worlds[0] else options.out / world
        by_world[world] = {
            seed: one_seed(folder / f"seed-{seed}", world, seed, options) for seed in options.seeds
        }
    numbers = by_world[options.worlds[0]]
    write_text(options.out / "reliance.md", f"`{study_command()}`\n\n{table(numbers)}")
    every = [each for seeds in by_world.values() for each in seeds.values()]
    write_text(options.out / "agreement.md", f"`{study_command()}`\n\n{agreement(every)}")
    report = options.out / f"seed-{options.seeds[0]}" / "report"
    for picture, name in PICTURES.items():
        if (report / picture).exists():
            shutil.copyfile(report / picture, options.out / name)
    console.print(f"{options.out}: reliance.md, agreement.md and pictures")


if __name__ == "__main__":
    begin(main, Options, __doc__)
