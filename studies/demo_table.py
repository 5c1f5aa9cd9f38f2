"""README's table: python studies/demo_table.py --out runs/demo-table

Runs ``dsm demo`` on three seeds and writes ``demo.md``: R@1 of random weights, moco and dsm on its tests, and
what dsm gains, seed by seed. What is done is not done again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from begin import begin
from tables import by_seed, paired

from dsm.demo import RUNS, TESTS, demo
from dsm.files import write_text
from dsm.runs.results import RESULTS, Row, mean_and_spread, read_results
from dsm.terminal import console
from dsm.verbs.settings.demo import DemoConfig


@dataclass(frozen=True)
class Options:
    out: Path = Path("runs/demo-table")
    seeds: tuple[int, ...] = (0, 1, 2)
    quick: bool = False
    """Few videos and steps: numbers that mean nothing, by the same way."""


def table(rows: Sequence[Row]) -> str:
    found = by_seed(rows)
    lines = ["| | " + " | ".join(TESTS) + " |", "|---" * (len(TESTS) + 1) + "|"]
    for run in RUNS:
        cells = [mean_and_spread(list(found[run, test, "R@1"].values())) for test in TESTS]
        lines.append(f"| {run} | {' | '.join(cells).replace(' %', '')} |")
    told = []
    for test, where in zip(TESTS, ("free scenes", "misleading ones", "tied ones"), strict=True):
        gains = [100 * gain for gain in paired(found, ("dsm", test, "R@1"), ("moco", test, "R@1"))]
        by_one = ", ".join(f"{gain:+.1f}" for gain in gains)
        told.append(f"{sum(gains) / len(gains):+.1f} on {where} ({by_one})")
    return "\n".join(lines) + f"\n\n`dsm` less `moco`, points, and seed by seed: {'; '.join(told)}.\n"


def main(options: Options) -> None:
    config = DemoConfig(options.out / "demo", seeds=options.seeds)
    if options.quick:
        config = DemoConfig(options.out / "demo", seeds=options.seeds[:2], steps=5, videos=64, tests=40)
    demo(config)
    write_text(options.out / "demo.md", table(read_results(config.out / RESULTS)))
    console.print(f"{options.out}: demo.md")


if __name__ == "__main__":
    begin(main, Options, __doc__)
