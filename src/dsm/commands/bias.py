"""``dsm bias``: how much of what weights know is scene."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from dsm.analyse.bias import Judged
from dsm.analyse.bias_figures import draw_bars, draw_classes, draw_variants
from dsm.analyse.bias_report import classes_csv, predictions_csv, print_table, rows_of
from dsm.commands.bias_checks import LEAST, check_classes, labelled, names_of
from dsm.commands.extract import tell_left_out
from dsm.commands.loading import LoadSettings
from dsm.datasets.classes import class_names
from dsm.datasets.groups import find_groups
from dsm.datasets.lists import VideoList, needed
from dsm.datasets.reading import ClipChanges, ClipConfig
from dsm.engine.bad_videos import LEFT_OUT, LeftOut
from dsm.engine.device import best_device
from dsm.engine.extraction import digest
from dsm.engine.progress import console, progress
from dsm.engine.runfolder import claim_by_settings, git_revision, lasting
from dsm.errors import UserError
from dsm.evaluate.extract import extract_by_all
from dsm.evaluate.results import RESULTS, Row, seed_of, write_results
from dsm.evaluate.subject import Subject, subject_of
from dsm.evaluate.variants import VARIANTS, Pictures, VariantFeatures, features_of_variants
from dsm.files import write_text
from dsm.models.shapes import check_takes

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
    """Table whose last column says which tested videos belong together; intervals then draw whole groups."""
    group_regex: str = ""
    """The same, found in their paths."""
    loading: Annotated[LoadSettings, tyro.conf.arg(name="")] = field(default_factory=LoadSettings)
    windows: int = 3
    """Clips a video, evenly spread; features or probabilities are averaged over them."""
    clip: Annotated[ClipChanges, tyro.conf.arg(name="")] = field(default_factory=ClipChanges)
    batch_size: int = 4
    """Videos at a time."""
    overwrite: bool = False
    """Replace another report in `out`."""

    def __post_init__(self) -> None:
        if min(self.windows, self.batch_size) < 1:
            raise UserError("windows and batch-size must be at least 1.")
        if self.data.workers < 0:
            raise UserError("data.workers must not be below 0.")
        if not self.weights:
            raise UserError("--weights names nothing; give one or more.")
        if self.names and len(self.names) != len(self.weights):
            raise UserError(f"{len(self.names)} --names for {len(self.weights)} --weights; each needs one.")
        if len(set(self.names)) < len(self.names):
            raise UserError("two of --names are the same.")


def bias(config: BiasConfig) -> list[Row]:
    """Examine all weights, write everything down, print the table."""
    train = labelled(config.data.train, config.data.root) if config.data.train else None
    tests = labelled(config.data.test, config.data.root, least=LEAST, like=train)
    data = config.data
    conflict = labelled(data.conflict, data.root, like=train or tests) if data.conflict else None
    groups = _groups(config, tests)
    elsewhere_groups = _groups(config, conflict) if conflict else None
    asked = {"test": tests, "train": train, "conflict": conflict}
    left_out = {
        name: LeftOut(videos, least=LEAST if name == "test" else 1)
        for name, videos in asked.items()
        if videos is not None
    }
    subjects = _load(config)
    check_classes(subjects, train, [tests, *([conflict] if conflict else [])])
    by_clip = _by_clip(config, subjects)
    settings = lasting(config) | {
        "weights_digests": {name: digest(subject.module) for name, subject in subjects.items()},
        "list_digests": {name: videos.digest(rooted=False) for name, videos in asked.items() if videos},
    }
    claim_by_settings(
        config.out, "bias.json", settings, what="a bias report",
        overwrite=config.overwrite, needed=needed(*asked.values(), *map(Path, config.weights), config.groups),
    )  # fmt: skip

    judged: dict[str, Judged] = {}
    elsewhere: dict[str, Judged] = {}
    swapped: dict[str, float] = {}
    paths: dict[str, list[str]] = {}
    pictures: Pictures = {}
    for clip, names in by_clip.items():
        alike = {name: subjects[name] for name in names}
        if train is not None:
            _train_probes(config, clip, alike, train, left_out["train"])
        found, made = _judge(config, clip, alike, tests, tuple(VARIANTS), groups, left_out["test"])
        judged |= found
        read = [tests.paths[place] for place in made.places]
        paths |= dict.fromkeys(names, read)
        swapped |= dict.fromkeys(names, float(made.swapped.mean()))
        pictures = made.pictures
        if conflict is not None:
            elsewhere |= _judge(
                config, clip, alike, conflict, ("clip",), elsewhere_groups, left_out["conflict"]
            )[0]

    judged = {name: judged[name] for name in subjects}
    seeds = {name: seed_of(subject.config, config.loading.seed) for name, subject in subjects.items()}
    test = config.data.test.stem
    rows = rows_of(judged, test=test, seeds=seeds)
    if config.data.conflict:
        other = config.data.conflict.stem
        # Lists of two folders may have one name.
        rows += rows_of(elsewhere, test=other if other != test else f"{other} (conflict)", seeds=seeds)
    labels = _class_names(config, subjects)
    write_results(config.out / RESULTS, rows, revision=git_revision())
    write_text(config.out / "classes.csv", classes_csv(judged, labels))
    write_text(config.out / "predictions.csv", predictions_csv(judged, paths, labels))
    for name, one in left_out.items():
        one.save(config.out / f"{name}{LEFT_OUT}")
    draw_classes(judged, labels, config.out / "bias.png")
    draw_bars(judged, config.out / "bars.png")
    draw_variants(pictures, config.out / "variants.png")
    print_table(rows, judged, test=test)
    for name, one in left_out.items():
        tell_left_out(config.out / name, one.verdicts)
    for name, share in swapped.items():
        if share < SWAPPED_ENOUGH:
            console.print(
                f"{name}: only {share:.0%} of the picture could be exchanged (does the camera move?); "
                "its scene reliance is too low. See variants.png.", style="yellow",
            )  # fmt: skip
    files = "results.json, classes.csv, predictions.csv, bias.png, bars.png and variants.png"
    console.print(f"{config.out}: {files}")
    return rows


def _groups(config: BiasConfig, videos: VideoList) -> list[str] | None:
    return find_groups(videos.paths, file=config.groups, regex=config.group_regex)


def _load(config: BiasConfig) -> dict[str, Subject]:
    """The weights, by the name each is called by."""
    subjects = {}
    for name, weights in zip(config.names or names_of(config.weights), config.weights, strict=True):
        subject = subject_of(config.loading.load(weights, "classifier"))
        subject.module.to(best_device())
        subjects[name] = subject
    return subjects


def _by_clip(config: BiasConfig, subjects: dict[str, Subject]) -> dict[ClipConfig, list[str]]:
    """Which weights look at the same clips: those share one pass over the videos.

    Raises:
        UserError: some look at optical flow, in which there is no scene to change, or take no such clips.
    """
    found: dict[ClipConfig, list[str]] = {}
    for name, subject in subjects.items():
        clip = config.clip.of(subject.config)
        if clip.modality == "flow":
            raise UserError(f"{name}: looks at optical flow; variants are made of pictures.")
        check_takes(subject.module, clip.input_shape)
        found.setdefault(clip, []).append(name)
    return found


def _train_probes(
    config: BiasConfig, clip: ClipConfig, subjects: dict[str, Subject], train: VideoList, left_out: LeftOut
) -> None:
    encoders = [subject for subject in subjects.values() if subject.names is None]
    if not encoders:
        return
    with progress("features to train the probe on", len(train)) as bar:
        features = extract_by_all(
            [subject.module for subject in encoders], train, clip, windows=config.windows,
            batch_size=config.batch_size, workers=config.data.workers,
            on_progress=lambda done: bar.update(done, left_out.note()), on_bad=left_out.add,
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
    left_out: LeftOut,
) -> tuple[dict[str, Judged], VariantFeatures]:
    """What each says of all variants of the videos that can be read; and what that is made of."""
    with progress(f"variants of {Path(videos.source).name}", len(videos)) as bar:
        found = features_of_variants(
            [subject.module for subject in subjects.values()], videos, clip,
            {kind: VARIANTS[kind] for kind in kinds}, windows=config.windows, batch_size=config.batch_size,
            workers=config.data.workers, seed=config.loading.seed,
            on_progress=lambda done: bar.update(done, left_out.note()), on_bad=left_out.add,
        )  # fmt: skip
    labels = videos.labels[found.places]
    its_groups = groups and [groups[place] for place in found.places]
    judged = {}
    for (name, subject), features in zip(subjects.items(), found.features, strict=True):
        said = {kind: subject.judge(values) for kind, values in features.items()}
        judged[name] = Judged(said, subject.known, labels, found.others, its_groups)
    return judged, found


def _class_names(config: BiasConfig, subjects: dict[str, Subject]) -> list[str]:
    """Names of the classes by label: a classifier's own, else of ``classes.txt`` beside a list."""
    for subject in subjects.values():
        if subject.names is not None:
            return subject.names
    count = 1 + max(int(subject.known.max()) for subject in subjects.values())
    return class_names((config.data.train or config.data.test).parent, count)
