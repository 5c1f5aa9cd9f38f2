"""Reads run folders, and finds the settings in which runs differ."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from dsm.data.settings import clip_of
from dsm.errors import UserError
from dsm.models.weights import load_weights
from dsm.runs.bad_videos import LEDGER
from dsm.runs.folder import HOW_IT_TRAINS, flags_of, read_record
from dsm.runs.logs import METRICS, read_metrics
from dsm.runs.results import RESULTS, Row, read_results
from dsm.video.ledger import Verdict, read_ledger
from dsm.weights_names import path_of

PUBLISHED = "published"
"""Stands for the method of a published model."""


@dataclass(frozen=True)
class RunRecord:
    """The contents of a run folder; or a published model, which has no log."""

    name: str
    """The run's name in the report."""
    folder: Path
    """The run folder; of a published model, its name as weights."""
    command: str
    versions: dict[str, str]
    revision: str | None
    config: dict[str, Any]
    metrics: list[dict[str, float]]
    bad: list[Verdict]
    """Videos that could not be read, so that others were put in their place."""
    rows: list[Row]
    """The rows of its ``results.json``, if any."""
    damaged: list[Verdict] = field(default_factory=list)
    """Videos that have lost some frames; their other frames were used."""

    @property
    def method(self) -> str:
        """The pretraining method, ``finetune`` or ``published``."""
        return str(self.config.get("method", "finetune"))

    @property
    def settings(self) -> dict[str, Any]:
        """:func:`~dsm.runs.folder.flags_of`; the flags of its method start with ``METHOD``, so that two
        methods can be compared.
        """
        return flags_of(self.config, method_as="METHOD")

    @property
    def written(self) -> str:
        """All settings as text, one per line."""
        return "\n".join(f"{name} {_as_text(value)}" for name, value in self.settings.items())


def read_run(folder: Path, name: str) -> RunRecord:
    """Read a run folder.

    Raises:
        UserError: it is not a run of this project, or has logged nothing yet.
    """
    record = read_record(folder)
    if record is None:
        what = "not a run of dsm (no config.json of a run)" if folder.is_dir() else "no such folder"
        raise UserError(f"{folder}: {what}; give folders that `dsm pretrain` or `dsm finetune` wrote.")
    metrics = read_metrics(folder)
    if not metrics:
        raise UserError(
            f"{folder}: has logged no step in {METRICS} yet, so there is nothing to show; "
            "continue it with `dsm pretrain --resume`."
        )
    ledger, results = folder / LEDGER, folder / RESULTS
    rows = read_results(results) if results.is_file() else []
    if len({row.run for row in rows}) == 1:
        rows = [replace(row, run=name) for row in rows]
    verdicts = read_ledger(ledger) if ledger.is_file() else []
    return RunRecord(
        name=name, folder=folder, command=str(record.get("command", "")),
        versions={str(key): str(value) for key, value in record["versions"].items()},
        revision=record["revision"] and str(record["revision"]), config=record["config"], metrics=metrics,
        bad=[one for one in verdicts if one.verdict != "damaged"], rows=rows,
        damaged=[one for one in verdicts if one.verdict == "damaged"],
    )  # fmt: skip


def read_encoder(weights: str, name: str) -> RunRecord:
    """A published model as a run that logged nothing.

    Raises:
        UserError: it cannot be read.
    """
    about = load_weights(weights).config
    config = {
        "method": PUBLISHED,
        "backbone": about.get("backbone"),
        "weights": weights,
        "clip": asdict(clip_of(about.get("clip", {}))),
        "model": about.get("model", {}),
    }
    return RunRecord(
        name=name, folder=Path(weights), command="", versions={}, revision=None, config=config, metrics=[],
        bad=[], rows=[],
    )  # fmt: skip


def short_names(folders: Sequence[Path]) -> list[str]:
    """Names for runs: their folders' names, with as many parent folders as make them unique.

    Raises:
        UserError: a folder is given twice.
    """
    parts = [Path(os.path.abspath(path_of(folder))).parts for folder in folders]
    if len(set(parts)) < len(parts):
        twice = Counter(parts).most_common(1)[0][0]
        raise UserError(f"{Path(*twice)} is given twice; give each run once.")
    length = 1
    while len({path[-length:] for path in parts}) < len(parts):
        length += 1
    tails = [path[-length:] for path in parts]
    while length > 1 and len({path[-1] for path in tails}) == 1:  # …/moco/run, …/dsm/run: moco and dsm
        tails = [path[:-1] for path in tails]
        length -= 1
    return ["/".join(path) for path in tails]


def differences(runs: Sequence[RunRecord]) -> list[tuple[str, list[str]]]:
    """Settings that differ between runs: the flag, and each run's value."""
    every = [run.settings for run in runs]
    differing = []
    for name in dict.fromkeys(name for settings in every for name in settings):
        values = [_as_text(settings[name]) if name in settings else "–" for settings in every]
        if len(set(values)) > 1 and name != "out":
            differing.append((name, values))
    return differing


def _may_differ(flag: str) -> bool:
    """Whether runs of the same experiment may differ in a setting."""
    name = flag.rpartition(".")[2].replace("-", "_")
    return name in HOW_IT_TRAINS or name in ("seed", "decoder", "root")


def over_seeds(runs: Sequence[RunRecord]) -> dict[str, str]:
    """Groups of runs that differ only in their seed: run name -> group name.

    Runs without such a partner are left out.
    """
    kinds = {}
    for run in runs:
        lasting = {flag: value for flag, value in run.settings.items() if not _may_differ(flag)}
        kinds[run.name] = json.dumps([run.method, lasting], sort_keys=True)
    names: dict[str, str] = {}
    counts = Counter(kinds.values())
    for run in runs:
        kind = kinds[run.name]
        if counts[kind] < 2 or kind in names:
            continue
        name = f"{run.method}, {counts[kind]} seeds"
        taken = sum(other.startswith(name) for other in names.values())
        names[kind] = f"{name} ({run.name} …)" if taken else name
    return {name: names[kind] for name, kind in kinds.items() if kind in names}


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
