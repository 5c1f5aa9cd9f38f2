"""Training as a verb: ``dsm pretrain``, ``dsm finetune`` and its sweep over fractions of the labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from dsm.data.classes import class_names, named, names_of, write_classes
from dsm.data.lists import VideoList, needed, read_list, write_list
from dsm.data.splits import subset
from dsm.distributed import begun_from_outside, is_first
from dsm.errors import UserError
from dsm.methods.settings import MethodSettings
from dsm.models.checkpoint_file import list_checkpoints
from dsm.models.settings import RANDOM
from dsm.models.weights import load_weights, read_checkpoint
from dsm.pages.figures import save_figure
from dsm.pages.run_figures import draw_run, fractions_figure
from dsm.runs.checkpoint import BEST
from dsm.runs.claims import claim_by_settings
from dsm.runs.folder import flat, lasting
from dsm.runs.results import RESULTS, Row, read_results, write_results
from dsm.runs.tracking import track_end
from dsm.settings import takes_settings
from dsm.signals import STOPS, Interrupted
from dsm.terminal import console, many, warn
from dsm.train.config import FinetuneConfig, PretrainConfig, RunConfig
from dsm.train.encoder import starting_encoder
from dsm.train.finetune import finetune as train_classifier
from dsm.train.finetune import read_lists
from dsm.train.pretrain import pretrain as train_encoder
from dsm.train.start import train_once
from dsm.verbs.card import renew_card
from dsm.verbs.result import Result
from dsm.verbs.settings.evaluation import VideoTestConfig, VideoTestData
from dsm.verbs.settings.training import FractionsConfig
from dsm.verbs.video_test import is_tested
from dsm.verbs.video_test import test as test_videos
from dsm.weights_names import path_of

STOPPED = tuple(128 + number for number in STOPS)
"""Exit codes of processes that saved and ended after a signal."""


@takes_settings(PretrainConfig)
def pretrain(config: PretrainConfig) -> Result:
    """Train an encoder on unlabelled videos; write its run folder and plot its curves.

    Ctrl-C lets the current step finish, saves, and raises :class:`dsm.signals.Interrupted`; ``resume=True``
    continues from there.

    Raises:
        UserError: a mistake that the user can fix, found before anything is written where possible; also a
            setting of a method that is not chosen.
        Interrupted: stopped by a signal; a checkpoint was written.
    """
    given, default = flat(asdict(config.settings)), flat(asdict(MethodSettings()))
    for name, value in given.items():
        method, _, setting = name.partition(".")
        if method != config.method and value != default[name]:
            raise UserError(
                f"--{name} is a setting of --method {method} and has no effect on {config.method}; remove "
                f"it, or check whether there is a --{config.method}.{setting}."
            )
    result = _train(config)
    return _with_next(result, f"dsm extract --weights {_better(config)} --data LIST --out FEATURES.npz")


@takes_settings(FractionsConfig)
def finetune(config: FractionsConfig) -> Result:
    """Train a classifier on an encoder, or one on each fraction of the labels; write its run folder.

    With ``fractions``, the result holds the test accuracies, which are also written and plotted.

    Raises:
        UserError: a mistake that the user can fix, found before anything is written where possible.
        Interrupted: stopped by a signal; a checkpoint was written. With ``fractions`` the same settings
            continue, without them ``resume=True`` does.
    """
    if config.fractions:
        return _sweep(config)
    result = _train(as_run(config))
    return _with_next(result, f"dsm test --weights {config.out} --data.test LIST --out RESULTS")


def _better(config: PretrainConfig) -> str | Path:
    """The run; of one that adapted an encoder, its best checkpoint or the original, whichever is better."""
    checkpoints = list_checkpoints(config.out)
    if config.tune is None or not is_first() or not checkpoints:
        return config.out
    helped = (read_checkpoint(checkpoints[-1]).get("adapting") or {}).get("has_helped")
    if helped is None:
        return config.out
    return config.out / "checkpoints" / BEST if helped else config.weights


def train_stage(config: RunConfig) -> None:
    """Train a run that is part of larger work, unless it is finished; say where it is."""

    def train(stage: RunConfig) -> None:
        for line in _train(stage).lines:
            console.print(line)

    train_once(config, train)


def _train(config: RunConfig) -> Result:
    """Train one run and plot its curves, even if it is stopped."""
    train: Callable[[Any], object] = train_encoder if isinstance(config, PretrainConfig) else train_classifier
    try:
        train(config)
    except Interrupted:
        _draw(config.out)
        raise
    except SystemExit as ended:  # of worker processes, which have printed the reason
        _draw(config.out)
        if isinstance(ended.code, int) and ended.code in STOPPED and list_checkpoints(config.out):
            raise Interrupted("stopped", int(ended.code) - 128) from None
        raise
    if not is_first():
        return Result()
    figures = _draw(config.out)
    results = config.out / RESULTS
    rows = read_results(results) if results.is_file() else []
    track_end(config.out, config.track, pictures=figures)
    curves = f"; its curves are in {' and '.join(map(str, figures))}" if figures else ""
    return Result(rows, [config.out, *figures], lines=[f"{config.out}: the run{curves}."])


def _draw(out: Path) -> list[Path]:
    """Plot a run's curves. A run must not fail at its end because they cannot be written."""
    if not is_first() or not out.is_dir():
        return []
    try:
        return draw_run(out)
    except OSError as error:
        warn(f"cannot write figures: {error.strerror}.")
        return []


def _with_next(result: Result, command: str) -> Result:
    """The result, with the next command added; only in the first process."""
    return replace(result, lines=[*result.lines, f"Next: {command}"]) if result.lines else result


def as_run(config: FractionsConfig, **changes: Any) -> FinetuneConfig:
    """The settings of one run, without the fractions."""
    own = {field.name: getattr(config, field.name) for field in fields(FinetuneConfig)}
    return FinetuneConfig(**{**own, **changes})


def _sweep(config: FractionsConfig) -> Result:
    """Train and test what is not done yet, the smallest fraction first; write and plot the accuracies."""
    if begun_from_outside():
        raise UserError("--fractions starts its own processes: run it without torchrun, and use --devices.")
    videos, tests = read_lists(config.data)
    parts = {one: videos.part(_chosen(config, videos, one), config.out) for one in sorted(config.fractions)}
    starting_encoder(config)  # raises before anything is written if the weights do not fit
    name = "random" if config.weights == RANDOM else load_weights(config.weights).name
    settings = lasting(config, but=("fractions",))  # a later call may ask for other fractions
    claim_by_settings(
        config.out, "fractions.json", settings, what="a sweep",
        overwrite=config.overwrite, needed=needed(videos, tests, path_of(config.weights)),
    )  # fmt: skip
    write_classes(config.out, class_names(videos, int(videos.labels.max()) + 1))

    rows: list[Row] = []
    tables: list[Table | Text] = []
    runs: list[Path] = []
    for fraction, part in parts.items():
        label = plainly(fraction)
        console.print(
            f"{label} of {videos.source}: {many(len(part), 'video')}", style="bold", highlight=False
        )
        data = replace(config.data, train=_written(part, config.out / f"{label}.txt"))
        run = as_run(config, data=data, out=config.out / label)
        train_stage(run)
        runs.append(run.out)
        if config.data.test is not None:
            tested = _tested(run, config.data.test)
            rows += [replace(row, run=f"{name}@{label}") for row in tested.rows]
            tables += tested.tables
            for line in tested.lines:
                console.print(line)
            write_results(config.out / RESULTS, rows)
    if not rows:
        return Result(files=runs, lines=[f"{config.out}: the runs; add --data.test to test them."])
    top1 = [row for row in rows if row.metric == "top1"]
    counts = [len(part) for part in parts.values()]
    figure = config.out / "fractions.png"
    save_figure(fractions_figure(counts, top1), figure)
    return Result(
        rows,
        [*runs, config.out / RESULTS, figure],
        [*tables, _table(name, counts, top1)],
        [f"{config.out}: the runs, {RESULTS} and {figure.name}"],
    )


def plainly(fraction: float) -> str:
    """A fraction in positional notation: 0.01, 1, never 1e-05. Different fractions get different text."""
    return np.format_float_positional(fraction, trim="-")


def _chosen(config: FractionsConfig, videos: VideoList, fraction: float) -> np.ndarray[Any, Any]:
    chosen = subset(videos.labels, fraction, config.seed)
    if len(chosen) < config.data.batch_size:
        raise UserError(
            f"--fractions {plainly(fraction)}: leaves {many(len(chosen), 'video')} of {videos.source}, too "
            f"few for a batch of {config.data.batch_size}; set --data.batch-size {len(chosen)}, or drop "
            "this fraction."
        )
    return chosen


def _written(part: VideoList, file: Path) -> Path:
    """Write the list of a fraction. A run that has started continues only with the same videos."""
    if file.is_file():
        before = read_list(file)
        if list(before.paths) != list(part.paths) or not np.array_equal(before.labels, part.labels):
            raise UserError(
                f"{file}: holds different videos than the training list now gives; choose another --out, "
                f"or remove {file.parent} to start over."
            )
    write_list(file, part)
    return file


def _tested(run: FinetuneConfig, test: Path) -> Result:
    """The test of a finished run. It is done once, and repeated if the list has changed."""
    out = run.out / "test"
    like = named(names_of(read_list(run.data.train, run.data.root)), run.data.train)
    if is_tested(out, read_list(test, run.data.root, like=like)):
        return Result(read_results(out / RESULTS))
    data = VideoTestData(test, run.data.root, run.data.workers)
    result = test_videos(VideoTestConfig(str(run.out), data, out, overwrite=True))
    renew_card(run.out, ())
    track_end(run.out, run.track, tested=result.rows)
    return result


def _table(name: str, counts: Sequence[int], rows: Sequence[Row]) -> Table:
    table = Table(title=escape(f"{name}: top-1 on {rows[0].test}"))
    for column in ("fraction", "videos", "top-1", "95 % interval"):
        table.add_column(column, justify="right")
    for count, row in zip(counts, rows, strict=True):
        fraction, interval = row.run.rpartition("@")[2], row.interval("{:.1%} to {:.1%}")
        table.add_row(fraction, str(count), f"{row.value:.1%}", interval)
    return table
