"""Tables of results over seeds: means with intervals, and differences of the same seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from dsm.runs.results import Row

Key = tuple[str, str, str]  # run, test, metric


@dataclass(frozen=True)
class Mean:
    """A mean over seeds, in %, and half the width of its 95 % t interval (nan for fewer than three seeds)."""

    value: float
    half: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes zero."""
        return abs(self.value) > self.half

    def text(self, *, signed: bool = False) -> str:
        """'71.2 ± 3.4'; with a sign for a difference, bold if it is clear."""
        text = f"{self.value:{'+' if signed else ''}.1f}"
        if np.isfinite(self.half):
            text += f" ± {self.half:.1f}"
        return f"**{text}**" if signed and self.is_clear else text


def mean_of(values: Sequence[float]) -> Mean:
    """The mean of shares, one per seed."""
    numbers = 100 * np.asarray(values, float)
    # The interval of two seeds is as wide as the scale, or by chance of no width at all.
    if len(numbers) < 3:
        return Mean(float(numbers.mean()), float("nan"))
    half = stats.t.ppf(0.975, len(numbers) - 1) * numbers.std(ddof=1) / np.sqrt(len(numbers))
    return Mean(float(numbers.mean()), float(half))


def by_seed(rows: Sequence[Row]) -> dict[Key, dict[int, float]]:
    """(run, test, metric) -> seed -> value."""
    values: dict[Key, dict[int, float]] = {}
    for row in rows:
        values.setdefault((row.run, row.test, row.metric), {})[row.seed] = row.value
    return values


def paired(values: Mapping[Key, Mapping[int, float]], one: Key, other: Key) -> list[float]:
    """Differences one - other, for each seed that both have."""
    a, b = values.get(one, {}), values.get(other, {})
    return [a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())]


def table(
    rows: Sequence[Row],
    metric: str,
    *,
    runs: Sequence[str],
    tests: Sequence[str],
    against: Sequence[tuple[str, str]] = (),
) -> str:
    """A Markdown table: one row per run, then one per difference, bold where its interval excludes zero."""
    values = by_seed(rows)
    lines = ["| | " + " | ".join(f"`{test}`" for test in tests) + " |", "|---" * (len(tests) + 1) + "|"]
    for run in runs:
        cells = [
            [row for row in rows if (row.run, row.test, row.metric) == (run, test, metric)] for test in tests
        ]
        lines.append(f"| {run} | {' | '.join(map(cell, cells))} |")
    for one, two in against:
        gains = [paired(values, (one, test, metric), (two, test, metric)) for test in tests]
        if any(gains):
            differences = [mean_of(gain).text(signed=True) if gain else "" for gain in gains]
            lines.append(f"| {one} minus {two} | " + " | ".join(differences) + " |")
    return "\n".join(lines) + "\n"


def cell(rows: Sequence[Row]) -> str:
    """The mean over seeds with its interval; for a single seed, its number with its own interval."""
    if not rows:
        return ""
    only = rows[0]
    if len(rows) == 1 and only.low is not None and only.high is not None:
        return f"{100 * only.value:.1f} [{100 * only.low:.1f}, {100 * only.high:.1f}]"
    return mean_of([row.value for row in rows]).text()


def seeds_of(rows: Sequence[Row]) -> str:
    """'10, 11 and 12', for a table's caption."""
    seeds = [str(seed) for seed in sorted({row.seed for row in rows})]
    return seeds[0] if len(seeds) == 1 else f"{', '.join(seeds[:-1])} and {seeds[-1]}"


def caption(rows: Sequence[Row]) -> str:
    """Caption of :func:`table`."""
    if len({row.seed for row in rows}) == 1:
        return (
            f"Seed {seeds_of(rows)} alone, in %, with 95 % intervals over its videos. Seeds differ by more."
        )
    if len({row.seed for row in rows}) == 2:
        return f"Means of seeds {seeds_of(rows)} in %. Two seeds are too few for intervals."
    return (
        f"Means over seeds {seeds_of(rows)} in %, ± half a 95 % t interval. Differences pair the same seeds; "
        "they are bold where the interval excludes zero."
    )


def interval(row: Row) -> str:
    """A value in %, with its interval if it has one."""
    if row.low is None or row.high is None:
        return f"{100 * row.value:.1f}"
    return f"{100 * row.value:.1f} [{100 * row.low:.1f}, {100 * row.high:.1f}]"
