"""Make every number and figure of the docs: python studies/everything.py --gestures DIR --fights DIR

Runs the studies one after the other and inserts their results into the docs. This takes days on two cores.
``--quick`` does it in minutes on little data; its numbers mean nothing, and it does not change the docs.
Finished work is not repeated.
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
from dsm.terminal import console

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Options:
    out: Path | None = None
    """Folder of all studies; default: runs/evidence, or runs/evidence-quick with --quick."""
    gestures: Path | None = None
    """Folder of real video, for `places.py`, `insight.py` and `adapt.py`; without it, it is left out."""
    fights: Path | None = None
    """Another such folder."""
    jobs: int = 2
    """Encoders to train at the same time; they share the cores."""
    quick: bool = False

    @property
    def folder(self) -> Path:
        return self.out or Path("runs/evidence-quick" if self.quick else "runs/evidence")


def commands(options: Options) -> list[list[str]]:
    """Each study with its flags, the shorter first; the last command inserts the results into the docs."""
    out = {name: str(options.folder / name) for name in NAMES}
    quick = ["--quick"] * options.quick
    real = []
    for name, folder in (("--gestures", options.gestures), ("--fights", options.fights)):
        real += [name, str(folder)] if folder else []
    places = ["studies/places.py", "--out", out["places"], "--jobs", str(options.jobs), *real, *quick]
    lines = [
        ["studies/cost.py", "--out", out["costs"]],
        ["studies/demo_table.py", "--out", out["demo"], *quick],
        ["studies/pictures.py", "--demo", f"{out['demo']}/demo", "--out", out["pictures"], *quick],
        ["studies/reliance.py", "--out", out["reliance"], *quick],
        ["studies/insight.py", "--out", out["insight"], *real, *quick],
        [*places, "--search"],
        places,
        ["studies/health.py", "--runs", out["places"], "--out", out["health"]],
        ["studies/agreement.py", "--runs", out["places"], "--reliance", out["reliance"],
         "--out", out["agreement"], *quick],
    ]  # fmt: skip
    if options.gestures:
        lines.insert(-4, ["studies/adapt.py", *real[:2], "--out", out["adapt"], *quick])
    else:
        del out["adapt"]
    if options.gestures and options.fights:
        lines.append(["studies/transfer.py", "--out", out["transfer"], *real, *quick])
    else:
        del out["transfer"]
    return lines if options.quick else [*lines, ["studies/fill_docs.py", *out.values()]]


NAMES = (
    "costs", "demo", "pictures", "reliance", "insight", "adapt", "places", "health", "agreement", "transfer",
)  # fmt: skip


def main(options: Options) -> None:
    if find_spec("cv2") is None:
        raise UserError("some of the studies need OpenCV: pip install 'dsm-video[flow]'.")
    if options.gestures and find_spec("transformers") is None:
        raise UserError("studies/adapt.py needs transformers: pip install transformers.")
    for command in commands(options):
        console.print(f"python {' '.join(command)}", style="bold")
        begun = time.monotonic()
        finished = subprocess.run([sys.executable, ROOT / command[0], *command[1:]], check=False)
        if finished.returncode:
            raise SystemExit(finished.returncode)
        console.print(f"{command[0]}: {(time.monotonic() - begun) / 60:.1f} minutes", style="bold")


if __name__ == "__main__":
    begin(main, Options, __doc__)
