"""``dsm bias``: how much of what weights know is scene."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro

from dsm.analyse.bias import Judged
from dsm.analyse.bias_figures import draw_bars, draw_classes, draw_variants
from dsm.analyse.bias_report import classes_csv, predictions_csv, print_table, rows_of
from dsm.datasets.groups import find_groups
from dsm.datasets.lists import VideoList, read_list
from dsm.datasets.reading import ClipChanges, ClipConfig
from dsm.engine.device import best_device
from dsm.engine.finetune import class_names
from dsm.engine.progress import console, progress
from dsm.engine.runfolder import claim_by_settings, git_revision, plain
from dsm.errors import UserError
from dsm.evaluate.extract import extract_by_all
from dsm.evaluate.results import Row, seed_of, write_results
from dsm.evaluate.subject import Subject, load_subject
from dsm.evaluate.variants import VARIANTS, Pictures, features_of_variants
from dsm.files import write_text
from dsm.models.weights import RANDOM, Init

LEAST = 2
"""Videos that each class of a test needs."""
SWAPPED_ENOUGH = 0.5
"""Where less of the picture is exchanged, the camera moves, and the scene of a mixture is hardly another."""


@dataclass(frozen=True)
class BiasData:
    """Labelled lists."""

    test: Path
    """Videos whose variants are made."""
    train: Path | None = None
    """Videos that a probe is trained on; weights that are classifiers need none."""
    conflict: Path | None = None
    """Another test, whose accuracy is put beside: of MotionScenes, test_conflict.txt."""
    root: Path | None = None
    """Folder put before relative paths; left out, each list's own."""
    workers: int = 1
    """Processes that decode."""


@dataclass(frozen=True)
class BiasConfig:
    """Settings of `dsm bias`."""

    weights: tuple[str, ...]
    """One or more: runs, checkpoints, others' checkpoints, or `none`. A run of `dsm finetune` is asked as it
    is, of others a linear probe on their features."""
    data: BiasData
    out: Path
    """Folder for results.json, classes.csv, predictions.csv and the pictures."""
    names: tuple[str, ...] = ()
    """What to call the weights; left out, by their folders or files."""
    groups: Path | None = None
    """Table whose last column says which test videos belong together; intervals then draw whole groups."""
    group_regex: str = ""
    """The same, found in their paths."""
    backbone: str = "i3d"
    """What to build for `--weights none`."""
    init: Init = "own"
    """How random weights are drawn: as the backbone's paper has it, or `xavier`, as DSM's published code."""
    partial: bool = False
    """Be content with another's checkpoint that fills only part of the encoder."""
    windows: int = 3
    """Clips a video, evenly spread; features or probabilities are averaged over them."""
    clip: Annotated[ClipChanges, tyro.conf.arg(name="")] = field(default_factory=ClipChanges)
    batch_size: int = 4
    """Videos at a time."""
    seed: int = 0
    """Seeds random weights and everything random in the variants."""
    overwrite: bool = False
    """Replace another report in `out`."""

    def __post_init__(self) -> None:
        if min(self.windows, self.batch_size) < 1:
            raise UserError("windows and batch-size must be at least 1.")
        if min(self.data.workers, self.seed) < 0:
            raise UserError("data.workers and seed must not be below 0.")
        if not self.weights:
            raise UserError("--weights names nothing; give one or more.")
        if self.names and len(self.names) != len(self.weights):
            raise UserError(f"{len(self.names)} --names for {len(self.weights)} --weights; each needs one.")
        if len(set(self.names)) < len(self.names):
            raise UserError("two of --names are the same.")


def bias(config: BiasConfig) -> list[Row]:
    """Examine all weights, write everything down, print the table."""
    tests = _labelled(config.data.test, config.data.root, least=LEAST)
    conflict = _labelled(config.data.conflict, config.data.root) if config.data.conflict else None
    train = _labelled(config.data.train, config.data.root) if config.data.train else None
    groups = find_groups(tests.paths, file=config.groups, regex=config.group_regex)
    subjects = _load(config)
    _check_classes(subjects, train, [tests, *([conflict] if conflict else [])])
    by_clip = _by_clip(config, subjects)
    settings = {name: value for name, value in plain(config).items() if name != "overwrite"}
    claim_by_settings(config.out, "bias.json", settings, what="a bias report", overwrite=config.overwrite)

    judged: dict[str, Judged] = {}
    elsewhere: dict[str, Judged] = {}
    swapped: dict[str, float] = {}
    pictures: Pictures = {}
    for clip, names in by_clip.items():
        alike = {name: subjects[name] for name in names}
        if train is not None:
            _train_probes(config, clip, alike, train)
        found, shares, pictures = _judge(config, clip, alike, tests, tuple(VARIANTS), groups)
        judged |= found
        swapped |= dict.fromkeys(names, shares)
        if conflict is not None:
            elsewhere |= _judge(config, clip, alike, conflict, ("clip",), None)[0]

    judged = {name: judged[name] for name in subjects}
    seeds = {name: seed_of(subject.config) for name, subject in subjects.items()}
    rows = rows_of(judged, test=config.data.test.stem, seeds=seeds)
    if config.data.conflict:
        rows += rows_of(elsewhere, test=config.data.conflict.stem, seeds=seeds)
    labels = _class_names(config, subjects)
    write_results(config.out / "results.json", rows, revision=git_revision())
    write_text(config.out / "classes.csv", classes_csv(judged, labels))
    write_text(config.out / "predictions.csv", predictions_csv(judged, tests.paths, labels))
    draw_classes(judged, labels, config.out / "bias.png")
    draw_bars(judged, config.out / "bars.png")
    draw_variants(pictures, config.out / "variants.png")
    print_table(rows, judged, test=config.data.test.stem)
    for name, share in swapped.items():
        if share < SWAPPED_ENOUGH:
            console.print(
                f"{name}: only {share:.0%} of the picture could be exchanged (does the camera move?); "
                "its scene reliance is too low. See variants.png.", style="yellow",
            )  # fmt: skip
    files = "results.json, classes.csv, predictions.csv, bias.png, bars.png and variants.png"
    console.print(f"{config.out}: {files}")
    return rows


def _labelled(path: Path, root: Path | None, *, least: int = 1) -> VideoList:
    """A list of which every video has a label.

    Raises:
        UserError: it has not, or has but one class, or a class of fewer than ``least`` videos.
    """
    videos = read_list(path, root)
    if not videos.labelled:
        raise UserError(
            f"{path}: {int((videos.labels < 0).sum())} of its videos have no label; `dsm bias` compares "
            "accuracies, which need `path label` on every line."
        )
    labels, counts = np.unique(videos.labels, return_counts=True)
    if len(labels) < 2:
        raise UserError(f"{path}: all its videos are of class {labels[0]}; `dsm bias` needs two at least.")
    if counts.min() < least:
        raise UserError(
            f"{path}: class {labels[counts.argmin()]} has a single video, of which no share can be told; "
            "add some of it, or take it out."
        )
    return videos


def _load(config: BiasConfig) -> dict[str, Subject]:
    """The weights, by the name each is called by."""
    subjects = {}
    for name, weights in zip(config.names or _short_names(config.weights), config.weights, strict=True):
        torch.manual_seed(config.seed)
        subject = load_subject(weights, backbone=config.backbone, partial=config.partial, init=config.init)
        if subject.report:
            console.print(f"{weights}: {subject.report}")
        subject.module.to(best_device())
        subjects[name] = subject
    return subjects


def _short_names(weights: tuple[str, ...]) -> list[str]:
    """By folder or file; the whole path where two would be called the same.

    Raises:
        UserError: the same weights are given twice.
    """
    short = ["random" if one == RANDOM else Path(one).stem for one in weights]
    count = Counter(short)
    names = [name if count[name] == 1 else one for name, one in zip(short, weights, strict=True)]
    if len(set(names)) < len(names):
        raise UserError("--weights names the same weights twice.")
    return names


def _check_classes(subjects: dict[str, Subject], train: VideoList | None, lists: list[VideoList]) -> None:
    """Every class of the lists must be one that all can say.

    Raises:
        UserError: one is not, or there is nothing to learn classes from.
    """
    for name, subject in subjects.items():
        if subject.names is None and train is None:
            raise UserError(f"{name}: holds no classifier; a probe needs --data.train, a labelled list.")
        known = subject.known if subject.names is not None or train is None else np.unique(train.labels)
        of = name if subject.names is not None or train is None else train.source
        for videos in lists:
            unknown = np.setdiff1d(videos.labels, known)
            if len(unknown):
                raise UserError(f"{videos.source}: class {unknown[0]} is none of the {len(known)} of {of}.")


def _by_clip(config: BiasConfig, subjects: dict[str, Subject]) -> dict[ClipConfig, list[str]]:
    """Which weights look at the same clips: those share one pass over the videos.

    Raises:
        UserError: some look at optical flow, in which there is no scene to change.
    """
    found: dict[ClipConfig, list[str]] = {}
    for name, subject in subjects.items():
        clip = config.clip.of(subject.config)
        if clip.modality == "flow":
            raise UserError(f"{name}: looks at optical flow; variants are made of pictures.")
        found.setdefault(clip, []).append(name)
    return found


def _train_probes(
    config: BiasConfig, clip: ClipConfig, subjects: dict[str, Subject], train: VideoList
) -> None:
    encoders = [subject for subject in subjects.values() if subject.names is None]
    if not encoders:
        return
    with progress("features to train the probe on", len(train)) as bar:
        features = extract_by_all(
            [subject.module for subject in encoders], train, clip, windows=config.windows,
            batch_size=config.batch_size, workers=config.data.workers, on_progress=bar.update,
        )  # fmt: skip
    for subject, found in zip(encoders, features, strict=True):
        subject.learn(found)


def _judge(
    config: BiasConfig,
    clip: ClipConfig,
    subjects: dict[str, Subject],
    videos: VideoList,
    kinds: tuple[str, ...],
    groups: list[str] | None,
) -> tuple[dict[str, Judged], float, Pictures]:
    """What each says of all variants; the share of the picture that was exchanged; one video's variants."""
    with progress(f"variants of {Path(videos.source).name}", len(videos)) as bar:
        found = features_of_variants(
            [subject.module for subject in subjects.values()], videos, clip,
            {kind: VARIANTS[kind] for kind in kinds}, windows=config.windows, batch_size=config.batch_size,
            workers=config.data.workers, seed=config.seed, on_progress=bar.update,
        )  # fmt: skip
    judged = {}
    for (name, subject), features in zip(subjects.items(), found.features, strict=True):
        said = {kind: subject.judge(values) for kind, values in features.items()}
        judged[name] = Judged(said, subject.known, videos.labels, found.others, groups)
    return judged, float(found.swapped.mean()), found.pictures


def _class_names(config: BiasConfig, subjects: dict[str, Subject]) -> list[str]:
    """Names of the classes by label: a classifier's own, else of ``classes.txt`` beside a list."""
    for subject in subjects.values():
        if subject.names is not None:
            return subject.names
    count = 1 + max(int(subject.known.max()) for subject in subjects.values())
    return class_names(config.data.train or config.data.test, count)
