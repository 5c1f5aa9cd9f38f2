"""Trials run: what is done is not done again, and several go side by side."""

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
    """What an earlier call, or whoever wrote ``known``, has measured of this trial, by measure.

    Raises:
        UserError: an earlier call measured it with other settings.
    """
    found = {}
    for name in trial.measures:
        file, settings = trial.folder / f"{name}.json", digest(settings_of(trial, name))
        one = known.get((settings, name))
        if one is None and file.exists():
            one = read_measured([file]).get((settings, name))
            if one is None:
                raise UserError(f"{file}: is of other settings; give another --out, or remove it.")
        if one:
            found[name] = replace(one, rows=tuple(replace(row, run=trial.name) for row in one.rows))
    return found


def is_done(trial: Trial, known: Known) -> bool:
    return len(measured_already(trial, known)) == len(trial.measures)


def run_trial(trial: Trial, known: Known) -> list[Measured]:
    """Train and measure what is neither done nor known; what each of the trial's measures says."""
    found = measured_already(trial, known)
    missing = [name for name in trial.measures if name not in found]
    if missing:
        trial.folder.mkdir(parents=True, exist_ok=True)
        _claim(trial)
        with _into(trial.folder / "log.txt"):
            if trial.random:
                _draw_weights(trial)
            else:
                train_once(replace(trial.config, out=trial.folder / "run"), pretrain)
            for name in missing:
                found[name] = _measure(trial, name)
    return [found[name] for name in trial.measures]


def _measure(trial: Trial, name: str) -> Measured:
    rows = [
        replace(row, run=trial.name, seed=trial.config.seed, test=row.test + trial.suffix)
        for row in MEASURES[name](trial)
    ]
    found = Measured(digest(settings_of(trial, name)), name, git_revision(), tuple(rows))
    write_measured(trial.folder / f"{name}.json", [found])
    return found


@contextlib.contextmanager
def _into(file: Path) -> Iterator[None]:
    """What is printed goes to a file: several trials print at once."""
    with (
        file.open("a", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        yield


def _draw_weights(trial: Trial) -> None:
    """Random weights as a file, which knows its clips and its pooling as a run does."""
    config = trial.config
    settings = {"pooling": config.pooling} if config.pooling else {}
    torch.manual_seed(config.seed)
    module = create_model(config.backbone, **settings)
    about = {"backbone": config.backbone, "model": settings, "head": None, "clip": asdict(config.clip)}
    save_safetensors(trial.weights, module, {**about, "method": "random"})


def _claim(trial: Trial) -> None:
    """What was trained in the folder must be of the same settings.

    Raises:
        UserError: it is of others.
    """
    settings = json.dumps(settings_of(trial), sort_keys=True)
    file = trial.folder / "trial.json"
    if not file.exists():
        write_text(file, settings)
    elif file.read_text(encoding="utf-8") != settings:
        raise UserError(f"{trial.folder}: holds a trial of other settings; give another --out, or remove it.")


def run_all(trials: Sequence[Trial], jobs: int, known: Known) -> list[Measured]:
    """Run all trials, ``jobs`` at a time, which share the cores; in the order given.

    Args:
        known: measurements to take rather than to make, where the settings are the same.

    Raises:
        UserError: a trial cannot be run.
    """
    # What a child computes with must be known before it imports torch.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(usable_cores() // jobs, 1)))
    found: dict[int, list[Measured]] = {}
    pool = make_pool(jobs)
    with progress("encoders", len(trials)) as bar:
        try:
            waiting = {pool.submit(run_trial, trial, known): n for n, trial in enumerate(trials)}
            for done, future in enumerate(as_completed(waiting), 1):
                number = waiting[future]
                found[number] = future.result()
                trial = trials[number]
                bar.update(done, f"{trial.name}, seed {trial.config.seed} {trial.suffix}")
        except KeyboardInterrupt:
            console.print("stopped; the same command goes on.")
            raise SystemExit(130) from None
        finally:
            pool.shutdown(cancel_futures=True)
    return [one for number in sorted(found) for one in found[number]]


def write_all(out: Path, measured: Sequence[Measured], name: str) -> list[Row]:
    """Write ``NAME.json``, and ``measured/NAME.json``, which ``--known`` takes; returns the rows."""
    rows = [row for one in measured for row in one.rows]
    write_results(out / f"{name}.json", rows, command=study_command(), revision=revisions(measured))
    write_measured(out / "measured" / f"{name}.json", measured)
    return rows


def study_command() -> str:
    """The command that is running, as one would type it in a clone to measure all of it anew."""
    words, known = [], False
    for word in sys.argv[1:]:
        known = word == "--known" or (known and not word.startswith("--"))
        words += [] if known else [word]
    return shlex.join(["python", f"studies/{Path(sys.argv[0]).name}", *words])
