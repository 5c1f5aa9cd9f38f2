"""Trials: encoders trained and measured. What is done is not done again, and several go side by side."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measured import Known, Measured, digest, revisions, write_measured
from numpy.typing import NDArray
from sklearn.model_selection import GroupShuffleSplit

from dsm.commands.bias import BiasConfig, BiasData, bias
from dsm.commands.look import LookConfig, look
from dsm.commands.video_test import VideoTestConfig, VideoTestData, video_test
from dsm.datasets.groups import find_groups
from dsm.datasets.lists import read_list
from dsm.engine.finetune import FinetuneConfig, finetune
from dsm.engine.pretrain import PretrainConfig, pretrain
from dsm.engine.progress import console, progress
from dsm.engine.runfolder import git_revision
from dsm.engine.side_by_side import make_pool
from dsm.errors import UserError
from dsm.evaluate.bootstrap import mean_interval
from dsm.evaluate.extract import extract_by_all
from dsm.evaluate.features import Features
from dsm.evaluate.probe import linear_probe
from dsm.evaluate.results import Row, read_results, row_of, share, write_results
from dsm.evaluate.retrieval import KS, kept_apart, retrieve
from dsm.files import write_text
from dsm.models.export import save_safetensors
from dsm.models.weights import list_checkpoints, load_weights
from dsm.models.zoo import create_model


@dataclass(frozen=True)
class Trial:
    """One encoder, how it is trained, and what is asked of it."""

    name: str
    """What tables call it."""
    config: PretrainConfig
    """How it is trained; its ``out`` is the trial's folder."""
    tests: tuple[Path, ...]
    """Labelled lists; neighbours and probes are taken from the training list."""
    measures: tuple[str, ...] = ("features",)
    """Names of :data:`MEASURES`."""
    windows: int = 1
    """Clips a video; MotionScenes are hardly longer than one."""
    groups: Path | None = None
    """Table of the group of each video; intervals then draw whole groups."""
    suffix: str = ""
    """Put behind a test's name in the rows, as '@0.9'."""
    random: bool = False
    """Not trained at all."""
    labelled: Path | None = None
    """What the probe of ``dsm bias`` is trained on; left out, the list of pretraining."""
    tuned: FinetuneConfig | None = field(default=None)
    """How it is fine-tuned, where that is asked for."""
    videos: str = ""
    """What the videos are, beyond the names of their lists."""

    @property
    def folder(self) -> Path:
        return self.config.out

    @property
    def weights(self) -> str:
        return str(self.folder / ("random.safetensors" if self.random else "run"))


def measure_features(trial: Trial) -> list[Row]:
    """Retrieval of each test in the training videos, and a linear probe trained on them."""
    train, *tests = features_of(trial, trial.config.data.train, *trial.tests)
    rows = []
    probed = linear_probe(train, tests)
    for file, test, right in zip(trial.tests, tests, probed, strict=True):
        named = trial.name, trial.config.seed, file.stem
        found = retrieve(train, test)
        rows += [share(*named, f"R@{k}", found.recall(k)) for k in KS]
        rows.append(share(*named, "linear_probe", right))
    return rows


def features_of(trial: Trial, *lists: Path) -> list[Features]:
    """Of the videos of each list, by the trial's encoder."""
    encoder = load_weights(trial.weights).module
    return [
        extract_by_all([encoder], read_list(file, trial.config.data.root), trial.config.clip, batch_size=32,
                       windows=trial.windows)[0]
        for file in lists
    ]  # fmt: skip


def measure_other_groups(trial: Trial) -> list[Row]:
    """R@1 among the videos of other groups, and a linear probe tested on groups that it was not trained on.

    The probe is trained and tested on :data:`SPLITS` splits, the same for every trial; a video's hit is the
    share of them that found it.
    """
    (all_,) = features_of(trial, trial.tests[0])
    groups = find_groups(all_.paths, file=trial.groups, regex="") or all_.paths
    named = trial.name, trial.config.seed, trial.tests[0].stem
    found = retrieve(all_, all_, apart=kept_apart(all_, all_, (groups, groups)))
    rows = [share(*named, "R@1", found.recall(1), groups=groups)]
    asked, right = np.zeros(len(all_)), np.zeros(len(all_))
    splits = GroupShuffleSplit(SPLITS, test_size=0.3, random_state=0)
    for train, test in splits.split(groups, groups=groups):
        asked[test] += 1
        right[test] += linear_probe(part(all_, train), [part(all_, test)])[0]
    seen = asked > 0
    drawn = [group for group, one in zip(groups, seen, strict=True) if one]
    interval = mean_interval(right[seen] / asked[seen], groups=drawn)
    return [*rows, row_of(*named, "linear_probe", interval, int(seen.sum()))]


SPLITS = 20


def part(features: Features, rows: NDArray[np.intp]) -> Features:
    """Some rows of them."""
    paths = [features.paths[row] for row in rows]
    return Features(features.features[rows], features.labels[rows], paths, features.meta)


def measure_bias(trial: Trial) -> list[Row]:
    """Scene reliance and the other numbers of ``dsm bias``, on the last test."""
    train = trial.labelled or trial.config.data.train
    data = BiasData(test=trial.tests[-1], train=train, root=trial.config.data.root, workers=0)
    return bias(
        BiasConfig((trial.weights,), data, trial.folder / "bias", names=(trial.name,), groups=trial.groups,
                   seed=trial.config.seed, windows=trial.windows, batch_size=16, overwrite=True)
    )  # fmt: skip


def measure_look(trial: Trial) -> list[Row]:
    """Map mass on motion, on the first test."""
    out = trial.folder / "look"
    look(
        LookConfig(trial.tests[0], trial.weights, out, score=True, root=trial.config.data.root, workers=0,
                   groups=trial.groups, seed=trial.config.seed, overwrite=True)
    )  # fmt: skip
    return read_results(out / "results.json")


def measure_finetuned(trial: Trial) -> list[Row]:
    """Top-1 of each test after fine-tuning on the labels of the training list."""
    if trial.tuned is None:
        raise ValueError(f"{trial.name} does not say how it is fine-tuned")
    config = replace(trial.tuned, weights=trial.weights, out=trial.folder / "tuned", seed=trial.config.seed)
    there = list_checkpoints(config.out)
    finetune(replace(config, resume=bool(there), overwrite=not there))
    rows = []
    for file in trial.tests:
        data = VideoTestData(file, root=trial.config.data.root, workers=0)
        out = trial.folder / "tested" / file.stem
        rows += video_test(
            VideoTestConfig(str(config.out), data, out, windows=1, batch_size=16, overwrite=True)
        )
    return [replace(row, metric=f"finetuned_{row.metric}") for row in rows]


MEASURES: dict[str, Callable[[Trial], list[Row]]] = {
    "features": measure_features,
    "other_groups": measure_other_groups,
    "bias": measure_bias,
    "look": measure_look,
    "finetuned": measure_finetuned,
}


def settings_of(trial: Trial) -> dict[str, Any]:
    """All that decides what is measured, as JSON has it; of a path its last two names.

    What is off (0, none, false, empty) is left out: a setting that is new and off makes no other trial.
    """
    told: dict[str, Any] = _told(replace(trial, measures=(), config=replace(trial.config, out=Path())))
    return told


def _told(value: Any) -> Any:
    if isinstance(value, Path):
        return "/".join(value.parts[-2:])
    if is_dataclass(value):
        told = {one.name: _told(getattr(value, one.name)) for one in fields(value)}
        return {name: one for name, one in told.items() if one}
    return [_told(one) for one in value] if isinstance(value, tuple) else value


def measured_already(trial: Trial, known: Known) -> dict[str, Measured]:
    """What an earlier call, or whoever wrote ``known``, has measured of this trial, by measure."""
    settings = digest(settings_of(trial))
    found = {}
    for name in trial.measures:
        file = trial.folder / f"{name}.json"
        if (settings, name) in known:
            found[name] = known[settings, name]
        elif file.exists():
            _claim(trial)
            revision = json.loads(file.read_text(encoding="utf-8"))["revision"]
            found[name] = Measured(settings, name, revision, tuple(read_results(file)))
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
                _train(replace(trial.config, out=trial.folder / "run"))
            for name in missing:
                found[name] = _measure(trial, name)
    return [found[name] for name in trial.measures]


def _measure(trial: Trial, name: str) -> Measured:
    rows = [
        replace(row, run=trial.name, seed=trial.config.seed, test=row.test + trial.suffix)
        for row in MEASURES[name](trial)
    ]
    revision = git_revision()
    write_results(trial.folder / f"{name}.json", rows, revision=revision)
    return Measured(digest(settings_of(trial)), name, revision, tuple(rows))


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


def _train(config: PretrainConfig) -> None:
    there = list_checkpoints(config.out)
    if there and there[-1].name == f"step_{config.steps:08d}.pt":
        return
    pretrain(replace(config, resume=bool(there), overwrite=not there))


def _claim(trial: Trial) -> None:
    """What lies in the folder must be of the same settings.

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
    os.environ.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // jobs, 1)))
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
    """The command that is running, as one would type it in a clone."""
    return shlex.join(["python", f"studies/{Path(sys.argv[0]).name}", *sys.argv[1:]])
