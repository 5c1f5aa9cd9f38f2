"""Make every number and figure of the docs: python studies/everything.py [--quick]

Runs the studies one after the other and inserts their results into the docs. This takes a weekend on two
cores. ``--quick`` does the same in minutes on little data; its numbers mean nothing, and it does not change
the docs. Finished work is not repeated.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from begin import begin

from dsm.errors import UserError
from dsm.models.settings import Precision
from dsm.terminal import console

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Options:
    out: Path | None = None
    """Folder of all studies; default: runs/evidence, or runs/evidence-quick with --quick."""
    real: Path | None = None
    """List of labelled real videos; without it, that study is left out."""
    groups: Path | None = None
    """Table with the group of each of them."""
    root: Path | None = None
    """Folder that the list's paths are relative to; default: the list's own."""
    precision: Precision = "fp32"
    """Precision of training on real video."""
    jobs: int = 2
    known: tuple[Path, ...] = ()
    """Files ``measured/*.json``: measurements of the same settings are reused."""
    quick: bool = False

    def __post_init__(self) -> None:
        if (self.real is None) != (self.groups is None):
            raise UserError("--real and --groups go together: a list of videos, and the group of each.")

    @property
    def folder(self) -> Path:
        return self.out or Path("runs/evidence-quick" if self.quick else "runs/evidence")


def commands(options: Options) -> list[list[str]]:
    """Each study with its flags, the shorter first; the last command inserts the results into the docs."""
    out = {name: str(options.folder / name) for name in NAMES}
    quick = ["--quick"] * options.quick
    shared = ["--jobs", str(options.jobs), *quick]
    if options.known:
        shared += ["--known", *map(str, options.known)]
    lines = [
        ["studies/cost.py", "--out", out["costs"]],
        ["studies/demo_table.py", "--out", out["demo"], *quick],
        ["studies/pictures.py", "--demo", f"{out['demo']}/demo", "--out", out["pictures"], *quick],
        ["studies/reliance.py", "--out", out["reliance"], *quick],
        *(
            ["studies/ranking.py", "--out", out["ranking"], "--name", name, *flags.split(), *shared]
            for name, flags in RANKINGS.items()
        ),
        ["studies/budget.py", "--out", out["budget"], *shared],
        ["studies/ablations.py", "--out", out["ablations"], *shared],
    ]
    if options.real and options.groups:
        real = [str(options.real), "--groups", str(options.groups), "--out", out["real"]]
        real += ["--precision", options.precision, *(["--root", str(options.root)] if options.root else [])]
        lines += [
            ["studies/real_video.py", *real, "--name", name, *flags.split(), *shared]
            for name, flags in REAL.items()
        ]
    if not options.quick:
        made = [name for name in NAMES if name != "real" or options.real]
        lines.append(["studies/fill_docs.py", *(out[name] for name in made)])
    return lines


SHORT = "--steps 600 --seeds 15 16 17 18 19"
RANKINGS = {
    "ranking": "--tuned 25 26 27 28 29",
    "ranking_600": f"{SHORT} 20 21 22 23 24 --tuned 20 21 22 23 24 --methods random moco dsm "
    "--measures features finetuned",
    "ranking_triplet": f"{SHORT} --measures features bias look",
    "ranking_others": f"{SHORT} --methods moco dsm dsm-paper be simclr --measures features bias look",
    "ranking_50": f"{SHORT} --methods random moco dsm --correlation 0.5 --measures features bias",
    "ranking_0": f"{SHORT} --methods random moco dsm --correlation 0 --measures features bias",
}
"""The paper's methods, trained as long as the demo; then, trained for fewer steps, more seeds, other methods
and other ties."""
REAL = {
    "real_video": "",
    "real_jitter": "--methods random moco moco-jitter dsm --seeds 10 11 12 13 14 "
    "--measures other_groups finetuned",
}
"""On real video: the paper's methods; then, whether the missing colour jitter explains the results of
`moco`."""
NAMES = ("costs", "demo", "pictures", "reliance", "ranking", "budget", "ablations", "real")


def main(options: Options) -> None:
    if find_spec("cv2") is None:
        raise UserError("some of the studies need OpenCV: pip install 'dsm-video[flow]'.")
    for command in commands(options):
        console.print(f"python {' '.join(command)}", style="bold")
        begun = time.monotonic()
        finished = subprocess.run([sys.executable, ROOT / command[0], *command[1:]], check=False)
        if finished.returncode:
            raise SystemExit(finished.returncode)
        console.print(f"{command[0]}: {(time.monotonic() - begun) / 60:.1f} minutes", style="bold")


if __name__ == "__main__":
    begin(main, Options, __doc__)
