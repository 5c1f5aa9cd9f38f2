"""Training as a verb: ``dsm pretrain``, ``dsm finetune`` and its sweep over fractions of the labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dsm.data.classes import class_names, write_classes
from dsm.data.lists import VideoList, needed, read_list, write_list
from dsm.data.splits import subset
from dsm.distributed import begun_from_outside, is_first
from dsm.errors import UserError
from dsm.methods import MethodSettings
from dsm.models.checkpoint_file import list_checkpoints
from dsm.models.weights import RANDOM, load_weights
from dsm.pages.run_figures import draw_fractions
from dsm.runs.folder import claim_by_settings, flat, git_revision, lasting
from dsm.runs.results import RESULTS, Row, read_results, write_results
from dsm.signals import STOPS, Interrupted
from dsm.terminal import console, warn
from dsm.train.config import train_once
from dsm.train.finetune import FinetuneConfig, classified_encoder, finetune, read_lists
from dsm.train.pretrain import PretrainConfig, pretrain
from dsm.verbs.card import renew_card
from dsm.verbs.video_test import VideoTestConfig, VideoTestData, is_tested
from dsm.verbs.video_test import test as test_videos

STOPPED = tuple(128 + number for number in STOPS)
"""What processes end with that were stopped by a signal, and have saved."""


def train_and_draw(out: Path, train: Callable[[], object]) -> None:
    """Train; draw what there is also when stopped; say where everything is."""
    try:
        train()
    except Interrupted:
        _draw(out)
        raise
    except SystemExit as ended:  # of processes, which have told why
        _draw(out)
        if isinstance(ended.code, int) and ended.code in STOPPED and list_checkpoints(out):
            raise Interrupted("stopped", int(ended.code) - 128) from None
        raise
    if not is_first():
        return
    pictures = _draw(out)
    console.print(f"{out}: the run; how it went: {' and '.join(pictures)}.")


def say_next(command: str) -> None:
    """What one would type next; for a run that was asked for alone, not as a stage of something."""
    if is_first():
        console.print(f"Next: {command}", highlight=False)


def _draw(out: Path) -> list[str]:
    """Pictures must not cost a run its end."""
    from dsm.pages.run_figures import draw_run

    if not is_first() or not out.is_dir():
        return []
    try:
        return [str(path) for path in draw_run(out)]
    except OSError as error:
        warn(f"pictures cannot be written: {error.strerror}.")
        return []


def pretrain_as_typed(config: PretrainConfig) -> None:
    """Pretrain, as somebody asked for it on the command line, and say what comes next.

    Raises:
        UserError: besides what :func:`pretrain` raises, a setting is of a method that is not chosen.
    """
    asked, default = flat(asdict(config.settings)), flat(asdict(MethodSettings()))
    for name, value in asked.items():
        method, _, setting = name.partition(".")
        if method != config.method and value != default[name]:
            raise UserError(
                f"--{name} is a setting of --method {method}, which {config.method} does not look at; leave "
                f"it out, or see whether there is a --{config.method}.{setting}."
            )
    pretrain_command(config)
    say_next(f"dsm extract --weights {config.out} --data LIST --out FEATURES.npz")


def pretrain_command(config: PretrainConfig) -> None:
    """Pretrain, and draw how it went."""
    train_and_draw(config.out, lambda: pretrain(config))


def finetune_command(config: FinetuneConfig) -> None:
    """Fine-tune, and draw how it went."""
    train_and_draw(config.out, lambda: finetune(config))


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
        console.print(f"{label} of {videos.source}: {len(part)} videos", style="bold", highlight=False)
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
            f"--fractions {plainly(fraction)}: leaves {len(chosen)} videos of {videos.source}, too few for a "
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
    if is_tested(out, read_list(test, run.data.root)):
        return read_results(out / RESULTS)
    data = VideoTestData(test, run.data.root, run.data.workers)
    tested = test_videos(VideoTestConfig(str(run.out), data, out, overwrite=True))
    renew_card(run.out, ())
    return tested.rows


def _tell(name: str, counts: Sequence[int], rows: Sequence[Row]) -> None:
    table = Table(title=escape(f"{name}: top-1 on {rows[0].test}"))
    for column in ("fraction", "videos", "top-1", "95 % interval"):
        table.add_column(column, justify="right")
    for count, row in zip(counts, rows, strict=True):
        interval = "" if row.low is None or row.high is None else f"{row.low:.1%} to {row.high:.1%}"
        table.add_row(row.run.rpartition("@")[2], str(count), f"{row.value:.1%}", interval)
    Console().print(table)
