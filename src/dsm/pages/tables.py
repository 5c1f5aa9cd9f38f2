"""Tables of results for a page: one table per test, one line per metric, one column per run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dsm.intervals import Interval, spread_of
from dsm.runs.metrics import SHARE, Subject, metric_of
from dsm.runs.results import Row
from dsm.terminal import many


@dataclass(frozen=True)
class Cell:
    """A number, usually in %, and its interval or spread."""

    value: str
    spread: str
    best: bool


@dataclass(frozen=True)
class Bar:
    """A number as a bar of the page: positions in %, from 0 to 100."""

    name: str
    text: str
    at: float | None
    """Position of the number; None if it cannot be measured."""
    low: float
    high: float


def bar_of(name: str, share: Interval, *, digits: int = 0) -> Bar:
    """The bar of a share in [0, 1] with its 95 % interval, if it has one, clipped to [0, 1]."""
    at, low, high = (100 * min(max(place, 0.0), 1.0) for place in (share.value, *share.ends))
    return Bar(name, share.text(digits), at, low, high)


@dataclass(frozen=True)
class ResultTable:
    """The numbers of one test."""

    test: str
    """Its name and number of videos."""
    runs: list[str]
    lines: list[tuple[str, str, list[Cell | None]]]
    """Metric, its meaning, and one cell per run."""


def result_tables(rows: Sequence[Row]) -> list[ResultTable]:
    """One table per test, in order of appearance; those of logged training metrics last."""
    tables = []
    logged = {row.test: True for row in rows}
    for row in rows:
        logged[row.test] &= row.metric.startswith(("train/", "monitor/"))
    for test in sorted(logged, key=lambda test: logged[test]):
        # The same number of a run in two files counts once, so that it adds no spread.
        distinct = {(row.run, row.seed, row.metric, row.value): row for row in rows if row.test == test}
        own = list(distinct.values())
        runs = list(dict.fromkeys(row.run for row in own))
        lines = []
        for metric in dict.fromkeys(row.metric for row in own):
            of = [[row for row in own if (row.run, row.metric) == (run, metric)] for run in runs]
            means = [sum(row.value for row in some) / len(some) if some else None for some in of]
            known = [mean for mean in means if mean is not None]
            marked = metric_of(metric).best and len(known) > 1 and max(known) > min(known)
            cells = [
                cell_of(some, marked and mean == max(known)) for some, mean in zip(of, means, strict=True)
            ]
            lines.append((metric, metric_of(metric).meaning, cells))
        counts = sorted({row.n for row in own})
        videos = many(counts[0], "video") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} videos"
        tables.append(ResultTable(f"{test}, {videos}", runs, lines))
    return tables


def by_subject(rows: Sequence[Row]) -> tuple[list[Row], list[Row], list[Row]]:
    """Rows on quality, on where the network looks, and on reliance on the scene."""
    subjects: dict[Subject, list[Row]] = {"quality": [], "looks": [], "scene": []}
    for row in rows:
        subjects[metric_of(row.metric).subject].append(row)
    return subjects["quality"], subjects["looks"], subjects["scene"]


def seed_tables(rows: Sequence[Row], groups: Mapping[str, str]) -> list[ResultTable]:
    """Tables over seeds, with one column per group of runs. ``groups``: run name -> group name."""
    return result_tables([replace(row, run=groups[row.run]) for row in rows if row.run in groups])


def cell_of(rows: Sequence[Row], best: bool) -> Cell | None:
    """One metric of a run over its seeds: mean and spread; for one seed, its interval."""
    if not rows:
        return None
    form = metric_of(rows[0].metric).form
    spread = spread_of([row.value for row in rows])
    if form != SHARE:
        return Cell(form.format(spread.mean), rows[0].texts[1] if len(rows) == 1 else "", best)
    return Cell(f"{100 * spread.mean:.1f}", spread.around or rows[0].measured.percents, best)
