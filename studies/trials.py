"""Run trials, several at a time, without repeating finished work."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, replace
from pathlib import Path

import torch
from measures import MEASURES
from trial import Trial, settings_of

from dsm.errors import UserError
from dsm.files import write_text
from dsm.models.export import save_safetensors
from dsm.models.zoo import create_model
from dsm.runs.results import Row, read_results, write_results
from dsm.terminal import console, progress
from dsm.train.pretrain import pretrain
from dsm.train.start import train_once
from dsm.workers import make_pool, usable_cores


def is_done(trial: Trial) -> bool:
    return all(_file(trial, measure).exists() for measure in trial.measures)


def run_trial(trial: Trial) -> list[Row]:
    """Train and measure whatever is missing; return the rows of all measures.

    Raises:
        UserError: the trial's folder holds a trial with other settings, or it cannot be trained.
    """
    _claim(trial)
    if not is_done(trial):
        with _into(trial.folder / "log.txt"):
            if trial.random:
                draw_weights(trial)
            else:
                train_once(replace(trial.config, out=trial.folder / "run"), pretrain)
            for measure in trial.measures:
                if not _file(trial, measure).exists():
                    _measure(trial, measure)
    rows = [row for measure in trial.measures for row in read_results(_file(trial, measure))]
    return [replace(row, run=trial.name) for row in rows]


def _file(trial: Trial, measure: str) -> Path:
    return trial.folder / f"{measure}.json"


def _measure(trial: Trial, measure: str) -> None:
    rows = [
        replace(row, run=trial.name, seed=trial.config.seed, test=row.test + trial.suffix)
        for row in MEASURES[measure](trial)
    ]
    write_results(_file(trial, measure), rows, command=study_command())


@contextlib.contextmanager
def _into(file: Path) -> Iterator[None]:
    """Redirect output to a file, because several trials print at once."""
    with (
        file.open("a", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        yield


def draw_weights(trial: Trial) -> None:
    """Write random weights to a file, with clip settings and pooling, as in a run."""
    config = trial.config
    settings = {"pooling": config.pooling} if config.pooling else {}
    torch.manual_seed(config.seed)
    module = create_model(config.backbone, **settings)
    about = {"backbone": config.backbone, "model": settings, "head": None, "clip": asdict(config.clip)}
    save_safetensors(trial.weights, module, {**about, "method": "random"})


def _claim(trial: Trial) -> None:
    """Record the settings of the trial in its folder.

    Raises:
        UserError: the folder holds a trial with other settings.
    """
    settings = json.dumps(settings_of(trial), sort_keys=True)
    file = trial.folder / "trial.json"
    if not file.exists():
        trial.folder.mkdir(parents=True, exist_ok=True)
        write_text(file, settings)
    elif file.read_text(encoding="utf-8") != settings:
        raise UserError(
            f"{trial.folder}: holds a trial with other settings; give another --out, or remove it."
        )


def run_all(trials: Sequence[Trial], jobs: int) -> list[Row]:
    """Run all trials, ``jobs`` at a time, sharing the cores; rows are in the order of ``trials``.

    Raises:
        UserError: a trial cannot be run.
    """
    # A child process must know its number of threads before it imports torch.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(usable_cores() // jobs, 1)))
    rows: dict[int, list[Row]] = {}
    pool = make_pool(jobs)
    with progress("encoders", len(trials)) as bar:
        try:
            waiting = {pool.submit(run_trial, trial): n for n, trial in enumerate(trials)}
            for done, future in enumerate(as_completed(waiting), 1):
                number = waiting[future]
                rows[number] = future.result()
                trial = trials[number]
                bar.update(done, f"{trial.name}, seed {trial.config.seed} {trial.suffix}")
        except KeyboardInterrupt:
            console.print("stopped; the same command continues.")
            raise SystemExit(130) from None
        finally:
            pool.shutdown(cancel_futures=True)
    return [row for number in sorted(rows) for row in rows[number]]


def study_command() -> str:
    """The running command, as typed in a clone to measure everything again; of absolute paths, the names."""
    words = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    return shlex.join(["python", f"studies/{Path(sys.argv[0]).name}", *words])
