"""What a study measures of a trained encoder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupShuffleSplit
from trial import Trial

from dsm.data.groups import find_groups
from dsm.data.lists import read_list
from dsm.evaluate.extract import extract_by_all
from dsm.evaluate.features import Features
from dsm.evaluate.probe import linear_probe
from dsm.evaluate.retrieval import kept_apart, recall_rows, retrieve
from dsm.intervals import share_interval
from dsm.models.checkpoint_file import list_checkpoints
from dsm.models.weights import load_weights
from dsm.runs.results import Row, row_of, share


def measure_features(trial: Trial) -> list[Row]:
    """Retrieval of each test's videos among the training videos, and a linear probe trained on these."""
    train, *tests = features_of(trial, trial.config.data.train, *trial.tests)
    rows = []
    probed = linear_probe(train, tests)
    for file, test, right in zip(trial.tests, tests, probed, strict=True):
        named = trial.name, trial.config.seed, file.stem
        rows += recall_rows(*named, retrieve(train, test))
        rows.append(share(*named, "linear_probe", right))
    return rows


def features_of(trial: Trial, *lists: Path, weights: str | None = None) -> list[Features]:
    """Features of each list's videos, by the trial's encoder or by ``weights``."""
    encoder = load_weights(weights or trial.weights).module
    return [
        extract_by_all([encoder], read_list(file, trial.config.data.root), trial.config.clip, batch_size=32,
                       windows=trial.windows, workers=0)[0]
        for file in lists
    ]  # fmt: skip


def measure_other_groups(trial: Trial) -> list[Row]:
    """R@1 among the videos of other groups, and a linear probe tested on groups that it was not trained on.

    The probe is trained and tested on :data:`SPLITS` splits, the same for every trial. A video's hit is the
    share of its test splits in which it is classified correctly.
    """
    (all_,) = features_of(trial, trial.tests[0])
    named = trial.name, trial.config.seed, trial.tests[0].stem
    groups, hits = among_other_groups(all_, trial.groups)
    rows = [share(*named, "R@1", hits, groups=groups)]
    tested, right = np.zeros(len(all_)), np.zeros(len(all_))
    splits = GroupShuffleSplit(SPLITS, test_size=0.3, random_state=0)
    for train, test in splits.split(groups, groups=groups):
        tested[test] += 1
        right[test] += linear_probe(all_.part(train), [all_.part(test)])[0]
    used = tested > 0
    groups_used = [group for group, one in zip(groups, used, strict=True) if one]
    interval = share_interval(right[used] / tested[used], groups=groups_used)
    return [*rows, row_of(*named, "linear_probe", interval, int(used.sum()))]


SPLITS = 20


def among_other_groups(features: Features, table: Path | None) -> tuple[list[str], NDArray[np.bool_]]:
    """The group of each video, and whether its nearest video of another group has its class."""
    groups = find_groups(features.paths, file=table, regex="") or features.paths
    neighbours = retrieve(features, features, apart=kept_apart(features, features, (groups, groups)))
    return groups, neighbours.recall(1)


def measure_confounded(trial: Trial) -> list[Row]:
    """R@1 and a probe for scenes that show one class in training and only other classes in the test.

    An encoder that only recognises the scene scores 0. Intervals draw whole groups.
    """
    train, test = features_of(trial, *trial.confounded)
    groups = find_groups(test.paths, file=trial.groups, regex="") or test.paths
    named = trial.name, trial.config.seed, trial.tests[0].stem
    nearest, probed = retrieve(train, test).recall(1), linear_probe(train, [test])[0]
    return [
        share(*named, "confounded_R@1", nearest, groups=groups),
        share(*named, "confounded_linear_probe", probed, groups=groups),
    ]


def measure_curve(trial: Trial) -> list[Row]:
    """During training: R@1 at each checkpoint, *motion* after a third, minutes per step; health at the
    end."""
    test, run = trial.tests[0], trial.folder / "run"
    named = trial.name, trial.config.seed, test.stem
    rows = []
    for checkpoint in list_checkpoints(run):
        if trial.groups:
            (all_,) = features_of(trial, test, weights=str(checkpoint))
            hits = among_other_groups(all_, trial.groups)[1]
        else:
            train, tested = features_of(trial, trial.config.data.train, test, weights=str(checkpoint))
            hits = retrieve(train, tested).recall(1)
        rows.append(share(*named, f"R@1_at_{int(checkpoint.stem.removeprefix('step_'))}", hits))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = lines[-1]["step"]
    third = [line["motion"] for line in lines if "motion" in line and steps / 4 < line["step"] <= steps / 3]
    seconds = [line["wait_seconds"] + line["work_seconds"] for line in lines if "work_seconds" in line]
    numbers = {"minutes_a_step": np.median(seconds) / 60}
    if third:
        numbers["motion_at_third"] = np.mean(third)
    last = [line for line in lines if line["step"] > 0.9 * steps]
    for name in HEALTH:
        if values := [line[name] for line in last if line.get(name) is not None]:
            numbers[f"health_{name}"] = np.mean(values)
    return [*rows, *(Row(*named, name, float(value), None, None, 1) for name, value in numbers.items())]


HEALTH = ("motion", "alignment", "uniformity", "effective_rank", "spread", "loss")


MEASURES: dict[str, Callable[[Trial], list[Row]]] = {
    "features": measure_features,
    "other_groups": measure_other_groups,
    "confounded": measure_confounded,
    "curve": measure_curve,
}
