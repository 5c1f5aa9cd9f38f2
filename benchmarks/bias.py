"""Does the measure measure? `dsm bias` on classifiers whose scene reliance is known.

    python benchmarks/bias.py [--out FOLDER] [--seeds 0] [--train 800] [--test 150] [--steps 300]
        [--json FILE]

Writes MotionScenes in which motion and scene family are tied in no, half and nine tenths of the videos,
trains `tiny` on each with labels, and on nine tenths once more with every video frozen at its middle frame,
so that nothing but the picture can be learned. All four are then asked about the same test, the one tied by
nine tenths, in one report. Scene reliance must be near 0 for the first, near 1 for the last, and rise in
between; beside it stands what only MotionScenes can tell: the share of the skill that is lost where every
scene belongs to another motion (`test` against `test_conflict`). About eight minutes a seed on one core; what
is there is not made again.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import dsm
from dsm.datasets.lists import VideoList, read_list, write_list
from dsm.video.write import write_video

CORRELATIONS = ("0", "0.5", "0.9")
CHANCE = 0.1
CLIP = "--clip.frames 8 --clip.stride 3 --clip.resize 62 --clip.size 48"
RECIPE = (
    "--weights none --backbone tiny --data.batch-size 32 --data.workers 0 --data.cache-mb 800 "
    "--augment.jitter 0 --optim.name adamw --optim.lr 0.002 --dropout 0 "
)


def dsm_command(line: str) -> None:
    """Run a command line of dsm, and say it."""
    print("$ dsm", line, flush=True)
    subprocess.run([sys.executable, "-m", "dsm", *shlex.split(line)], check=True)


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


def one_seed(folder: Path, seed: int, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Make, train, report: run -> metric -> value; the conflict's accuracy is ``conflict``."""
    for tied in CORRELATIONS:
        dsm_command(
            f"data synth {folder}/scenes-{tied} --scene-correlation {tied} "
            f"--train {args.train} --test {args.test} --seed {seed}"
        )
    freeze(folder / "scenes-0.9")
    runs = {f"tied-{tied}": (f"scenes-{tied}/train.txt", args.steps) for tied in CORRELATIONS}
    # The picture alone is learned sooner, and then by heart.
    runs["frozen"] = ("scenes-0.9/frozen.txt", args.steps * 2 // 5)
    for run, (train, steps) in runs.items():
        if not (folder / run / "checkpoints" / f"step_{steps:08d}.pt").exists():
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
    found: dict[str, dict[str, float]] = {run: {} for run in runs}
    for row in json.loads((folder / "report" / "results.json").read_text())["rows"]:
        name = "conflict" if row["test"] == "test_conflict" else row["metric"]
        found[row["run"]][name] = row["value"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--train", type=int, default=800)
    parser.add_argument("--test", type=int, default=150)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        out = args.out or Path(temporary)
        found = {seed: one_seed(out / f"seed-{seed}", seed, args) for seed in args.seeds}
    print("\nseed  classifier   clip  conflict  lost there  scene reliance")
    right = True
    for seed, runs in found.items():
        for run, of in runs.items():
            lost = (of["acc_clip"] - of["conflict"]) / (of["acc_clip"] - CHANCE)
            print(
                f"{seed:4d}  {run:10s} {of['acc_clip']:6.1%} {of['conflict']:9.1%} {lost:11.1%} "
                f"{of['scene_reliance']:15.1%}"
            )
        reliance = [of["scene_reliance"] for of in runs.values()]
        right &= reliance[0] < 0.1 and reliance[-1] > 0.9 and reliance == sorted(reliance)
    print("near 0, near 1, and rising in between" if right else "NOT as it should be")
    if args.json:
        args.json.write_text(json.dumps(found, indent=2))
    sys.exit(not right)


if __name__ == "__main__":
    main()
