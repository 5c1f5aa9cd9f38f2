"""Does `dsm bias` measure what it should? Classifiers of known scene reliance: python studies/reliance.py

Writes MotionScenes in which motion and scene family agree in no, half and nine tenths of the videos, and
trains `tiny3d` on each with labels. Two more classifiers see only pictures: one learns from the nine tenths
with every video frozen at its middle frame, the other is `tiny2d`, which sees each frame alone and averages,
so it cannot see order. `random` is a linear probe on random weights. All are tested on the same videos, those
of nine tenths, in one report. Scene reliance must be near 0 for the first, near 1 for the frozen, and rise in
between; ``findings.md`` says whether it does. The table adds a number that only MotionScenes can give: the
share of the skill that is lost if every scene belongs to another motion (`test` against `test_conflict`).
The world `panned` is `scenes` under a panning camera, where scenes cannot be exchanged.

Writes ``findings.md``; ``reliance.md``, the first world's table, and ``reliance_others.md``; ``measures.md``,
whether every measure is in the order of the classifiers; and the first seed's pictures. ``agreement.py``
reads the reports.
About twenty minutes per seed and world on one core; finished work is not repeated.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from begin import begin
from command import dsm_command
from small_pictures import save_png
from tables import interval
from trials import study_command

import dsm
from dsm.data.lists import VideoList, read_list, write_list
from dsm.errors import UserError, did_you_mean
from dsm.evaluate.verdict import LITTLE, MUCH
from dsm.files import write_text
from dsm.models.checkpoint_file import checkpoint_of
from dsm.pages.bias_card import VERDICTS
from dsm.runs.results import RESULTS, Row, read_results
from dsm.synthetic.motionscenes import SPLITS, write_motionscenes
from dsm.synthetic.settings import WORLDS, MotionScenesConfig
from dsm.terminal import console
from dsm.video.decode import read_frames
from dsm.video.write import write_video

CORRELATIONS = ("0", "0.5", "0.9")
BACKBONE = "tiny3d"
"""Its first layer sees three frames, without which the motions of `dots` and `walkers` are hardly learned."""
CHANCE = 0.1
CLASSIFIERS = {
    "tied-0": "untied",
    "tied-0.5": "tied by half",
    "tied-0.9": "tied by nine tenths",
    "frozen": "nine tenths, frozen",
    "pictures": "nine tenths, frame by frame",
    "random": "a probe on random weights",
}
"""Names of the classifiers' runs, and in the table."""
PANNED = "panned"
"""The world `scenes` under a panning camera."""
WIDE, SIDE = 108, 72
"""Sides in pixels of the videos drawn for it, and of the window that moves over them."""
LEFT_OUT = ("acc_", "conflict", "actor_left", "dimensions_both", "dimensions_neither")
"""How the names begin of numbers that are no measure of reliance by themselves."""
RISES = (
    "scene_reliance", "hat_background_only_ratio", "hat_scene_error", "conflfg_error", "dimensions_static"
)  # fmt: skip
"""How the names of measures begin that rise with the use of the scene; the others fall."""
EQUAL = 0.01
"""Numbers that differ by less are equal, but for rounding."""
PICTURES = {
    "bars.png": "bias_bars.png",
    "bias.png": "bias_classes.png",
    "variants.png": "bias_variants.png",
}
"""Pictures of the report, and their names in the docs."""
SIZES = "--frames 8 --stride 3 --resize 62 --size 48"
CLIP = SIZES.replace("--", "--clip.")
RECIPE = (
    "--weights none --data.batch-size 32 --data.workers 0 --data.cache-mb 800 "
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


def pan(wide: Path, out: Path) -> None:
    """Write videos again as a window sees them that crosses the picture from side to side, with the lists."""
    if (out / f"{SPLITS[-1]}.txt").exists():
        return
    for split in SPLITS:
        videos = read_list(wide / f"{split}.txt")
        for place, name in enumerate(videos.paths):
            frames = read_frames(videos.file(place), np.arange(int(videos.frames[place])))
            across = np.linspace(0, WIDE - SIDE, len(frames)).round().astype(int)
            if place // 10 % 2:  # to the left as often as to the right, whatever the motion
                across = across[::-1]
            top = (WIDE - SIDE) // 2
            rows = frames[:, top : top + SIDE]
            moved = [row[:, left : left + SIDE] for row, left in zip(rows, across, strict=True)]
            write_video(out / name, np.stack(moved))
        write_list(out / f"{split}.txt", VideoList(videos.paths, videos.labels, videos.frames, out))
    shutil.copyfile(wide / "classes.txt", out / "classes.txt")


@dataclass(frozen=True)
class Options:
    out: Path = Path("runs/reliance")
    seeds: tuple[int, ...] = (0,)
    worlds: tuple[str, ...] = (*WORLDS, PANNED)
    """Worlds of MotionScenes, and `panned`; the pictures are those of the first."""
    train: int = 800
    """Training videos."""
    test: int = 150
    """Videos of each test."""
    steps: int = 1000
    quick: bool = False
    """One seed, few videos and steps, to test the study; the numbers mean nothing."""


Numbers = dict[str, dict[str, Row]]
"""Classifier -> metric -> number; the accuracy on ``test_conflict`` is ``conflict``."""
Check = Callable[[Numbers, bool], bool | None]
"""Numbers, and whether the camera moves -> whether something holds; None if it was not measured."""


def write_videos(folder: Path, world: str, seed: int, options: Options) -> None:
    """Write the videos of each correlation: ``scenes-0`` and so on."""
    for tied in CORRELATIONS:
        out = folder / f"scenes-{tied}"
        if world == PANNED:
            # The actor keeps its size in pixels.
            scenes = MotionScenesConfig(
                size=WIDE, radius=(0.133, 0.183), train=options.train, test=options.test,
                scene_correlation=float(tied), seed=seed,
            )  # fmt: skip
            pan(write_motionscenes(scenes, folder / f"wide-{tied}"), out)
            continue
        dsm_command(
            f"data synth {out} --world {world} --scene-correlation {tied} "
            f"--train {options.train} --test {options.test} --seed {seed}"
        )


def one_seed(folder: Path, world: str, seed: int, options: Options) -> Numbers:
    """Write the videos, train the classifiers, and report on them."""
    write_videos(folder, world, seed, options)
    freeze(folder / "scenes-0.9")
    runs = {f"tied-{tied}": (BACKBONE, f"scenes-{tied}/train.txt", options.steps) for tied in CORRELATIONS}
    # Fewer steps: the picture alone is learned sooner, and then overfitted.
    runs["frozen"] = (BACKBONE, "scenes-0.9/frozen.txt", options.steps * 2 // 5)
    runs["pictures"] = ("tiny2d", "scenes-0.9/train.txt", options.steps * 2 // 5)
    for run, (backbone, train, steps) in runs.items():
        if not checkpoint_of(folder / run, steps).exists():
            dsm_command(
                f"finetune {RECIPE} {CLIP} --backbone {backbone} --data.train {folder}/{train} "
                f"--steps {steps} --seed {seed} --out {folder}/{run} --overwrite"
            )
    test = folder / "scenes-0.9"
    dsm_command(
        f"bias --weights {' '.join(str(folder / run) for run in runs)} none --names {' '.join(runs)} random "
        f"--data.train {test}/train.txt --data.test {test}/test.txt "
        f"--data.conflict {test}/test_conflict.txt --data.workers 0 --backbone {BACKBONE} {SIZES} "
        f"--batch-size 16 --out {folder}/report --overwrite"
    )
    return numbers_of(folder / "report")


def numbers_of(report: Path) -> Numbers:
    """The numbers of a bias report with a conflict list."""
    numbers: Numbers = {}
    for row in read_results(report / RESULTS):
        conflict = row.test == "test_conflict"
        if not conflict or row.metric == "acc_clip":
            numbers.setdefault(row.run, {})["conflict" if conflict else row.metric] = row
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


def findings(by_world: dict[str, dict[int, Numbers]], folders: dict[tuple[str, int], Path]) -> str:
    """What must hold, and whether it does: a line for each world and seed."""
    lines = ["| world | seed | " + " | ".join(EXPECTED) + " |", "|---" * (len(EXPECTED) + 2) + "|"]
    for world, seeds in by_world.items():
        for seed, numbers in seeds.items():
            moving = camera_moves(folders[world, seed] / "report")
            cells = []
            for check in EXPECTED.values():
                holds = check(numbers, moving)
                cells.append("not measured" if holds is None else "yes" if holds else "**no**")
            lines.append(f"| {world} | {seed} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def in_order(metric: str, values: Sequence[float]) -> bool:
    """Whether a measure never falls from one classifier to the next, or never rises if it should fall."""
    sign = 1 if metric.startswith(RISES) else -1
    return all(sign * (two - one) >= -EQUAL for one, two in pairwise(values))


def measures(numbers: Numbers) -> str:
    """One row a measure: its value for each classifier in %, and whether the first four are in order.

    The others have no place in that order. A classifier that lacks the measure is passed over.
    """
    ordered = list(CLASSIFIERS)[:4]
    lines = ["| measure | " + " | ".join(CLASSIFIERS.values()) + " | should | in order |",
             "|---" * (len(CLASSIFIERS) + 3) + "|"]  # fmt: skip
    names = dict.fromkeys(metric for of in numbers.values() for metric in of)
    for metric in (name for name in names if not name.startswith(LEFT_OUT)):
        rows = {run: numbers[run].get(metric) for run in CLASSIFIERS}
        cells = ["" if row is None else f"{100 * row.value:.0f}" for row in rows.values()]
        values = [row.value for run in ordered if (row := rows[run]) is not None]
        should = "rise" if metric.startswith(RISES) else "fall"
        verdict = "" if len(values) < 3 else "yes" if in_order(metric, values) else "**no**"
        lines.append(f"| `{metric}` | {' | '.join(cells)} | {should} | {verdict} |")
    return "\n".join(lines) + "\n"


def camera_moves(report: Path) -> bool:
    """Whether the report found that scenes cannot be exchanged, and went by other numbers."""
    return not json.loads((report / VERDICTS).read_text(encoding="utf-8"))["still"]


def rises(numbers: Numbers, moving: bool) -> bool | None:
    """Scene reliance rises with the share of videos in which scene and motion agree; equal by rounding."""
    found = [numbers[f"tied-{tied}"].get("scene_reliance") for tied in CORRELATIONS]
    found.append(numbers["frozen"].get("scene_reliance"))
    values = [row.value for row in found if row is not None]
    if moving or len(values) < len(found):
        return None
    return in_order("scene_reliance", values)


def end_is(run: str, *, low: bool) -> Check:
    """Whether the whole interval of a run's scene reliance is at the end where the card has a verdict."""

    def check(numbers: Numbers, moving: bool) -> bool | None:
        row = numbers[run].get("scene_reliance")
        if moving or row is None:
            return None
        return row.measured.ends[1] < LITTLE if low else row.measured.ends[0] > MUCH

    return check


def holds_zero(run: str, metric: str) -> Check:
    """Whether the interval of a number contains 0."""

    def check(numbers: Numbers, moving: bool) -> bool | None:
        row = numbers[run].get(metric)
        return None if row is None else row.measured.ends[0] <= 0 <= row.measured.ends[1]

    return check


EXPECTED: dict[str, Check] = {
    "scene reliance rises": rises,
    "untied: below 20 %": end_is("tied-0", low=True),
    "frozen: above 50 %": end_is("frozen", low=False),
    "frame by frame: motion gain 0": holds_zero("pictures", "motion_gain"),
    "frame by frame: order 0": holds_zero("pictures", "order_sensitivity"),
}
"""What must hold; scene reliance counts only where the report says that scenes can be exchanged."""


def main(options: Options) -> None:
    if options.quick:
        options = replace(options, seeds=options.seeds[:1], train=96, test=40, steps=20)
    for world in options.worlds:
        if world not in (*WORLDS, PANNED):
            raise UserError(f"no world '{world}'{did_you_mean(world, [*WORLDS, PANNED])}")
    folders = {
        (world, seed): (options.out if place == 0 else options.out / world) / f"seed-{seed}"
        for place, world in enumerate(options.worlds)
        for seed in options.seeds
    }
    by_world = {
        world: {seed: one_seed(folders[world, seed], world, seed, options) for seed in options.seeds}
        for world in options.worlds
    }
    command = f"`{study_command()}`\n\n"
    found = findings(by_world, folders)
    parts = [f"`{world}`:\n\n{table(numbers)}" for world, numbers in by_world.items()]
    moving = [world for world, seed in folders if camera_moves(folders[world, seed] / "report")]
    told = f"Scenes cannot be exchanged, by the report: {', '.join(dict.fromkeys(moving)) or 'nowhere'}.\n"
    write_text(options.out / "reliance.md", command + parts[0])
    write_text(options.out / "reliance_others.md", "\n".join(parts[1:]))
    write_text(options.out / "findings.md", f"{command}{found}\n{told}")
    every = [f"`{world}`:\n\n{measures(numbers[options.seeds[0]])}" for world, numbers in by_world.items()]
    write_text(options.out / "measures.md", command + "\n".join(every))
    report = folders[options.worlds[0], options.seeds[0]] / "report"
    for picture, name in PICTURES.items():
        if (report / picture).exists():
            save_png(report / picture, options.out / name, 256)
    console.print(f"{found}\n{told}", markup=False)
    console.print(f"{options.out}: findings.md, reliance.md, measures.md and pictures")


if __name__ == "__main__":
    begin(main, Options, __doc__)
