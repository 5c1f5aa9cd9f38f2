"""README's table: python studies/demo_table.py --out runs/demo-table

Runs ``dsm demo`` on three seeds and writes ``demo.md``: R@1 of random weights, moco and dsm on its tests, and
the gain of dsm per seed. Finished work is not repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from begin import begin
from tables import by_seed, paired

from dsm.demo import RUNS, TESTS, demo
from dsm.files import write_text
from dsm.intervals import spread_of
from dsm.runs.results import RESULTS, Row, read_results
from dsm.terminal import console
from dsm.verbs.settings.training import DemoConfig


@dataclass(frozen=True)
class Options:
    out: Path = Path("runs/demo-table")
    seeds: tuple[int, ...] = (0, 1, 2)
    quick: bool = False
    """Few videos and steps, to test the study; the numbers mean nothing."""


def table(rows: Sequence[Row]) -> str:
    values = by_seed(rows)
    lines = ["| | " + " | ".join(TESTS) + " |", "|---" * (len(TESTS) + 1) + "|"]
    for run in RUNS:
        cells = [str(spread_of(list(values[run, test, "R@1"].values()))) for test in TESTS]
        lines.append(f"| {run} | {' | '.join(cells).replace(' %', '')} |")
    parts = []
    for test, where in zip(
        TESTS, ("on free scenes", "where the scene misleads", "where it helps"), strict=True
    ):
        gains = [100 * gain for gain in paired(values, ("dsm", test, "R@1"), ("moco", test, "R@1"))]
        each = ", ".join(f"{gain:+.1f}" for gain in gains)
        parts.append(f"{sum(gains) / len(gains):+.1f} {where} ({each})")
    return (
        "\n".join(lines)
        + f"\n\nGain of `dsm` over `moco` in points, mean and per seed: {'; '.join(parts)}.\n"
    )


def main(options: Options) -> None:
    config = DemoConfig(options.out / "demo", seeds=options.seeds)
    if options.quick:
        config = DemoConfig(options.out / "demo", seeds=options.seeds[:2], steps=5, videos=64, tests=40)
    demo(config)
    write_text(options.out / "demo.md", table(read_results(config.out / RESULTS)))
    console.print(f"{options.out}: demo.md")


if __name__ == "__main__":
    begin(main, Options, __doc__)
