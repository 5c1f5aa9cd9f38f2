"""The last numbers of a run, in its folder's ``results.json``, which says that it has come to its end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dsm.datasets.lists import VideoList
from dsm.engine.runfolder import git_revision, read_metrics
from dsm.evaluate.results import RESULTS, Row, run_name, seed_of, write_results

TRAINED = ("loss", "motion", "top1")
"""What is logged of how good a batch was; see docs/training.md."""


def last_logged(run: Path) -> dict[str, float]:
    """The newest of what a run has logged of how good it is: of its last batch, and of its last look.

    A step that was skipped may have logged what is no number; the one before counts then.
    """
    newest: dict[str, float] = {}
    for line in read_metrics(run):
        newest |= {name: value for name, value in line.items() if abs(value) < math.inf}
    names = [*TRAINED, *(name for name in newest if name.startswith("monitor/"))]
    return {name: newest[name] for name in names if name in newest}


def write_run_results(
    run: Path, about: Mapping[str, Any], videos: VideoList, watched: VideoList | None
) -> None:
    """Write what a run logged last as rows: ``train/loss`` and others of its last batch, on the training
    list; ``monitor/knn`` and others of its last look, on the list that is watched.

    Args:
        about: what the run's checkpoints say of it.
        videos: the training list.
        watched: the list that is watched, if any.
    """
    rows = []
    for name, value in last_logged(run).items():
        looked = name.startswith("monitor/")
        of = watched if looked and watched is not None else videos
        metric = name if looked else f"train/{name}"
        rows.append(
            Row(run_name(about), seed_of(about), Path(of.source).stem, metric, value, None, None, len(of))
        )
    write_results(run / RESULTS, rows, revision=git_revision())
