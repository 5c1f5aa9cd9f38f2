"""``dsm test``: how well a classifier does on whole videos."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dsm.analyse.confusion import draw_confusion
from dsm.datasets.lists import read_list
from dsm.datasets.reading import ClipConfig
from dsm.engine.device import best_device
from dsm.engine.progress import console, progress
from dsm.engine.runfolder import claim_by_settings, git_revision, plain
from dsm.errors import UserError
from dsm.evaluate.results import Row, share, write_results
from dsm.evaluate.video_test import Predictions, predict
from dsm.files import write_text
from dsm.models.weights import load_classifier


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
    """Folder for results.json, predictions.csv, classes.csv and confusion.png."""
    windows: int = 10
    """Clips a video, evenly spread; their probabilities are averaged."""
    crops: int = 1
    """Crops of each clip: 1 in the middle, or 3 along its longer side."""
    batch_size: int = 4
    """Videos at a time."""
    overwrite: bool = False
    """Replace other results in `out`."""

    def __post_init__(self) -> None:
        if min(self.windows, self.batch_size) < 1 or self.data.workers < 0:
            raise UserError("windows and batch-size must be at least 1, data.workers at least 0.")
        if self.crops not in (1, 3):
            raise UserError(f"crops must be 1 or 3, not {self.crops}.")


def video_test(config: VideoTestConfig) -> list[Row]:
    """Test, write everything down, print the table."""
    videos = read_list(config.data.test, config.data.root)
    classifier, about = load_classifier(config.weights)
    settings = {name: value for name, value in plain(config).items() if name != "overwrite"}
    claim_by_settings(config.out, "test.json", settings, what="a test", overwrite=config.overwrite)
    with progress("test", len(videos)) as bar:
        found = predict(
            classifier.to(best_device()), videos, ClipConfig(**about["clip"]),
            classes=len(about["classes"]), windows=config.windows, crops=config.crops,
            batch_size=config.batch_size, workers=config.data.workers, on_progress=bar.update,
        )  # fmt: skip
    rows = rows_of(found, run=about["method"], test=config.data.test.stem, seed=seed_of(about))
    write_results(config.out / "results.json", rows, revision=git_revision())
    names = [str(name) for name in about["classes"]]
    write_text(config.out / "predictions.csv", predictions_csv(found, names))
    write_text(config.out / "classes.csv", classes_csv(found, names))
    draw_confusion(found.confusion(), names, config.out / "confusion.png")
    for row in rows:
        interval = "" if row.low is None or row.high is None else f"  [{row.low:.1%}, {row.high:.1%}]"
        print(f"{row.metric:20s} {row.value:6.1%}{interval}")
    console.print(f"{config.out}: results.json, predictions.csv, classes.csv and confusion.png")
    return rows


def rows_of(found: Predictions, *, run: str, test: str, seed: int) -> list[Row]:
    """Top-1 and top-5 with intervals over videos, and the mean over classes of their top-1."""
    rows = [share(run, seed, test, f"top{k}", found.top(k)) for k in (1, 5)]
    each = [accuracy for accuracy, _ in found.class_accuracy().values()]
    return [
        *rows,
        Row(run, seed, test, "mean_class_top1", float(np.mean(each)), None, None, len(found.labels)),
    ]


def predictions_csv(found: Predictions, names: list[str]) -> str:
    """A line a video: path, class, the three most probable classes with their probabilities."""
    best = np.argsort(-found.probabilities, axis=1, kind="stable")[:, :3]
    lines = [
        [path, names[label], *(cell for k in order for cell in (names[k], f"{row[k]:.4f}"))]
        for path, label, order, row in zip(found.paths, found.labels, best, found.probabilities, strict=True)
    ]
    header = [f"{name}{k + 1}" for k in range(best.shape[1]) for name in ("predicted", "probability")]
    return _csv([["path", "class", *header], *lines])


def classes_csv(found: Predictions, names: list[str]) -> str:
    """A line a class: its videos, its accuracy, and what it is most often taken for."""
    table = found.confusion()
    lines = []
    for label, (accuracy, count) in found.class_accuracy().items():
        wrong = table[label].copy()
        wrong[label] = 0
        taken = names[int(wrong.argmax())] if wrong.any() else ""
        lines.append([names[label], str(count), f"{accuracy:.4f}", taken])
    return _csv([["class", "videos", "top1", "most often taken for"], *lines])


def _csv(lines: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def seed_of(about: dict[str, object]) -> int:
    """The seed of the run that trained a checkpoint, by what the checkpoint says of it."""
    settings = about.get("settings")
    return int(settings.get("seed", 0)) if isinstance(settings, dict) else 0
