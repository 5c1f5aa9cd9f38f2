"""The content of the page of ``dsm report``: runs, and what was measured of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsm.evaluate.embedding import Embedded
from dsm.evaluate.features import Features
from dsm.runs.record import RunRecord
from dsm.runs.results import Row


@dataclass(frozen=True)
class Maps:
    """Videos, and where a run looks in them; the clip size may differ between runs."""

    paths: list[str]
    frames: NDArray[np.uint8]
    """(N, T, S, S, 3)."""
    maps: NDArray[np.float32]
    """(N, T, S, S) in [0, 1]."""
    raised: str
    """A description of the score that bright locations of a map raise."""


@dataclass(frozen=True)
class Measured:
    """Measurements of a run; None for what was not measured."""

    rows: list[Row] = field(default_factory=list)
    features: tuple[Features, Features] | None = None
    """Features of the training list and of the test list."""
    maps: Maps | None = None
    bias: list[tuple[Path, str]] = field(default_factory=list)
    """The pictures of a bias report with their descriptions; the variants come last."""
    left_out: list[str] = field(default_factory=list)
    """Measurements that failed, and why."""


@dataclass(frozen=True)
class Given:
    """Existing results, given with ``--results``."""

    name: str
    command: str
    rows: list[Row]
    pictures: list[tuple[Path, str]]
    """Pictures with their descriptions."""


@dataclass(frozen=True)
class Embedding:
    """The maps of all runs."""

    rows: list[Row]
    embedded: list[Embedded]
    features: Features
    """The features of the videos on the maps."""


@dataclass(frozen=True)
class ReportContent:
    """The content of a page."""

    runs: list[RunRecord]
    measured: Mapping[str, Measured] = field(default_factory=dict)
    """Run name -> measurements."""
    given: Sequence[Given] = ()
    classes: Sequence[str] = ()
    """Class names by label."""
    shown: int = 6
    """Number of queries shown with their neighbours."""
    by_groups: bool = False
    embedding: Embedding | None = None
    left_out: Sequence[str] = ()
    """What is missing from the page, and why, besides the runs' own ``left_out``."""
