"""Every number and figure of the docs from nothing: python studies/everything.py [--quick]

Runs the studies one after the other and puts what they write into the docs. A weekend on two
cores; ``--quick`` goes the same way in minutes, writes numbers that mean nothing, and leaves the docs alone.
What is done is not done again.
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

HOUSE = Path(__file__).parent.parent


@dataclass(frozen=True)
class Options:
    out: Path | None = None
    """Folder of all studies; left out, runs/evidence, and runs/evidence-quick with --quick."""
    real: Path | None = None
    """List of labelled real videos; left out, that study is not made."""
    groups: Path | None = None
    """Table of the group of each of them."""
    root: Path | None = None
    """Folder put before the list's relative paths; left out, the list's own."""
    precision: Precision = "fp32"
    """What encoders of real video compute in."""
    jobs: int = 2
    known: tuple[Path, ...] = ()
    """Files ``measured/*.json``: what they hold of the same settings is taken, not measured again."""
    quick: bool = False

    def __post_init__(self) -> None:
        if (self.real is None) != (self.groups is None):
            raise UserError("--real and --groups go together: a list of videos, and the group of each.")

    @property
    def folder(self) -> Path:
        return self.out or Path("runs/evidence-quick" if self.quick else "runs/evidence")


def commands(options: Options) -> list[list[str]]:
    """Each study with its flags, the shorter first; the last puts what they wrote into the docs."""
    out = {name: str(options.folder / name) for name in NAMES}
    quick = ["--quick"] * options.quick
    shared = ["--jobs", str(options.jobs), *quick]
    if options.known:
        shared += ["--known", *map(str, options.known)]
    found = [
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
        found += [
            ["studies/real_video.py", *real, "--name", name, *flags.split(), *shared]
            for name, flags in REAL.items()
        ]
    if not options.quick:
        made = [name for name in NAMES if name != "real" or options.real]
        found.append(["studies/fill_docs.py", *(out[name] for name in made)])
    return found


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
"""The paper's methods, trained as long as the demo; then shorter: more seeds, other methods, other ties."""
REAL = {
    "real_video": "",
    "real_jitter": "--methods random moco moco-jitter dsm --seeds 10 11 12 13 14 "
    "--measures other_groups finetuned",
}
"""Of real video: the paper's methods; then, is it that colours stay as they are what keeps `moco` down?"""
NAMES = ("costs", "demo", "pictures", "reliance", "ranking", "budget", "ablations", "real")


def main(options: Options) -> None:
    if find_spec("cv2") is None:
        raise UserError("some of the studies want OpenCV: pip install 'dsm-video[flow]'.")
    for command in commands(options):
        console.print(f"python {' '.join(command)}", style="bold")
        begun = time.monotonic()
        done = subprocess.run([sys.executable, HOUSE / command[0], *command[1:]], check=False)
        if done.returncode:
            raise SystemExit(done.returncode)
        console.print(f"{command[0]}: {(time.monotonic() - begun) / 60:.1f} minutes", style="bold")


if __name__ == "__main__":
    begin(main, Options, __doc__)
