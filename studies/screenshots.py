"""The docs' pictures of pages: python studies/screenshots.py --demo DIR [--footage DIR]

Makes a report of a demo's `moco` and `dsm`, and, of a folder of footage, the page of `dsm explore`, with the
weights that come with dsm. Opens each page in Chromium, and writes its first screen: ``report.jpg`` and
``explore.jpg``. A few minutes; pages that exist are not made again.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from begin import begin
from chromium import headless
from command import dsm_command
from small_pictures import save_jpeg

from dsm.data.lists import read_list, write_list
from dsm.terminal import console

WIDTH, HEIGHT = 1100, 860
"""Of a screen, in pixels."""


@dataclass(frozen=True)
class Options:
    demo: Path
    """Folder of a demo of one seed or more."""
    footage: Path | None = None
    """Folder of videos; without it, there is no `explore.jpg`."""
    out: Path = Path("runs/screenshots")
    seed: int = 0
    """Of the demo's runs."""
    train: int = 200
    """Training videos for the report."""
    test: int = 60
    """Videos of the conflict test for the report."""


def first_screen(page: Path, picture: Path) -> None:
    """Write the first screen of a page as a JPEG.

    Raises:
        UserError: there is no browser.
    """
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        headless(page, "--hide-scrollbars", f"--screenshot={shot}", width=WIDTH, height=HEIGHT)
        save_jpeg(shot, picture)


def report_page(options: Options) -> Path:
    """A report of a demo's two runs, measured on some of its videos."""
    page = options.out / "report.html"
    if not page.exists():
        scenes = options.demo / "scenes"
        for name, count in (("train", options.train), ("test_conflict", options.test)):
            videos = read_list(scenes / f"{name}.txt")
            write_list(options.out / f"{name}.txt", videos.part(np.arange(count), options.out))
        shutil.copyfile(scenes / "classes.txt", options.out / "classes.txt")
        runs = " ".join(str(options.demo / "runs" / f"{run}-seed{options.seed}") for run in ("moco", "dsm"))
        dsm_command(
            f"report {runs} --data.train {options.out}/train.txt --data.test {options.out}/test_conflict.txt "
            f"--out {page} --overwrite"
        )
    return page


def explore_page(options: Options) -> Path:
    page = options.out / "explore.html"
    if not page.exists():
        dsm_command(f"explore {options.footage} --out {page} --overwrite")
    return page


def main(options: Options) -> None:
    options.out.mkdir(parents=True, exist_ok=True)
    first_screen(report_page(options), options.out / "report.jpg")
    if options.footage:
        first_screen(explore_page(options), options.out / "explore.jpg")
    console.print(f"{options.out}: report.jpg{' and explore.jpg' if options.footage else ''}")


if __name__ == "__main__":
    begin(main, Options, __doc__)
