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
from measured import Known, Measured, digest, read_measured, revisions, write_measured
from measures import MEASURES
from trial import Trial, settings_of

from dsm.errors import UserError
from dsm.files import write_text
from dsm.models.export import save_safetensors
from dsm.models.zoo import create_model
from dsm.runs.folder import git_revision
from dsm.runs.results import Row, write_results
from dsm.terminal import console, progress
from dsm.train.pretrain import pretrain
from dsm.train.start import train_once
from dsm.workers import make_pool, usable_cores


def measured_already(trial: Trial, known: Known) -> dict[str, Measured]:
    """Finished measurements of this trial, by measure: from an earlier call, or from ``known``.

    Raises:
        UserError: an earlier call measured it with other settings.
    """
    measurements = {}
    for name in trial.measures:
        file, settings = trial.folder / f"{name}.json", digest(settings_of(trial, name))
        one = known.get((settings, name))
        if one is None and file.exists():
            one = read_measured([file]).get((settings, name))
            if one is None:
                raise UserError(
                    f"{file}: was measured with other settings; give another --out, or remove it."
                )
        if one:
            measurements[name] = replace(one, rows=tuple(replace(row, run=trial.name) for row in one.rows))
    return measurements


def is_done(trial: Trial, known: Known) -> bool:
    return len(measured_already(trial, known)) == len(trial.measures)


def run_trial(trial: Trial, known: Known) -> list[Measured]:
    """Train and measure whatever is missing; return the result of each measure."""
    measurements = measured_already(trial, known)
    missing = [name for name in trial.measures if name not in measurements]
    if missing:
        trial.folder.mkdir(parents=True, exist_ok=True)
        _claim(trial)
        with _into(trial.folder / "log.txt"):
            if trial.random:
                _draw_weights(trial)
            else:
                train_once(replace(trial.config, out=trial.folder / "run"), pretrain)
            for name in missing:
                measurements[name] = _measure(trial, name)
    return [measurements[name] for name in trial.measures]


def _measure(trial: Trial, name: str) -> Measured:
    rows = [
        replace(row, run=trial.name, seed=trial.config.seed, test=row.test + trial.suffix)
        for row in MEASURES[name](trial)
    ]
    measured = Measured(digest(settings_of(trial, name)), name, git_revision(), tuple(rows))
    write_measured(trial.folder / f"{name}.json", [measured])
    return measured


@contextlib.contextmanager
def _into(file: Path) -> Iterator[None]:
    """Redirect output to a file, because several trials print at once."""
    with (
        file.open("a", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        yield


def _draw_weights(trial: Trial) -> None:
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
        write_text(file, settings)
    elif file.read_text(encoding="utf-8") != settings:
        raise UserError(
            f"{trial.folder}: holds a trial with other settings; give another --out, or remove it."
        )


def run_all(trials: Sequence[Trial], jobs: int, known: Known) -> list[Measured]:
    """Run all trials, ``jobs`` at a time, sharing the cores; results are in the order of ``trials``.

    Args:
        known: measurements to reuse if the settings are the same.

    Raises:
        UserError: a trial cannot be run.
    """
    # A child process must know its number of threads before it imports torch.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(usable_cores() // jobs, 1)))
    measurements: dict[int, list[Measured]] = {}
    pool = make_pool(jobs)
    with progress("encoders", len(trials)) as bar:
        try:
            waiting = {pool.submit(run_trial, trial, known): n for n, trial in enumerate(trials)}
            for done, future in enumerate(as_completed(waiting), 1):
                number = waiting[future]
                measurements[number] = future.result()
                trial = trials[number]
                bar.update(done, f"{trial.name}, seed {trial.config.seed} {trial.suffix}")
        except KeyboardInterrupt:
            console.print("stopped; the same command continues.")
            raise SystemExit(130) from None
        finally:
            pool.shutdown(cancel_futures=True)
    return [one for number in sorted(measurements) for one in measurements[number]]


def write_all(out: Path, measured: Sequence[Measured], name: str) -> list[Row]:
    """Write ``NAME.json``, and ``measured/NAME.json`` for ``--known``; return the rows."""
    rows = [row for one in measured for row in one.rows]
    write_results(out / f"{name}.json", rows, command=study_command(), revision=revisions(measured))
    write_measured(out / "measured" / f"{name}.json", measured)
    return rows


def study_command() -> str:
    """The running command, as typed in a clone to measure everything again: without ``--known``."""
    words, known = [], False
    for word in sys.argv[1:]:
        known = word == "--known" or (known and not word.startswith("--"))
        words += [] if known else [word]
    return shlex.join(["python", f"studies/{Path(sys.argv[0]).name}", *words])
