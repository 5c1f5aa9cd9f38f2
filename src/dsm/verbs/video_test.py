"""``dsm test``: how well a classifier does on whole videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table
from torch import nn

from dsm.data.classes import check_class_names, named
from dsm.data.lists import VideoList, list_name, needed, read_list
from dsm.data.settings import ClipConfig, clip_of
from dsm.distributed import begun_from_outside
from dsm.errors import UserError
from dsm.evaluate.extract_to_file import digest, extract_to_file
from dsm.evaluate.feature_files import load_features
from dsm.evaluate.settings import ExtractSettings
from dsm.evaluate.video_test import (
    PREDICTIONS,
    Answers,
    Comparison,
    Predictions,
    check_labels,
    check_same_list,
    compare,
    disagreements_csv,
    probabilities_of,
    read_answers,
)
from dsm.files import csv_text, read_object, write_text
from dsm.intervals import share_interval
from dsm.models.weights import load_classifier
from dsm.pages.confusion import draw_confusion, write_confusion_page
from dsm.runs.bad_videos import tell_damaged, tell_left_out
from dsm.runs.claims import claim_by_settings
from dsm.runs.folder import lasting
from dsm.runs.results import RESULTS, Row, row_of, rows_table, run_name, seed_of, share, write_results
from dsm.settings import takes_settings
from dsm.terminal import many
from dsm.verbs.result import Result, plain_table
from dsm.verbs.settings.evaluation import VideoTestConfig
from dsm.weights_names import path_of

PROBABILITIES = "probabilities.npz"
FILES = (RESULTS, PREDICTIONS, "classes.csv", "confusion.html", "confusion.png", PROBABILITIES)
DISAGREEMENTS = "disagreements.csv"
MARKER = "test.json"
LIST = "list_digest"


@dataclass(frozen=True)
class VideoTestResult(Result):
    """Accuracies (``rows``) and the classifier's predictions for each video."""

    predictions: Predictions | None = None
    """Probabilities and labels of the videos that could be read."""
    classes: Sequence[str] = ()
    """Class names, by label."""
    comparison: Comparison | None = None
    """With ``against``: which of the two classifiers is right, and how often."""


def is_tested(out: Path, videos: VideoList) -> bool:
    """Whether a folder holds a finished test of this list."""
    made_by = read_object(out / MARKER) or {}
    return (out / RESULTS).is_file() and made_by.get(LIST) == videos.digest(rooted=False)


@takes_settings(VideoTestConfig)
def test(config: VideoTestConfig) -> VideoTestResult:
    """Test a classifier on whole videos; write accuracies, predictions and the confusion matrix.

    Unless every video has a label, only predictions.
    """
    if begun_from_outside():
        raise UserError("dsm test runs in one process; start it without torchrun.")
    classifier, about = load_classifier(config.weights)
    names = [str(name) for name in about["classes"]]
    videos = read_list(config.data.test, config.data.root, like=named(names, config.weights))
    groups = config.grouping.of(videos.paths)
    check_labels(videos, len(names), partly=True)
    check_class_names(videos, names, config.weights)
    other = None
    if config.against is not None:
        other = read_answers(config.against)
        check_same_list(config.against, other, videos.paths, _class_of_each(videos, names))
    # `against` does not change the test itself, but a changed list or changed weights of the same name do.
    made_by = {LIST: videos.digest(rooted=False), "weights_digest": digest(classifier)}
    settings = lasting(config, but=("against",)) | made_by
    claim_by_settings(
        config.out, MARKER, settings, what="a test",
        overwrite=config.overwrite,
        needed=needed(videos, path_of(config.weights), config.grouping.groups, config.against),
    )  # fmt: skip
    predictions = _predict(config, classifier, videos, clip_of(about.get("clip", {})))
    listed = list_name(config.data.test)
    group_of = dict(zip(videos.paths, groups, strict=True)) if groups is not None else None
    read_groups = [group_of[path] for path in predictions.paths] if group_of else None
    write_text(config.out / PREDICTIONS, predictions_csv(predictions, names, videos))
    rows, tables, lines, comparison = list[Row](), list[Table](), list[str](), None
    if videos.labelled:
        rows = rows_of(predictions, run=run_name(about), test=listed, seed=seed_of(about), groups=read_groups)
        tables.append(rows_table(rows))
        write_text(config.out / "classes.csv", classes_csv(predictions, names))
        draw_confusion(predictions.confusion(), names, config.out / "confusion.png")
        title = f"{config.weights} tested on {listed}"
        page = config.out / "confusion.html"
        write_confusion_page(page, predictions, names, title=title, groups=read_groups)
        write_results(config.out / RESULTS, rows)  # last: marks the test as finished
    else:
        lines.append(
            f"not every video of {config.data.test} has a label, so the accuracies (top-1, top-5, by class) "
            "and the confusion matrix are left out"
        )
    written = FILES if videos.labelled else (PREDICTIONS, PROBABILITIES)
    files = [config.out / name for name in written]
    lines.append(f"{config.out}: {', '.join(written)}")
    if other is not None and config.against is not None:
        answers = answers_of(predictions, names, videos)
        files.append(config.out / DISAGREEMENTS)
        write_text(files[-1], disagreements_csv(answers, other))
        if videos.labelled:
            comparison = compare(answers, other, groups=groups)
            tables += _comparison_tables(comparison, config.against, len(answers.paths))
        lines.append(f"{files[-1]}: the videos on which the two differ")
    return VideoTestResult(rows, files, tables, lines, predictions, names, comparison)


test.__test__ = False  # type: ignore[attr-defined]  # pytest must not collect it


def _predict(
    config: VideoTestConfig, classifier: nn.Module, videos: VideoList, clip: ClipConfig
) -> Predictions:
    """Probabilities for the videos that can be read; an interrupted test continues where it stopped."""
    settings = ExtractSettings(
        config.windows, crops=config.crops, batch_size=config.batch_size, workers=config.data.workers,
        precision=config.precision,
    )  # fmt: skip
    file = config.out / PROBABILITIES
    meta = {"weights": config.weights, "list": list_name(config.data.test), "windows": config.windows}
    extracted = extract_to_file(
        file, probabilities_of(classifier), videos, clip, settings, meta,
        title="test", overwrite=config.overwrite,
    )  # fmt: skip
    assert extracted is not None, "a test runs in one process"
    tell_left_out(file, extracted.bad)
    tell_damaged({one.path: f"{one.path}: {one.reason}" for one in extracted.damaged})
    probabilities = load_features(file)
    return Predictions(probabilities.features, probabilities.labels, probabilities.paths, len(extracted.bad))


def rows_of(
    predictions: Predictions, *, run: str, test: str, seed: int, groups: Sequence[str] | None = None
) -> list[Row]:
    """Top-1, top-5 and top-1 averaged over classes, with intervals over videos or groups of videos."""
    rows = [share(run, seed, test, f"top{k}", predictions.top(k), groups=groups) for k in (1, 5)]
    classes = share_interval(predictions.top(1), labels=predictions.labels, groups=groups)
    return [*rows, row_of(run, seed, test, "mean_class_top1", classes, len(predictions.labels))]


def _class_of_each(videos: VideoList, names: Sequence[str]) -> list[str]:
    """The class of each video in the list, by name; empty without a label."""
    return [names[label] if label >= 0 else "" for label in videos.labels]


def answers_of(predictions: Predictions, names: Sequence[str], videos: VideoList) -> Answers:
    """The predicted class of each video in the list, by name; empty where the video could not be read."""
    row_of_path = {path: row for row, path in enumerate(predictions.paths)}
    rows = [row_of_path.get(path) for path in videos.paths]
    best = predictions.probabilities.argmax(1)
    return Answers(
        videos.paths,
        _class_of_each(videos, names),
        ["" if row is None else names[best[row]] for row in rows],
        [float("nan") if row is None else float(predictions.probabilities[row, best[row]]) for row in rows],
    )


def _comparison_tables(comparison: Comparison, folder: Path, videos: int) -> list[Table]:
    """Which of two classifiers is right, and how often; and the difference of their top-1."""
    counts = {
        "both right": comparison.both,
        "only this test right": comparison.only_this,
        "only the other right": comparison.only_other,
        "both wrong": comparison.neither,
    }
    difference = comparison.difference
    interval = f"[{difference.low:+.1%}, {difference.high:+.1%}]" if difference.known else ""
    return [
        plain_table([(f"against {folder}, of {many(videos, 'video')}:",)]),
        plain_table([(f"  {words}", f"{count:6d}") for words, count in counts.items()]),
        plain_table([("top1, this minus the other", f"{difference.value:+6.1%}", interval)]),
    ]


def predictions_csv(predictions: Predictions, names: list[str], videos: VideoList) -> str:
    """One line per video: path, class, and the three most probable classes with their probabilities.

    Predictions are empty where the video could not be read.
    """
    best = np.argsort(-predictions.probabilities, axis=1, kind="stable")[:, :3]
    cells = {
        path: [cell for k in order for cell in (names[k], f"{row[k]:.4f}")]
        for path, order, row in zip(predictions.paths, best, predictions.probabilities, strict=True)
    }
    unread = [""] * 2 * best.shape[1]
    lines = [
        [path, name, *cells.get(path, unread)]
        for path, name in zip(videos.paths, _class_of_each(videos, names), strict=True)
    ]
    header = [f"{name}{k + 1}" for k in range(best.shape[1]) for name in ("predicted", "probability")]
    return csv_text([["path", "class", *header], *lines])


def classes_csv(predictions: Predictions, names: list[str]) -> str:
    """One line per class: its number of videos, its accuracy, and the class it is most often mistaken for."""
    mistaken_for = predictions.most_often_taken_for()
    lines = []
    for label, (accuracy, count) in predictions.class_accuracy().items():
        mistake = mistaken_for[label]
        lines.append([names[label], str(count), f"{accuracy:.4f}", names[mistake[0]] if mistake else ""])
    return csv_text([["class", "videos", "top1", "most often taken for"], *lines])
