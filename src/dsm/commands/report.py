"""``dsm report``: one run or several on one page, from what they logged and, with lists, what is measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro

from dsm.analyse.alt_texts import picture_told
from dsm.analyse.report import MOST, write_run_report
from dsm.analyse.report_content import Given, ReportContent
from dsm.analyse.report_pictures import KINDS
from dsm.analyse.run_figures import save_curves
from dsm.analyse.run_record import RunRecord, read_run, short_names
from dsm.commands.report_measure import MEASURES, Lists, Measure, MeasureSettings, claim, embed_runs, measure
from dsm.datasets.classes import class_names, named, names_of
from dsm.datasets.groups import find_groups
from dsm.datasets.list_rows import Named
from dsm.datasets.lists import VideoList, read_list
from dsm.engine.progress import console
from dsm.engine.runfolder import claim_file
from dsm.errors import UserError
from dsm.evaluate.results import RESULTS, read_told_results

CURVES = (".png", ".pdf", ".svg")


@dataclass(frozen=True)
class ReportData:
    """Labelled lists that the runs are measured on; left out, nothing is measured."""

    train: Path | None = None
    """Videos to search in and to train probes on."""
    test: Path | None = None
    """Videos to test on."""
    root: Path | None = None
    """Folder put before relative paths; left out, each list's own."""
    workers: int = 1
    """Processes that decode."""


@dataclass(frozen=True)
class ReportConfig:
    """Settings of `dsm report`."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders of `dsm pretrain` and `dsm finetune`."""
    out: Path
    """Page to write, .html. What is measured is kept beside it, in the folder of this name without .html."""
    data: ReportData = field(default_factory=ReportData)
    results: tuple[Path, ...] = ()
    """Folders with a results.json of any verb: their rows and pictures are taken too."""
    names: tuple[str, ...] = ()
    """What to call the runs; left out, by their folders."""
    curves: Path | None = None
    """The curves of all runs in one figure besides: .png, .pdf or .svg."""
    measures: Annotated[tuple[Measure, ...], tyro.conf.arg(name="measure")] = MEASURES
    """What is measured."""
    groups: Path | None = None
    """Table whose last column says which videos belong together; intervals then draw whole groups."""
    group_regex: str = ""
    """The same, found in their paths."""
    windows: int = 3
    """Clips a video, evenly spread."""
    shown: int = 6
    """Test videos whose neighbours are shown."""
    maps: int = 3
    """Test videos in which it is shown where the runs look."""
    overwrite: bool = False
    """Replace the page and, where they are of other weights or lists, the measurements."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise UserError("give one run folder or more: dsm report RUN… --out report.html")
        if self.out.suffix.lower() not in (".html", ".htm"):
            raise UserError(f"{self.out}: the report is a page; let --out end in .html.")
        if self.curves and self.curves.suffix.lower() not in CURVES:
            raise UserError(f"{self.curves}: --curves must end in one of {', '.join(CURVES)}.")
        if (self.data.train is None) != (self.data.test is None):
            raise UserError("measuring takes both --data.train and --data.test; without both, neither.")
        if self.names and len(self.names) != len(self.runs):
            raise UserError(f"{len(self.names)} --names for {len(self.runs)} runs; each needs one.")
        if len(set(self.names)) < len(self.names):
            raise UserError("two of --names are the same.")
        if self.windows < 1 or min(self.shown, self.maps, self.data.workers) < 0:
            raise UserError("windows must be at least 1; shown, maps and data.workers not below 0.")


def report(config: ReportConfig) -> None:
    """Read the runs, measure what is asked for and not there yet, write the page."""
    claim_file(config.out, overwrite=config.overwrite)
    if config.curves:
        claim_file(config.curves, overwrite=config.overwrite)
    names = config.names or tuple(short_names(config.runs))
    runs = [read_run(folder, name) for folder, name in zip(config.runs, names, strict=True)]
    given = told_apart(config.results, [read_given(folder) for folder in config.results])
    measured, classes, embedding = {}, [], None
    left_out: list[str] = []
    lists = read_lists(config)
    if lists:
        classes = class_names(
            lists.train_file.parent, int(max(lists.train.labels.max(), lists.test.labels.max())) + 1
        )
        settings = MeasureSettings(
            config.measures,
            config.groups,
            config.group_regex,
            config.windows,
            config.maps,
            config.data.workers,
        )
        folders = claim(config.out.with_suffix(""), runs, lists, settings, overwrite=config.overwrite)
        for run, folder in zip(runs, folders, strict=True):
            measured[run.name] = measure(run, folder, lists, settings)
        if "embedding" in config.measures:
            try:
                embedding = embed_runs(names, folders, settings)
            except UserError as error:
                left_out.append(f"embedding: {error}")
                console.print(left_out[-1], style="yellow")
    content = ReportContent(
        runs, measured, given, classes, config.shown, bool(config.groups or config.group_regex),
        embedding, left_out,
    )  # fmt: skip
    write_run_report(config.out, content)
    if config.curves:
        save_curves(config.curves, {run.name: run.metrics for run in runs})
        console.print(f"{config.curves}: the curves of all runs")
    _tell(config, runs)


def read_lists(config: ReportConfig) -> Lists | None:
    """The lists that are measured on.

    Raises:
        UserError: one cannot be read, or holds videos without labels.
    """
    if config.data.train is None or config.data.test is None:
        return None
    train = _labelled(config.data.train, config.data.root)
    test = _labelled(config.data.test, config.data.root, named(names_of(train), config.data.train))
    for videos in (train, test):
        find_groups(videos.paths, file=config.groups, regex=config.group_regex)  # wrong ones are told now
    return Lists(config.data.train, config.data.test, config.data.root, train, test)


def _labelled(path: Path, root: Path | None, like: Named | None = None) -> VideoList:
    videos = read_list(path, root, like=like)
    if not videos.labelled:
        raise UserError(
            f"{path}: {int((videos.labels < 0).sum())} of its videos have no label; measuring runs needs "
            "`path label` on every line. Without lists, `dsm report` shows what the runs logged."
        )
    return videos


def _is_picture(path: Path) -> bool:
    # A link could lead to anything, and the page is sent to others.
    return path.suffix.lower() in KINDS and path.is_file() and not path.is_symlink()


def read_given(folder: Path) -> Given:
    """The rows, the command and the pictures of a folder of results.

    Raises:
        UserError: it has no results.json of dsm.
    """
    command, rows = read_told_results(folder / RESULTS)
    pictures = sorted(path for path in folder.iterdir() if _is_picture(path))
    told = [(path, picture_told(path, rows)) for path in pictures]
    return Given(folder.absolute().name, command, rows, told)


def told_apart(folders: Sequence[Path], given: Sequence[Given]) -> list[Given]:
    """Numbers of the same name and seed from several folders are of several runs: named by the folder too."""

    def names(one: Given) -> set[tuple[str, int, str, str]]:
        return {(row.run, row.seed, row.test, row.metric) for row in one.rows}

    counts = Counter(name for one in given for name in names(one))
    shared = {name[0] for name, count in counts.items() if count > 1}
    alike = len({one.name for one in given}) < len(given)
    apart = []
    for folder, one in zip(folders, given, strict=True):
        place = "/".join(folder.absolute().parts[-2:]) if alike else one.name
        rows = [replace(row, run=f"{row.run} ({place})") if row.run in shared else row for row in one.rows]
        apart.append(replace(one, rows=rows))
    return apart


def _tell(config: ReportConfig, runs: Sequence[RunRecord]) -> None:
    size = config.out.stat().st_size
    console.print(f"{config.out}: {len(runs)} run{'s' if len(runs) > 1 else ''}, {size / 1e6:.1f} MB")
    if size > MOST:
        console.print(
            f"the page is larger than {MOST / 1e6:.0f} MB; fewer runs, --shown or --maps make it smaller.",
            style="yellow",
        )
