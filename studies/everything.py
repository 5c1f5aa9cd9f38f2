"""Every number and figure of the docs from nothing: python studies/everything.py [--quick]

Runs the studies and benchmarks one after the other and puts what they write into the docs. A weekend on two
cores; ``--quick`` goes the same way in minutes, writes numbers that mean nothing, and leaves the docs alone.
What is done is not done again.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from begin import begin

from dsm.engine.progress import console

HOUSE = Path(__file__).parent.parent


@dataclass(frozen=True)
class Options:
    out: Path = Path("runs/evidence")
    real: Path | None = None
    """List of labelled real videos; left out, that study is not made."""
    groups: Path | None = None
    """Table of the group of each of them."""
    jobs: int = 2
    quick: bool = False


def commands(options: Options) -> list[list[str]]:
    quick, jobs = ["--quick"] * options.quick, ["--jobs", str(options.jobs)]
    ranking, bias = options.out / "ranking", options.out / "bias"
    found = [
        ["studies/ranking.py", "--out", str(ranking), *jobs, *quick],
        ["studies/ablations.py", "--out", str(ranking), *jobs, *quick],
        ["benchmarks/bias.py", "--out", str(bias), *small_or("--seeds 0 1", options)],
        ["studies/cost.py", "--out", str(options.out / "costs")],
    ]
    if options.real and options.groups:
        real = [str(options.real), "--groups", str(options.groups), "--out", str(options.out / "real")]
        found.append(["studies/real_video.py", *real, *jobs, *quick])
    if not options.quick:
        folders = [
            str(folder)
            for folder in (ranking, options.out / "costs", options.out / "real")
            if folder.exists()
        ]
        found.append(["studies/fill_docs.py", *folders])
    return found


def small_or(whole: str, options: Options) -> list[str]:
    """The benchmark's flags; it has no `--quick` of its own."""
    return ("--train 100 --test 40 --steps 20" if options.quick else whole).split()


def main(options: Options) -> None:
    for command in commands(options):
        console.print(f"python {' '.join(command)}", style="bold")
        done = subprocess.run([sys.executable, HOUSE / command[0], *command[1:]], check=False)
        if done.returncode:
            raise SystemExit(done.returncode)


if __name__ == "__main__":
    begin(main, Options, __doc__)
