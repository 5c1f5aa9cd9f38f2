"""Settings of `dsm report`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, get_args

import tyro

from dsm.errors import UserError
from dsm.inputs import GroupsTable, ListFile, RootFolder, TrainedFolder

Measure = Literal["retrieval", "probe", "test", "look", "bias", "embedding"]


MEASURES: tuple[Measure, ...] = get_args(Measure)


CURVES = (".png", ".pdf", ".svg")


@dataclass(frozen=True)
class ReportData:
    """Labelled lists to measure the runs on; without them, nothing is measured."""

    train: ListFile | None = None
    """Videos to search in, and to train linear probes on."""
    test: ListFile | None = None
    """Videos to test on."""
    root: RootFolder | None = None
    """Folder that relative paths start from; by default each list's own."""
    workers: int = 1
    """Processes that decode videos."""


@dataclass(frozen=True)
class ReportConfig:
    """Settings of `dsm report`."""

    runs: tyro.conf.Positional[tuple[TrainedFolder, ...]]
    """Run folders of `dsm pretrain` and `dsm finetune`."""
    out: Path
    """Page to write (.html). Measurements are kept beside it, in a folder of the same name without .html."""
    data: ReportData = field(default_factory=ReportData)
    results: tuple[Path, ...] = ()
    """Folders with a results.json of any verb, whose rows and pictures are added to the page."""
    names: tuple[str, ...] = ()
    """Names for the runs; by default those of their folders."""
    curves: Path | None = None
    """Figure to write with the curves of all runs: .png, .pdf or .svg."""
    measures: Annotated[tuple[Measure, ...], tyro.conf.arg(name="measure")] = MEASURES
    """What to measure."""
    groups: GroupsTable | None = None
    """Table with the group of each video; confidence intervals then resample whole groups."""
    group_regex: str = ""
    """Regular expression that finds the group in a path, instead of a table."""
    windows: int = 3
    """Clips per video, evenly spaced."""
    shown: int = 6
    """Test videos to show with their nearest neighbours."""
    maps: int = 3
    """Test videos to show with maps of where the runs look."""
    overwrite: bool = False
    """Replace the page, and measurements of other weights or lists."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise UserError("give one run folder or more: dsm report RUN… --out report.html")
        if self.out.suffix.lower() not in (".html", ".htm"):
            raise UserError(f"{self.out}: the report is a web page; --out must end in .html.")
        if self.curves and self.curves.suffix.lower() not in CURVES:
            raise UserError(f"{self.curves}: --curves must end in one of {', '.join(CURVES)}.")
        if (self.data.train is None) != (self.data.test is None):
            raise UserError("measuring takes both --data.train and --data.test; give both or neither.")
        if self.names and len(self.names) != len(self.runs):
            raise UserError(f"{len(self.names)} --names for {len(self.runs)} runs; each needs one.")
        if len(set(self.names)) < len(self.names):
            raise UserError("two of --names are the same.")
        if self.windows < 1 or min(self.shown, self.maps, self.data.workers) < 0:
            raise UserError("windows must be at least 1; shown, maps and data.workers must not be negative.")
