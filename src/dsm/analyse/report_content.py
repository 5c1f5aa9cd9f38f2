"""What goes into the page of ``dsm report``: runs, what was measured of them, results from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsm.analyse.embedding import Embedded
from dsm.analyse.run_record import RunRecord
from dsm.evaluate.features import Features
from dsm.evaluate.results import Row


@dataclass(frozen=True)
class Maps:
    """Some videos, and where a run looks in them; clips of several runs may differ in size."""

    paths: list[str]
    frames: NDArray[np.uint8]
    """(N, T, S, S, 3)."""
    maps: NDArray[np.float32]
    """(N, T, S, S) in [0, 1]."""
    raised: str
    """What is high where a map is bright, in words."""


@dataclass(frozen=True)
class Measured:
    """What was measured of a run; None for what was not, or could not be."""

    rows: list[Row] = field(default_factory=list)
    features: tuple[Features, Features] | None = None
    """Of the training list and of the test list."""
    maps: Maps | None = None
    bias: list[tuple[Path, str]] = field(default_factory=list)
    """The pictures of a bias report, each with what it shows in words; the variants come last."""
    left_out: list[str] = field(default_factory=list)
    """What could not be measured, and why."""


@dataclass(frozen=True)
class Given:
    """Results that were there already."""

    name: str
    command: str
    rows: list[Row]
    pictures: list[tuple[Path, str]]
    """Each with what it shows, in words."""


@dataclass(frozen=True)
class Embedding:
    """The maps of all runs."""

    rows: list[Row]
    embedded: list[Embedded]
    features: Features
    """The videos that are on them."""


@dataclass(frozen=True)
class ReportContent:
    """All that goes into a page."""

    runs: list[RunRecord]
    measured: Mapping[str, Measured] = field(default_factory=dict)
    """By the name of the run."""
    given: Sequence[Given] = ()
    classes: Sequence[str] = ()
    """Names of the classes by label."""
    shown: int = 6
    """Queries with their neighbours."""
    by_groups: bool = False
    embedding: Embedding | None = None
    left_out: Sequence[str] = ()
    """What could not be done, and why, besides what is told with a run."""
