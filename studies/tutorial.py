"""The tutorial on real footage, with its output and pictures: python studies/tutorial.py --footage DIR

Runs every command of docs/own-videos.md and docs/own-examine.md as written, in order, in a folder where
`videos` holds the footage; files are renamed after their source. Writes what they print to ``tutorial.txt``,
the means of the run's log to ``training.md``, and the pictures ``look_own.jpg`` and ``preview_real.jpg``.
About an hour on one core; commands that have ended are not repeated.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from begin import begin
from small_pictures import save_jpeg

from dsm.errors import UserError
from dsm.files import write_text
from dsm.runs.logs import read_metrics
from dsm.terminal import console

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from docs_blocks import Block, blocks_of  # type: ignore[import-not-found]  # noqa: E402

PAGES = ("own-videos.md", "own-examine.md")
SETS_UP = ". .venv/bin/activate"
"""How the line begins that prepares a reader's terminal; it is left out."""
PREVIEW = (
    "dsm data preview pack/train/list.txt --clip.frames 8 --clip.stride 2 --clip.resize 80 --clip.size 64 "
    "--show 5 --measure 5 --out preview.png --overwrite\n"
)
"""The tutorial's preview, as a picture."""
TENTHS = 10
LOGGED = (
    ("monitor/balance", "balance", "{:.2f}"),
    ("motion", "*motion*", "{:.0%}"),
    ("loss", "loss", "{:.2f}"),
)
"""Names in the log, in the table, and how they are written."""


@dataclass(frozen=True)
class Options:
    footage: Path
    """Folder with videos, one sub-folder per class, and groups.tsv: path, class, number of the source."""
    out: Path = Path("runs/tutorial")
    until: str | None = None
    """Stop before the first block that contains these words."""


def stage(footage: Path, out: Path) -> None:
    """Copy the videos to `videos/CLASS/cameraNN_NAME`, and make `footage` the same folder."""
    if (out / "footage").exists():
        return
    table = footage / "groups.tsv"
    if not table.is_file():
        raise UserError(f"{table}: no such table; it must have the columns path, class and source_video.")
    with table.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file, delimiter="\t"):
            path = footage / line["path"]
            target = out / "videos" / path.parent.name / f"camera{int(line['source_video']):02d}_{path.name}"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    (out / "footage").symlink_to("videos")


def run(script: str, folder: Path) -> str:
    """What a script prints, with the commands.

    Raises:
        UserError: a command fails.
    """
    python = Path(sys.executable).parent
    about = {**os.environ, "PATH": f"{python}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "120"}
    done = subprocess.run(
        ["bash", "-e", "-v", "-c", script], cwd=folder, env=about, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if done.returncode:
        raise UserError(f"a command of the tutorial failed:\n{script}\n{done.stdout[-2000:]}")
    return done.stdout


def block_text(block: Block, folder: Path, shell: str) -> tuple[str, str]:
    """The output of one block, run once, and the script that sets the variables of all blocks so far."""
    lines = [line for line in block.script.splitlines() if not line.startswith(SETS_UP)]
    script = "\n".join(lines) + "\n"
    kept = folder / "output" / f"{block.page.stem}-{block.line}.txt"
    text = kept.read_text(encoding="utf-8") if kept.exists() else ""
    if not text.startswith(f"{script}\n"):
        text = f"{script}\n{run(shell + script, folder)}"
        write_text(kept, text)
    sets = [line for line in lines if line.split("=")[0].isidentifier() and "=" in line]
    return text, shell + "".join(f"{line}\n" for line in sets)


def training_table(run: Path) -> str:
    """Means of a run's log over a tenth of its steps each, in rows."""
    lines = read_metrics(run)
    last = lines[-1]["step"]
    ends = [last * (place + 1) / TENTHS for place in range(TENTHS)]
    heads = " | ".join(f"{end:.0f}" for end in ends)
    rows = [f"| steps up to | {heads} |", "|---" * (TENTHS + 1) + "|"]
    for name, title, form in LOGGED:
        cells = []
        for place, end in enumerate(ends):
            begin = ends[place - 1] if place else 0
            values = [line[name] for line in lines if name in line and begin < line["step"] <= end]
            cells.append(form.format(sum(values) / len(values)) if values else "")
        rows.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def main(options: Options) -> None:
    folder = options.out / "folder"
    stage(options.footage, folder)
    texts, shell = [], ""
    for page in PAGES:
        for block in blocks_of(ROOT / "docs" / page):
            if block.language != "console" or block.not_run:
                continue
            if options.until and options.until in block.script:
                return
            console.print(f"{page}, line {block.line}", markup=False)
            text, shell = block_text(block, folder, shell)
            texts.append(text)
    write_text(options.out / "tutorial.txt", "\n".join(texts))
    write_text(options.out / "training.md", training_table(folder / "runs" / "mine"))
    if not (folder / "preview.png").exists():
        run(PREVIEW, folder)
    save_jpeg(folder / "preview.png", options.out / "preview_real.jpg")
    save_jpeg(folder / "look.jpg", options.out / "look_own.jpg")
    console.print(f"{options.out}: tutorial.txt, training.md, preview_real.jpg and look_own.jpg")


if __name__ == "__main__":
    begin(main, Options, __doc__)
