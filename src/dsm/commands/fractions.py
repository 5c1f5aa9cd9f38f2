"""``dsm finetune --fractions``: how much a classifier learns from a part of the labels.

``OUT/0.1.txt`` is the list of a tenth of each class, ``OUT/0.1`` the run on it, ``OUT/0.1/test`` its test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dsm.analyse.fractions import draw_fractions
from dsm.commands.card import renew_card
from dsm.commands.finetune import finetune_command
from dsm.commands.train import say_next
from dsm.commands.video_test import VideoTestConfig, VideoTestData, is_tested, video_test
from dsm.datasets.classes import class_names, named, names_of, write_classes
from dsm.datasets.lists import VideoList, needed, read_list, write_list
from dsm.datasets.splits import subset
from dsm.engine.finetune import FinetuneConfig, classified_encoder, read_lists
from dsm.engine.processes import begun_from_outside
from dsm.engine.progress import console
from dsm.engine.run import train_once
from dsm.engine.runfolder import claim_by_settings, git_revision, lasting
from dsm.errors import UserError
from dsm.evaluate.results import RESULTS, Row, read_results, write_results
from dsm.models.weights import RANDOM, load_weights
from dsm.notes import many


@dataclass(frozen=True)
class FractionsConfig(FinetuneConfig):
    """Settings of `dsm finetune`; the paper's are sgd, lr 0.001, 45 epochs of 64 frames, batch 4."""

    fractions: tuple[float, ...] = ()
    """Train a run on each of these shares of every class (0.01 for 1 %; smaller ones lie inside larger ones)
    and test it on `data.test`, if that is given; the same command goes on where it was stopped."""

    def __post_init__(self) -> None:
        super().__post_init__()
        wrong = [fraction for fraction in self.fractions if not 0 < fraction <= 1]
        if wrong:
            raise UserError(f"fractions must be above 0 and at most 1 (0.01 is 1 %), not {wrong[0]:g}.")
        if len(set(self.fractions)) < len(self.fractions):
            raise UserError("fractions: the same one stands there twice; give each once.")


def finetune_or_sweep(config: FractionsConfig) -> None:
    """One run on the whole list, or one on each fraction of it."""
    if config.fractions:
        sweep(config)
    else:
        finetune_command(as_run(config))
        say_next(f"dsm test --weights {config.out} --data.test LIST --out RESULTS")


def as_run(config: FractionsConfig, **changes: Any) -> FinetuneConfig:
    """The settings of one run, without the fractions."""
    own = {field.name: getattr(config, field.name) for field in fields(FinetuneConfig)}
    return FinetuneConfig(**{**own, **changes})


def sweep(config: FractionsConfig) -> list[Row]:
    """Train and test what is not done yet, the smallest fraction first; write and draw the numbers.

    Raises:
        UserError: found before anything is written, where it does not lie in the videos themselves.
        Interrupted: stopped by a signal; the same settings go on.
    """
    if begun_from_outside():
        raise UserError("--fractions trains one run after another: leave torchrun out, and give --devices.")
    videos, tests = read_lists(config.data)
    parts = {one: videos.part(_chosen(config, videos, one), config.out) for one in sorted(config.fractions)}
    classified_encoder(config)  # weights that do not fit are found out now
    name = "random" if config.weights == RANDOM else load_weights(config.weights).name
    settings = lasting(config, but=("fractions",))  # the same sweep may have others the next time
    claim_by_settings(
        config.out, "fractions.json", settings, what="a sweep",
        overwrite=config.overwrite, needed=needed(videos, tests, Path(config.weights)),
    )  # fmt: skip
    write_classes(config.out, class_names(videos, int(videos.labels.max()) + 1))

    rows: list[Row] = []
    for fraction, part in parts.items():
        label = plainly(fraction)
        console.print(
            f"{label} of {videos.source}: {many(len(part), 'video')}", style="bold", highlight=False
        )
        data = replace(config.data, train=_written(part, config.out / f"{label}.txt"))
        run = as_run(config, data=data, out=config.out / label)
        train_once(run, finetune_command)
        if config.data.test is not None:
            rows += [replace(row, run=f"{name}@{label}") for row in _tested(run, config.data.test)]
            write_results(config.out / RESULTS, rows, revision=git_revision())
    if not rows:
        console.print(f"{config.out}: the runs; nothing is tested, as --data.test is not given.")
        return rows
    shown = [row for row in rows if row.metric == "top1"]
    counts = [len(part) for part in parts.values()]
    draw_fractions(counts, shown, config.out / "fractions.png")
    _tell(name, counts, shown)
    console.print(f"{config.out}: the runs, results.json and fractions.png")
    return rows


def plainly(fraction: float) -> str:
    """As one would write it: 0.01, 1; never 1e-05, and never two fractions alike."""
    return np.format_float_positional(fraction, trim="-")


def _chosen(config: FractionsConfig, videos: VideoList, fraction: float) -> np.ndarray[Any, Any]:
    chosen = subset(videos.labels, fraction, config.seed)
    if len(chosen) < config.data.batch_size:
        raise UserError(
            f"--fractions {plainly(fraction)}: leaves {many(len(chosen), 'video')} of "
            f"{videos.source}, too few for a "
            f"batch of {config.data.batch_size}; set --data.batch-size {len(chosen)}, or leave it out."
        )
    return chosen


def _written(part: VideoList, file: Path) -> Path:
    """The list of a fraction; a run that was begun goes on only with the videos it was begun with."""
    if file.is_file():
        before = read_list(file)
        if list(before.paths) != list(part.paths) or not np.array_equal(before.labels, part.labels):
            raise UserError(
                f"{file}: holds other videos than the training list gives now; choose another --out, "
                f"or remove {file.parent} to begin anew."
            )
    write_list(file, part)
    return file


def _tested(run: FinetuneConfig, test: Path) -> Sequence[Row]:
    """The test of a finished run, done once, and anew where the list holds something else."""
    out = run.out / "test"
    like = named(names_of(read_list(run.data.train, run.data.root)), run.data.train)
    if is_tested(out, read_list(test, run.data.root, like=like)):
        return read_results(out / RESULTS)
    data = VideoTestData(test, run.data.root, run.data.workers)
    rows = video_test(VideoTestConfig(str(run.out), data, out, overwrite=True))
    renew_card(run.out, ())
    return rows


def _tell(name: str, counts: Sequence[int], rows: Sequence[Row]) -> None:
    table = Table(title=escape(f"{name}: top-1 on {rows[0].test}"))
    for column in ("fraction", "videos", "top-1", "95 % interval"):
        table.add_column(column, justify="right")
    for count, row in zip(counts, rows, strict=True):
        interval = "" if row.low is None or row.high is None else f"{row.low:.1%} to {row.high:.1%}"
        table.add_row(row.run.rpartition("@")[2], str(count), f"{row.value:.1%}", interval)
    Console().print(table)
