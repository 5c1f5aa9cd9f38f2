"""``dsm test``: how well a classifier does on whole videos."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from dsm.analyse.confusion import draw_confusion
from dsm.analyse.confusion_page import write_confusion_page
from dsm.commands.extract import tell_left_out
from dsm.datasets.classes import check_class_names, named
from dsm.datasets.groups import find_groups
from dsm.datasets.lists import VideoList, needed, read_list
from dsm.datasets.reading import ClipConfig, clip_of
from dsm.engine.bad_videos import tell_damaged
from dsm.engine.extraction import ExtractSettings, digest, extract_to_file
from dsm.engine.processes import begun_from_outside
from dsm.engine.progress import console
from dsm.engine.runfolder import claim_by_settings, git_revision, lasting
from dsm.errors import UserError
from dsm.evaluate.bootstrap import class_mean_interval
from dsm.evaluate.disagreement import (
    PREDICTIONS,
    Answers,
    check_same_list,
    compare,
    disagreements_csv,
    read_answers,
)
from dsm.evaluate.feature_files import load_features
from dsm.evaluate.results import RESULTS, Row, print_rows, row_of, run_name, seed_of, share, write_results
from dsm.evaluate.video_test import Predictions, check_labels, probabilities_of
from dsm.files import csv_text, read_object, write_text
from dsm.models.weights import load_classifier
from dsm.notes import many

PROBABILITIES = "probabilities.npz"
MARKER = "test.json"
LIST = "list_digest"


@dataclass(frozen=True)
class VideoTestData:
    """What is tested on."""

    test: Path
    """List of labelled videos."""
    root: Path | None = None
    """Folder put before relative paths; left out, the list's own."""
    workers: int = 1
    """Processes that decode."""


@dataclass(frozen=True)
class VideoTestConfig:
    """Settings of `dsm test`."""

    weights: str
    """A run of `dsm finetune`, or one of its checkpoints."""
    data: VideoTestData
    out: Path
    """Folder for results.json, predictions.csv, classes.csv, probabilities.npz and the confusions."""
    windows: int = 10
    """Clips a video, evenly spread; their probabilities are averaged."""
    crops: int = 1
    """Crops of each clip: 1 in the middle, or 3 along its longer side."""
    batch_size: int = 4
    """Videos at a time."""
    groups: Path | None = None
    """Table of the group of each video; intervals then draw whole groups."""
    group_regex: str = ""
    """The same by a regular expression on the path."""
    against: Path | None = None
    """Folder of another `dsm test` on the same list; writes disagreements.csv and tells who is right."""
    overwrite: bool = False
    """Replace other results in `out`."""

    def __post_init__(self) -> None:
        if min(self.windows, self.batch_size) < 1 or self.data.workers < 0:
            raise UserError("windows and batch-size must be at least 1, data.workers at least 0.")
        if self.crops not in (1, 3):
            raise UserError(f"crops must be 1 or 3, not {self.crops}.")
        if self.against is not None and self.against.absolute() == self.out.absolute():
            raise UserError(f"{self.out}: --against wants the folder of another test than --out.")


def is_tested(out: Path, videos: VideoList) -> bool:
    """Whether a test of this very list came to its end in a folder."""
    made_by = read_object(out / MARKER) or {}
    return (out / RESULTS).is_file() and made_by.get(LIST) == videos.digest(rooted=False)


def video_test(config: VideoTestConfig) -> list[Row]:
    """Test, write everything down, print the table."""
    if begun_from_outside():
        raise UserError("dsm test runs in one process; leave torchrun out.")
    classifier, about = load_classifier(config.weights)
    names = [str(name) for name in about["classes"]]
    videos = read_list(config.data.test, config.data.root, like=named(names, config.weights))
    groups = find_groups(videos.paths, file=config.groups, regex=config.group_regex)
    check_labels(videos, len(names))
    check_class_names(videos, names, config.weights)
    other = None
    if config.against is not None:
        other = read_answers(config.against)
        labels = [names[label] for label in videos.labels]
        check_same_list(config.against, other, videos.paths, labels)
    # Whom a test is compared with changes nothing in it; another list or encoder under the same name does.
    made_by = {LIST: videos.digest(rooted=False), "weights_digest": digest(classifier)}
    settings = lasting(config, but=("against",)) | made_by
    claim_by_settings(
        config.out, MARKER, settings, what="a test",
        overwrite=config.overwrite,
        needed=needed(videos, Path(config.weights), config.groups, config.against),
    )  # fmt: skip
    found = _predict(config, classifier, videos, clip_of(about["clip"]))
    test = config.data.test.stem
    group_of = dict(zip(videos.paths, groups, strict=True)) if groups is not None else None
    read = [group_of[path] for path in found.paths] if group_of else None
    rows = rows_of(found, run=run_name(about), test=test, seed=seed_of(about), groups=read)
    write_text(config.out / PREDICTIONS, predictions_csv(found, names, videos))
    write_text(config.out / "classes.csv", classes_csv(found, names))
    draw_confusion(found.confusion(), names, config.out / "confusion.png")
    title = f"{config.weights} tested on {test}"
    write_confusion_page(config.out / "confusion.html", found, names, title=title)
    write_results(config.out / RESULTS, rows, revision=git_revision())  # last: the test is done
    print_rows(rows)
    console.print(
        f"{config.out}: results.json, predictions.csv, classes.csv, confusion.html, confusion.png, "
        f"{PROBABILITIES}"
    )
    if other is not None and config.against is not None:
        answers = answers_of(found, names, videos)
        _tell_against(config.out, config.against, answers, other, groups)
    return rows


def _predict(
    config: VideoTestConfig, classifier: nn.Module, videos: VideoList, clip: ClipConfig
) -> Predictions:
    """Probabilities of the videos that can be read; a test that was stopped goes on where it was."""
    settings = ExtractSettings(
        config.windows, crops=config.crops, batch_size=config.batch_size, workers=config.data.workers
    )
    file = config.out / PROBABILITIES
    meta = {"weights": config.weights, "list": config.data.test.stem, "windows": config.windows}
    extracted = extract_to_file(
        file, probabilities_of(classifier), videos, clip, settings, meta,
        title="test", overwrite=config.overwrite,
    )  # fmt: skip
    assert extracted is not None, "it runs in one process"
    tell_left_out(file, extracted.bad)
    tell_damaged({one.path: f"{one.path}: {one.reason}" for one in extracted.damaged})
    found = load_features(file)
    return Predictions(found.features, found.labels, found.paths, len(extracted.bad))


def rows_of(
    found: Predictions, *, run: str, test: str, seed: int, groups: Sequence[str] | None = None
) -> list[Row]:
    """Top-1, top-5 and the mean over classes of their top-1, with intervals over videos or groups of them."""
    rows = [share(run, seed, test, f"top{k}", found.top(k), groups=groups) for k in (1, 5)]
    classes = class_mean_interval(found.top(1), found.labels, groups=groups)
    return [*rows, row_of(run, seed, test, "mean_class_top1", classes, len(found.labels))]


def answers_of(found: Predictions, names: Sequence[str], videos: VideoList) -> Answers:
    """The most probable class of each video of the list, by name; none of those that could not be read."""
    row_of_path = {path: row for row, path in enumerate(found.paths)}
    rows = [row_of_path.get(path) for path in videos.paths]
    best = found.probabilities.argmax(1)
    return Answers(
        videos.paths,
        [names[label] for label in videos.labels],
        ["" if row is None else names[best[row]] for row in rows],
        [float("nan") if row is None else float(found.probabilities[row, best[row]]) for row in rows],
    )


def _tell_against(
    out: Path, folder: Path, this: Answers, other: Answers, groups: Sequence[str] | None
) -> None:
    """Write where the two differ, and print who is right how often."""
    write_text(out / "disagreements.csv", disagreements_csv(this, other))
    counts = compare(this, other, groups=groups)
    print(f"against {folder}, of {many(len(this.paths), 'video')}:")
    for words, count in (
        ("both right", counts.both), ("only this one", counts.only_this),
        ("only the other", counts.only_other), ("both wrong", counts.neither),
    ):  # fmt: skip
        print(f"  {words:18s} {count:6d}")
    value, low, high = counts.difference
    interval = "" if math.isnan(low) else f"  [{low:+.1%}, {high:+.1%}]"
    print(f"{'top1 less its top1':20s} {value:+6.1%}{interval}")
    console.print(f"{out / 'disagreements.csv'}: where the two differ")


def predictions_csv(found: Predictions, names: list[str], videos: VideoList) -> str:
    """A line a video: path, class, the three most probable classes with their probabilities, or nothing."""
    best = np.argsort(-found.probabilities, axis=1, kind="stable")[:, :3]
    cells = {
        path: [cell for k in order for cell in (names[k], f"{row[k]:.4f}")]
        for path, order, row in zip(found.paths, best, found.probabilities, strict=True)
    }
    unread = [""] * 2 * best.shape[1]
    lines = [
        [path, names[label], *cells.get(path, unread)]
        for path, label in zip(videos.paths, videos.labels, strict=True)
    ]
    header = [f"{name}{k + 1}" for k in range(best.shape[1]) for name in ("predicted", "probability")]
    return csv_text([["path", "class", *header], *lines])


def classes_csv(found: Predictions, names: list[str]) -> str:
    """A line a class: its videos, its accuracy, and what it is most often taken for."""
    taken_for = found.most_often_taken_for()
    lines = []
    for label, (accuracy, count) in found.class_accuracy().items():
        taken = taken_for[label]
        lines.append([names[label], str(count), f"{accuracy:.4f}", names[taken[0]] if taken else ""])
    return csv_text([["class", "videos", "top1", "most often taken for"], *lines])
