"""``dsm bias``: how much a model relies on the scene rather than on motion."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dsm.data.classes import check_class_names, class_names, named, names_of
from dsm.data.list_format import UNLABELLED
from dsm.data.lists import VideoList, list_name, needed, read_list
from dsm.data.settings import ClipConfig
from dsm.devices import best_device, reading_workers
from dsm.errors import UserError
from dsm.evaluate.bias import Judged
from dsm.evaluate.bias_subject import Subject, subject_of
from dsm.evaluate.extract import extract_by_all
from dsm.evaluate.extract_to_file import digest
from dsm.evaluate.masks import Masks
from dsm.evaluate.opposites import opposites_by_name, read_opposites
from dsm.evaluate.variant_features import VariantFeatures, features_of_variants
from dsm.evaluate.variants import VARIANTS
from dsm.files import write_text
from dsm.intervals import Interval
from dsm.models.precision import check_precision
from dsm.models.weights import weights_name
from dsm.models.zoo import check_takes
from dsm.pages.bias import (
    bias_table,
    classes_csv,
    draw_bars,
    draw_classes,
    draw_variants,
    predictions_csv,
    rows_of,
    unskilled_lines,
)
from dsm.runs.bad_videos import LEFT_OUT, LeftOut, tell_left_out
from dsm.runs.claims import claim_by_settings
from dsm.runs.folder import lasting
from dsm.runs.record import short_names
from dsm.runs.results import RESULTS, seed_of, write_results
from dsm.settings import takes_settings
from dsm.terminal import many, progress, warn
from dsm.verbs.bias_card import (
    Tested,
    actor_left,
    allowed_by,
    card_of,
    kinds_of,
    masks_for,
    measures_of,
    videos_measured,
)
from dsm.verbs.bias_unlabelled import without_labels
from dsm.verbs.result import Result
from dsm.verbs.settings.evaluation import BiasConfig
from dsm.weights_names import path_of

FILES = (RESULTS, "classes.csv", "predictions.csv", "bias.png", "bars.png", "variants.png")
LEAST = 2
"""Fewest videos per class in a test list."""


def labelled(path: Path, root: Path | None, *, least: int = 1, like: VideoList | None = None) -> VideoList:
    """Read a list in which every video has a label; class names are numbered as in the list ``like``.

    Raises:
        UserError: a video has no label, there is only one class, or a class has fewer than ``least`` videos.
    """
    videos = read_list(path, root, like=named(names_of(like), like.source) if like else None)
    if not videos.labelled:
        raise UserError(
            f"{path}: {many(int((videos.labels < 0).sum()), 'video has', 'videos have')} no label; label "
            "all. For a test list without labels, remove --data.train and --data.conflict: then what needs "
            "none is measured."
        )
    labels, counts = np.unique(videos.labels, return_counts=True)
    if len(labels) < 2:
        raise UserError(
            f"{path}: all its videos are of class {labels[0]}; `dsm bias` needs at least two classes."
        )
    if counts.min() < least:
        raise UserError(
            f"{path}: class {labels[counts.argmin()]} has a single video, too few to measure an accuracy; "
            "add more, or remove the class."
        )
    return videos


def model_names(weights: tuple[str, ...]) -> list[str]:
    """Names of the models: their folder or file names, or where two are equal, the folders that differ.

    Raises:
        UserError: the same weights are given twice.
    """
    if len(set(weights)) < len(weights):
        raise UserError("two of --weights are the same; give each once.")
    names = [weights_name(one) for one in weights]
    count = Counter(names)
    alike = [one for name, one in zip(names, weights, strict=True) if count[name] > 1]
    longer = dict(zip(alike, short_names([Path(one) for one in alike]), strict=True)) if alike else {}
    found = [longer.get(one, name) for name, one in zip(names, weights, strict=True)]
    return found if len(set(found)) == len(found) else list(weights)


def check_classes(subjects: dict[str, Subject], train: VideoList | None, lists: list[VideoList]) -> None:
    """Check that every model can predict every class of the lists, under the same name.

    Raises:
        UserError: a model cannot, or there is no training list to learn the classes from.
    """
    for name, subject in subjects.items():
        if subject.names is None and train is None:
            raise UserError(
                f"{name} is not a classifier; give a labelled list (--data.train) to train a probe on it."
            )
        known = subject.known if subject.names is not None or train is None else np.unique(train.labels)
        source = name if subject.names is not None or train is None else train.source
        for videos in lists:
            unknown = np.setdiff1d(videos.labels, known)
            if len(unknown):
                raise UserError(
                    f"{videos.source}: class {unknown[0]} is not one of the {len(known)} classes of {source}."
                    " Remove its videos from the list, or use weights or a --data.train list with this class."
                )
            if subject.names is not None:
                check_class_names(videos, subject.names, name)


@dataclass(frozen=True)
class Lists:
    """The labelled lists by name: ``test``, and ``train`` and ``conflict`` if they are given."""

    of: dict[str, VideoList]
    groups: dict[str, list[str] | None]
    """The groups of the videos, which intervals resample."""
    left_out: dict[str, LeftOut]
    """The videos that cannot be read."""


@takes_settings(BiasConfig)
def bias(config: BiasConfig) -> Result:
    """Test models on variants of videos without motion or scene; write accuracies, measures and the card."""
    if config.data.train is None and config.data.conflict is None:
        videos = read_list(config.data.test, config.data.root)
        if (videos.labels == UNLABELLED).all():
            if given := [name for name in ("masks", "opposites") if getattr(config, name) is not None]:
                raise UserError(
                    f"{config.data.test} has no labels, which --{given[0]} needs; add labels to it."
                )
            return without_labels(config, videos, config.names or model_names(config.weights))
    lists = _read_lists(config)
    train, test = lists.of.get("train"), lists.of["test"]
    subjects = _load(config)
    check_classes(subjects, train, [videos for name, videos in lists.of.items() if name != "train"])
    by_clip = _by_clip(config, subjects)
    kinds = kinds_of(config)
    labels = _class_names(subjects, [test, *([train] if train else [])])
    pairs = read_opposites(config.opposites, labels) if config.opposites else opposites_by_name(labels)
    masks_of = {clip: masks_for(config, test, clip) for clip in by_clip}
    _claim(config, subjects, lists)
    tested: dict[str, Tested] = {}
    for clip, names in by_clip.items():
        alike = {name: subjects[name] for name in names}
        tested |= _test(config, clip, alike, lists, kinds, masks_of[clip], pairs)
    return _written(config, subjects, lists, tested, labels, pairs)


def _read_lists(config: BiasConfig) -> Lists:
    data = config.data
    train = labelled(data.train, data.root) if data.train else None
    test = labelled(data.test, data.root, least=LEAST, like=train)
    conflict = labelled(data.conflict, data.root, like=train or test) if data.conflict else None
    of = {
        name: videos
        for name, videos in (("test", test), ("train", train), ("conflict", conflict))
        if videos is not None
    }
    groups = {name: config.grouping.of(videos.paths) for name, videos in of.items() if name != "train"}
    left_out = {name: LeftOut(one, least=LEAST if name == "test" else 1) for name, one in of.items()}
    return Lists(of, groups, left_out)


def _claim(config: BiasConfig, subjects: dict[str, Subject], lists: Lists) -> None:
    """Claim the output folder; a report on the same weights and videos is continued."""
    settings = lasting(config) | {
        "weights_digests": {name: digest(subject.module) for name, subject in subjects.items()},
        "list_digests": {name: videos.digest(rooted=False) for name, videos in lists.of.items()},
    }
    claim_by_settings(
        config.out, "bias.json", settings, what="a bias report",
        overwrite=config.overwrite,
        needed=needed(
            *lists.of.values(), *map(path_of, config.weights), config.grouping.groups, config.masks,
            config.opposites,
        ),
    )  # fmt: skip


def _test(
    config: BiasConfig,
    clip: ClipConfig,
    subjects: dict[str, Subject],
    lists: Lists,
    kinds: tuple[str, ...],
    masks: Masks | None,
    pairs: list[tuple[int, int]],
) -> dict[str, Tested]:
    """Test models that take the same clips; probes are trained first."""
    if "train" in lists.of:
        _train_probes(config, clip, subjects, lists)
    judged, variants = _judge(config, clip, subjects, lists, "test", kinds, masks)
    tested = {}
    for name, features in zip(subjects, variants.features, strict=True):
        measures: dict[str, Interval | None] = {}
        if not config.quick:
            measures = measures_of(config, subjects[name], judged[name], features, pairs)
            measures["actor_left"] = actor_left(variants, judged[name])
        counts = videos_measured(variants, judged[name], pairs)
        tested[name] = Tested(clip, masks, judged[name], variants, measures, counts)
    if "conflict" in lists.of:
        on_conflict, _ = _judge(config, clip, subjects, lists, "conflict", ("clip",))
        tested = {name: replace(one, on_conflict=on_conflict[name]) for name, one in tested.items()}
    return tested


def _written(
    config: BiasConfig,
    subjects: dict[str, Subject],
    lists: Lists,
    tested: dict[str, Tested],
    labels: list[str],
    pairs: list[tuple[int, int]],
) -> Result:
    """Write the numbers, tables, pictures and the card."""
    seeds = {name: seed_of(subject.config, config.loading.seed) for name, subject in subjects.items()}
    test = list_name(config.data.test)
    on_conflict = {name: one.on_conflict for name, one in tested.items() if one.on_conflict}
    tested = {name: tested[name] for name in subjects}
    judged = {name: one.judged for name, one in tested.items()}
    videos = lists.of["test"]
    paths = {name: [videos.paths[place] for place in one.variants.places] for name, one in tested.items()}
    measures = {name: one.measures for name, one in tested.items()}
    counts = {name: one.counts for name, one in tested.items()}
    rows = rows_of(judged, test=test, seeds=seeds, measures=measures, counts=counts)
    if config.data.conflict:
        other = list_name(config.data.conflict)
        # Lists in different folders may have the same name.
        rows += rows_of(on_conflict, test=other if other != test else f"{other} (conflict)", seeds=seeds)
    write_results(config.out / RESULTS, rows)
    write_text(config.out / "classes.csv", classes_csv(judged, labels))
    write_text(config.out / "predictions.csv", predictions_csv(judged, paths, labels))
    for name, left_out in lists.left_out.items():
        left_out.save(config.out / f"{name}{LEFT_OUT}")
        tell_left_out(config.out / name, left_out.verdicts)
    draw_classes(judged, labels, config.out / "bias.png")
    draw_bars(judged, config.out / "bars.png")
    draw_variants(next(iter(tested.values())).variants.pictures, config.out / "variants.png")  # the last
    found = allowed_by(tested, masked=config.masks is not None)
    if not found.still:
        warn(f"{found.why} Scene reliance is underestimated: see variants.png.")
    files = [config.out / name for name in FILES]
    if not config.quick:
        files += card_of(config, tested, videos, labels, pairs)
    written = f"{config.out}: {', '.join(file.name for file in files[:-1])} and {files[-1].name}"
    return Result(rows, files, [bias_table(rows, judged, test=test)], [*unskilled_lines(judged), written])


def _load(config: BiasConfig) -> dict[str, Subject]:
    """Load the models, by name."""
    subjects = {}
    for name, weights in zip(config.names or model_names(config.weights), config.weights, strict=True):
        subject = subject_of(config.loading.load(weights, "classifier"))
        subject.module.to(best_device())
        check_precision(config.precision, best_device().type)
        subjects[name] = subject
    return subjects


def _by_clip(config: BiasConfig, subjects: dict[str, Subject]) -> dict[ClipConfig, list[str]]:
    """Group models that take the same clips: they share one pass over the videos.

    Raises:
        UserError: a model takes optical flow, which has no scene to change, or does not take such clips.
    """
    names: dict[ClipConfig, list[str]] = {}
    for name, subject in subjects.items():
        clip = config.clip.of(subject.config)
        if clip.modality == "flow":
            raise UserError(f"{name} takes optical flow, but `dsm bias` measures models of RGB clips.")
        check_takes(subject.module, clip.input_shape)
        names.setdefault(clip, []).append(name)
    return names


def _train_probes(config: BiasConfig, clip: ClipConfig, subjects: dict[str, Subject], lists: Lists) -> None:
    train, left_out = lists.of["train"], lists.left_out["train"]
    encoders = [subject for subject in subjects.values() if subject.names is None]
    if not encoders:
        return
    with progress("features to train the probe on", len(train)) as bar:
        features = extract_by_all(
            [subject.module for subject in encoders], train, clip, windows=config.windows,
            batch_size=config.batch_size, workers=reading_workers(config.data.workers),
            precision=config.precision,
            on_progress=lambda done: bar.update(done, left_out.note()), on_bad=left_out.add,
        )  # fmt: skip
    for subject, its_features in zip(encoders, features, strict=True):
        subject.learn(its_features)


def _judge(
    config: BiasConfig,
    clip: ClipConfig,
    subjects: dict[str, Subject],
    lists: Lists,
    which: str,
    kinds: tuple[str, ...],
    masks: Masks | None = None,
) -> tuple[dict[str, Judged], VariantFeatures]:
    """Each model's probabilities for every variant of a list's readable videos, and the features."""
    videos, groups, left_out = lists.of[which], lists.groups[which], lists.left_out[which]
    with progress(f"variants of {Path(videos.source).name}", len(videos)) as bar:
        variants = features_of_variants(
            [subject.module for subject in subjects.values()], videos, clip,
            {kind: VARIANTS[kind] for kind in kinds}, windows=config.windows, batch_size=config.batch_size,
            workers=reading_workers(config.data.workers), seed=config.loading.seed, masks=masks,
            precision=config.precision,
            on_progress=lambda done: bar.update(done, left_out.note()), on_bad=left_out.add,
        )  # fmt: skip
    labels = videos.labels[variants.places]
    readable_groups = groups and [groups[place] for place in variants.places]
    judged = {}
    for (name, subject), features in zip(subjects.items(), variants.features, strict=True):
        probabilities = {kind: subject.judge(values) for kind, values in features.items()}
        judged[name] = Judged(probabilities, subject.known, labels, variants.partners, readable_groups)
    return judged, variants


def _class_names(subjects: dict[str, Subject], lists: list[VideoList]) -> list[str]:
    """Class names by label: a classifier's own, or those of the list to train on, if given, or to test on."""
    for subject in subjects.values():
        if subject.names is not None:
            return subject.names
    count = 1 + max(int(videos.labels.max()) for videos in lists)
    return class_names(lists[-1], count)
