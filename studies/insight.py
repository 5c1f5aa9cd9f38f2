"""Does `dsm explore` find what is there? MotionScenes with hidden labels: python studies/insight.py

Trains `moco` and `dsm` with `dsm demo`, and explores other MotionScenes by their features and by those of
random weights. The truth is known:

- *clusters*: adjusted mutual information (AMI; Vinh et al. 2010) of the clusters with the motions and with
  the scene families, clips in no cluster counted as one; 0 is chance;
- *oddities*: each motion in turn is left out except for three of its videos; how many of the three are
  among the 20 rarest clips;
- *duplicates*: copies of some videos, encoded again, cropped, or begun a second later; precision of the
  pairs in one group, and recall of each kind of copy;
- *alerts*: over random halves of the same footage as archive and new, the share of alarms at a stated 5 %.

With ``--gestures DIR`` and ``--fights DIR``, alerts are measured on real cameras too, at stated rates of 1, 5
and 10 %: with half of each camera's videos as the archive and the others as new, and with half of the cameras
as the archive, for which nothing is promised. The mean is over 20 splits.

Writes ``insight.json`` and ``insight.md``. Finished training and features are not repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from begin import begin
from command import dsm_command
from numpy.typing import NDArray
from places import whole_list
from sklearn.metrics import adjusted_mutual_info_score
from tables import by_seed, caption, mean_of, table
from trials import study_command

import dsm
from dsm.data.cameras import cameras_of
from dsm.data.groups import read_groups
from dsm.data.lists import VideoList, read_list, write_list
from dsm.errors import UserError
from dsm.evaluate.explore import (
    NOISE,
    apart_ids,
    centred,
    duplicate_groups,
    explore,
    oddness_of,
    rarest,
)
from dsm.evaluate.feature_files import load_features
from dsm.evaluate.features import Features
from dsm.evaluate.novelty import novelty
from dsm.files import write_text
from dsm.intervals import mean_interval
from dsm.runs.results import Row, row_of, write_results
from dsm.terminal import console
from dsm.verbs.settings.exploring import ExploreConfig
from dsm.video.write import write_video

RUNS = ("random", "moco", "dsm")
COPIES = ("encoded again", "cropped", "a second later")
FPS = 24
TIMES = 3
"""How often a rare motion occurs."""
RAREST, NEIGHBOURS = ExploreConfig.rarest, ExploreConfig.neighbours
SPLITS, RATE = 20, 0.05
RATES = (0.01, 0.05, 0.1)
"""False-alarm rates stated for real cameras."""
WHERE = ("same cameras", "other cameras")
CLIP = "--frames 8 --stride 3 --resize 62 --size 48"
SHOWN = {
    "ami_motion": "AMI with the motions",
    "ami_family": "AMI with the scenes",
    "in_clusters": "clips in clusters",
    "oddities": "oddities among the rarest, mean over motions",
    "oddities_chance": "the same by chance",
    "alarms": f"alarms where {RATE:.0%} are stated",
}
"""Names of numbers in the table."""
THRESHOLDS = (0.9, ExploreConfig.duplicates, 0.98)
"""Cosines from which clips count as near-duplicates."""


@dataclass(frozen=True)
class Options:
    out: Path = Path("runs/insight")
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    videos: int = 2200
    """Videos explored."""
    copied: int = 50
    """Videos with a copy of each kind."""
    steps: int = 800
    """Training steps of each method."""
    gestures: Path | None = None
    """Folder of real video: all.txt, or train.txt and test.txt, and groups.tsv with the cameras. Without it,
    this footage is left out."""
    fights: Path | None = None
    """Another such folder."""
    quick: bool = False
    """One seed, few videos and steps, to test the study; the numbers mean nothing."""


def plant(folder: Path, options: Options, seed: int) -> tuple[Path, dict[str, tuple[str, str]]]:
    """Write the list to explore, without labels: all videos, and copies of some.

    Returns:
        The list, and copy -> (original, kind).
    """
    videos = read_list(folder / "train.txt")
    rng = np.random.default_rng([seed, 37])
    of: dict[str, tuple[str, str]] = {}
    for place in rng.permutation(len(videos))[: options.copied].tolist():
        original = videos.paths[place]
        frames = dsm.read_clip(videos.file(place), frames=int(videos.frames[place]), stride=1)
        edge = frames.shape[1] // 20 * 2
        made = frames, frames[:, edge // 2 : -edge // 2, edge // 2 : -edge // 2], frames[FPS:]
        for kind, copy in zip(COPIES, made, strict=True):
            path = f"copies/{kind.replace(' ', '-')}-{place:05d}.mp4"
            write_video(folder / path, copy, fps=FPS, crf=30 if kind == COPIES[0] else 20)
            of[path] = original, kind
    paths = [*videos.paths, *of]
    hidden = np.full(len(paths), -1)
    write_list(folder / "hidden.txt", VideoList(paths, hidden, hidden, folder))
    return folder / "hidden.txt", of


def measure(
    features: Features, table: Path, of: dict[str, tuple[str, str]], run: str, seed: int
) -> list[Row]:
    """All numbers of one run."""
    motions, families = _truth(table)
    own = np.array([row for row, path in enumerate(features.paths) if path not in of])
    footage = features.part(own)
    found = explore(footage.features, footage.paths)
    motion, family = ([known[path] for path in footage.paths] for known in (motions, families))
    values = {
        "ami_motion": float(adjusted_mutual_info_score(motion, found.clusters)),
        "ami_family": float(adjusted_mutual_info_score(family, found.clusters)),
        "in_clusters": float((found.clusters != NOISE).mean()),
    }
    values |= oddities(footage, np.array(motion), seed)
    values |= duplicates(features, of)
    values["alarms"] = float(np.mean(alarms(footage.features, footage.paths)))
    return [Row(run, seed, "hidden", name, value, None, None, len(footage)) for name, value in values.items()]


def oddities(footage: Features, motion: NDArray[np.str_], seed: int) -> dict[str, float]:
    """The share of three videos of a rare motion among the rarest clips: for each motion, and their mean."""
    values, rng = {}, np.random.default_rng([seed, 41])
    for odd in np.unique(motion).tolist():
        own = rng.permutation(np.flatnonzero(motion == odd))
        kept = np.setdiff1d(np.arange(len(motion)), own[TIMES:])
        paths = [footage.paths[row] for row in kept.tolist()]
        oddness = oddness_of(centred(footage.features[kept]), apart_ids(paths, NEIGHBOURS), NEIGHBOURS)
        found = motion[kept[rarest(oddness, paths, RAREST)]] == odd
        values[f"oddities, {odd}"] = float(found.sum() / TIMES)
    mean = float(np.mean(list(values.values())))
    return {"oddities": mean, "oddities_chance": RAREST / len(kept), **values}


def _truth(table: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Path -> motion, and path -> scene family."""
    lines = [line.split("\t") for line in table.read_text(encoding="utf-8").splitlines()[1:]]
    families = read_groups(table, [line[0] for line in lines])
    return {line[0]: line[1] for line in lines}, dict(zip((line[0] for line in lines), families, strict=True))


def duplicates(features: Features, of: dict[str, tuple[str, str]]) -> dict[str, float]:
    """For each threshold, precision of the pairs that share a group, and the recall of each kind of copy.

    A pair is right if both are copies of one original, or one of them is the original. Without a pair there
    is no precision.
    """
    across = explore(features.features, features.paths).across
    original = [of[path][0] if path in of else path for path in features.paths]
    place = {path: row for row, path in enumerate(features.paths)}
    values = {}
    for threshold in THRESHOLDS:
        groups = duplicate_groups(across, threshold)
        right = [original[a] == original[b] for group in groups for a, b in combinations(group, 2)]
        group_of = {row: number for number, group in enumerate(groups) for row in group}
        if right:
            values[f"precision at {threshold}"] = float(np.mean(right))
        for kind in COPIES:
            copies = [path for path, (_, its) in of.items() if its == kind and path in place]
            hits = [
                group_of.get(place[path], -1) == group_of.get(place.get(of[path][0], -1), -2)
                for path in copies
            ]
            values[f"recall at {threshold}, {kind}"] = float(np.mean(hits))
    return values


def alarms(features: NDArray[np.float32], paths: Sequence[str]) -> list[float]:
    """The share of alarms in each of the splits into an archive and new footage."""
    shares = []
    for split in range(SPLITS):
        order = np.random.default_rng([split, 5]).permutation(len(paths))
        archive, new = np.split(order, [len(order) // 2])
        found = novelty(
            features[archive], [paths[row] for row in archive], features[new], rate=RATE, seed=split
        )
        shares.append(float(found.alarms.mean()))
    return shares


def halves(
    cameras: Sequence[str], where: str, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows of an archive, and the new ones: halves of each camera's videos, or of the cameras."""
    names, ids = np.unique(np.asarray(cameras), return_inverse=True)
    if where == WHERE[1]:
        known = np.isin(ids, rng.permutation(len(names))[: len(names) // 2])
    else:
        known = np.zeros(len(ids), bool)
        for camera in range(len(names)):
            own = rng.permutation(np.flatnonzero(ids == camera))
            known[own[: -(-len(own) // 2)]] = True
    return np.flatnonzero(known), np.flatnonzero(~known)


def real_alarms(
    features: Features, cameras: Sequence[str], named: tuple[str, int, str]
) -> tuple[list[Row], list[str]]:
    """The share of alarms at each rate over :data:`SPLITS` splits, with its 95 % interval over them.

    Args:
        features: a row for each video.
        named: run, seed and footage.

    Returns:
        A row for each rate and kind of split, and the names of those for which the archive is too small.
    """
    videos, rows, refused = features.identities(), [], []
    for rate in RATES:
        for where in WHERE:
            shares = []
            for split in range(SPLITS):
                archive, new = halves(cameras, where, np.random.default_rng([split, 7]))
                try:
                    found = novelty(
                        features.features[archive], [videos[row] for row in archive], features.features[new],
                        rate=rate, seed=split,
                    )  # fmt: skip
                except UserError:  # the archive is too small for this rate
                    refused.append(f"{named[2]}, {where}, {rate:.0%}")
                    break
                shares.append(float(found.alarms.mean()))
            if len(shares) == SPLITS:
                interval = mean_interval(np.array(shares))
                rows.append(row_of(*named, f"alarms at {rate:.0%}, {where}", interval, len(new)))
    return rows, refused


def real_footage(options: Options) -> tuple[list[Row], list[str]]:
    """:func:`real_alarms` of all runs on the real footage given."""
    rows, refused = list[Row](), list[str]()
    for name, source in (("gestures", options.gestures), ("fights", options.fights)):
        if source is None:
            continue
        folder = options.out / name
        folder.mkdir(parents=True, exist_ok=True)
        videos = read_list(whole_list(source, folder), source)
        listed = folder / "list.txt"
        write_list(listed, videos.part(np.arange(0, len(videos), 4 if options.quick else 1), folder))
        for seed in options.seeds:
            for run in RUNS:
                features = features_of(options, run, seed, listed, f"{name}-")
                cameras, _ = cameras_of(features.paths, file=source / "groups.tsv", regex="")
                measured, small = real_alarms(features, cameras, (run, seed, name))
                rows += measured
                refused += [one for one in small if one not in refused]
    return rows, refused


def features_of(options: Options, run: str, seed: int, listed: Path, prefix: str = "") -> Features:
    """The features of a list by one run, extracted once."""
    weights = "none" if run == "random" else options.out / "demo" / "runs" / f"{run}-seed{seed}"
    file = options.out / f"{prefix}{run}-{seed}.npz"
    if not file.exists():
        random = f"--backbone tiny --seed {seed} " if run == "random" else ""
        dsm_command(f"extract --weights {weights} {random}--data {listed} {CLIP} --out {file}")
    return load_features(file)


def real_tables(rows: list[Row], refused: Sequence[str]) -> str:
    """A table for each stated rate and kind of split: a line per run, a column per footage, in %."""
    tests, parts = list(dict.fromkeys(row.test for row in rows)), []
    for metric in dict.fromkeys(row.metric for row in rows):
        parts.append(f"**{metric}**\n\n{table(rows, metric, runs=RUNS, tests=tests)}")
    if {row.seed for row in rows} == {rows[0].seed}:
        parts.append(f"Seed {rows[0].seed}, in %, with 95 % intervals over {SPLITS} splits.\n")
    else:
        parts.append(f"{caption(rows)} Each number is the mean of {SPLITS} splits.\n")
    if refused:
        parts.append(f"Not measured, as the archive is too small for the rate: {'; '.join(refused)}.\n")
    return "\n".join(parts)


def table_of(rows: list[Row]) -> str:
    """A line per number, a column per run: the mean over seeds with its 95 % t interval, in %."""
    values = by_seed(rows)
    metrics = list(dict.fromkeys(row.metric for row in rows))
    lines = [f"| % | {' | '.join(RUNS)} |", "|---" * (1 + len(RUNS)) + "|"]
    for metric in metrics:
        known = [list(values.get((run, "hidden", metric), {}).values()) for run in RUNS]
        cells = [mean_of(some).text() if some else "–" for some in known]
        lines.append(f"| {SHOWN.get(metric, metric)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(options: Options) -> None:
    demo = f"demo --out {options.out}/demo"
    if options.quick:
        options = replace(options, seeds=options.seeds[:1], videos=200, copied=8, steps=10)
        demo += " --videos 64 --tests 16"
    seeds = " ".join(map(str, options.seeds))
    dsm_command(f"{demo} --seeds {seeds} --steps {options.steps}")
    rows: list[Row] = []
    for seed in options.seeds:
        folder = options.out / f"footage-{seed}"
        dsm_command(
            f"data synth {folder} --train {options.videos} --test 1 --frames {4 * FPS} --seed {200 + seed} "
            "--scene-correlation 0"
        )
        listed, of = plant(folder, options, seed)
        for run in RUNS:
            features = features_of(options, run, seed, listed)
            rows += measure(features, folder / "scenes.tsv", of, run, seed)
    text = table_of(rows)
    real, refused = real_footage(options)
    if real:
        text += "\n" + real_tables(real, refused)
    write_results(options.out / "insight.json", [*rows, *real])
    write_text(options.out / "insight.md", f"`{study_command()}`\n\n{text}")
    console.print(text)


if __name__ == "__main__":
    begin(main, Options, __doc__)
