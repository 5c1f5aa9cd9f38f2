"""Does `dsm bias` measure? Asked of classifiers whose scene reliance is known: python studies/reliance.py

Writes MotionScenes in which motion and scene family are tied in no, half and nine tenths of the videos,
trains `tiny` on each with labels, and on nine tenths once more with every video frozen at its middle frame,
so that nothing but the picture can be learned. All four are then asked about the same test, the one tied by
nine tenths, in one report. Scene reliance must be near 0 for the first, near 1 for the last, and rise in
between; beside it stands what only MotionScenes can tell: the share of the skill that is lost where every
scene belongs to another motion (`test` against `test_conflict`). Writes ``reliance.md`` and the first seed's
pictures. About eight minutes a seed on one core; what is there is not made again.
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
TOLD = {
    "tied-0": "untied",
    "tied-0.5": "tied by half",
    "tied-0.9": "tied by nine tenths",
    "frozen": "nine tenths, frozen",
}
"""What the table calls the classifiers."""
PICTURES = {
    "bars.png": "bias_bars.png",
    "bias.png": "bias_classes.png",
    "variants.png": "bias_variants.png",
}
"""Of the report, and what the docs call them."""
CLIP = "--clip.frames 8 --clip.stride 3 --clip.resize 62 --clip.size 48"
RECIPE = (
    "--weights none --backbone tiny --data.batch-size 32 --data.workers 0 --data.cache-mb 800 "
    "--augment.jitter 0 --optim.name adamw --optim.lr 0.002 --dropout 0 "
)


def freeze(scenes: Path) -> None:
    """Write each training video once more, as its middle frame throughout: ``frozen.txt``."""
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
    """One seed, few videos and steps: numbers that mean nothing, by the same way."""


Found = dict[str, dict[str, Row]]
"""Classifier -> metric -> number; the accuracy on ``test_conflict`` is ``conflict``."""


def one_seed(folder: Path, seed: int, options: Options) -> Found:
    """Make, train, report."""
    for tied in CORRELATIONS:
        dsm_command(
            f"data synth {folder}/scenes-{tied} --scene-correlation {tied} "
            f"--train {options.train} --test {options.test} --seed {seed}"
        )
    freeze(folder / "scenes-0.9")
    runs = {f"tied-{tied}": (f"scenes-{tied}/train.txt", options.steps) for tied in CORRELATIONS}
    # The picture alone is learned sooner, and then by heart.
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
    found: Found = {run: {} for run in runs}
    for row in read_results(folder / "report" / RESULTS):
        found[row.run]["conflict" if row.test == "test_conflict" else row.metric] = row
    return found


def table(found: dict[int, Found]) -> str:
    """A line a classifier and seed, in %; what cannot be told is left empty."""
    columns = ("clip", "`test_conflict`", "lost there", "scene reliance", "motion gain", "order", "direction")
    lines = [f"| trained on | seed | {' | '.join(columns)} |", "|---" * (2 + len(columns)) + "|"]
    for run, told in TOLD.items():
        for place, (seed, runs) in enumerate(found.items()):
            of = runs[run]
            skill = of["acc_clip"].value - CHANCE
            lost = (of["acc_clip"].value - of["conflict"].value) / skill if skill > 0 else float("nan")
            cells = [f"{100 * of[name].value:.1f}" for name in ("acc_clip", "conflict")]
            cells.append(f"{100 * lost:.1f}" if np.isfinite(lost) else "")
            cells.append(f"**{interval(of['scene_reliance'])}**" if "scene_reliance" in of else "")
            for name in ("motion_gain", "order_sensitivity", "direction_sensitivity"):
                cells.append(f"{100 * of[name].value:.0f}" if name in of else "")
            lines.append(f"| {told if place == 0 else ''} | {seed} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(options: Options) -> None:
    if options.quick:
        options = replace(options, seeds=options.seeds[:1], train=96, test=40, steps=20)
    found = {seed: one_seed(options.out / f"seed-{seed}", seed, options) for seed in options.seeds}
    write_text(options.out / "reliance.md", f"`{study_command()}`\n\n{table(found)}")
    report = options.out / f"seed-{options.seeds[0]}" / "report"
    for picture, name in PICTURES.items():
        if (report / picture).exists():
            shutil.copyfile(report / picture, options.out / name)
    console.print(f"{options.out}: reliance.md and pictures")


if __name__ == "__main__":
    begin(main, Options, __doc__)
