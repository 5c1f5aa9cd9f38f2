"""Does motion learned from made videos transfer? python studies/transfer.py --gestures DIR --fights DIR

`dsm` trains on the four worlds of MotionScenes together, as in a place of ``places.py``, and sees no real
video. Measured on the two places of real video: R@1 among other groups and a linear probe, against random
weights of the same seed. Nothing is chosen on these places. Writes ``transfer.json`` (one row per number) and
``transfer.md``. Finished work is not repeated; ``--quick`` tests in minutes that everything works.

``--ship FILE.safetensors`` exports one of the encoders: that with the highest balance of motion and scene on
the videos that it was trained on, so no label and no real video chooses it. `dsm` comes with such a file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import places
from begin import begin
from command import dsm_command
from health import numbers_of
from measures import measure_other_groups
from places import METRICS, Prepared
from tables import caption, table
from trials import draw_weights, study_command

from dsm.data.lists import read_list
from dsm.files import write_text
from dsm.models.settings import Precision
from dsm.models.weights import load_weights
from dsm.runs.folder import plain
from dsm.runs.results import Row, read_results, write_results
from dsm.synthetic.motionscenes import write_motionscenes
from dsm.synthetic.settings import WORLDS, MotionScenesConfig
from dsm.terminal import console, progress
from dsm.train.pretrain import pretrain
from dsm.train.start import train_once

REAL = ("gestures", "fights")
RUNS = ("random", "dsm on synthetic videos")
BALANCED = 200
"""Videos to measure the balance on."""


@dataclass(frozen=True)
class Options:
    gestures: Path
    """Folder of the gestures, as for places.py."""
    fights: Path
    """Folder of the fights."""
    out: Path = Path("runs/transfer")
    seeds: tuple[int, ...] = (70, 71, 72, 73, 74)
    """Of the videos and of the training."""
    made: int = 500
    """Videos of each world."""
    steps: int = 450
    precision: Precision | None = None
    """As for places.py."""
    ship: Path | None = None
    """File for the encoder with the highest balance, in float16."""
    quick: bool = False
    """One seed, few videos and steps; the numbers mean nothing."""

    @property
    def as_places(self) -> places.Options:
        """The settings of ``places.py``, which trains and prepares videos."""
        return places.Options(
            self.out, steps=self.steps, gestures=self.gestures, fights=self.fights, precision=self.precision
        )


def prepare_made(options: Options, seed: int) -> Prepared:
    """Videos of all worlds in one list for training; written once."""
    folder = options.out / "made" / f"videos-{seed}"
    whole = folder / "train.txt"
    scenes = [MotionScenesConfig(world=world, train=options.made, test=10, seed=seed) for world in WORLDS]
    prepared = Prepared(whole, (), (), json.dumps([plain(one) for one in scenes]))
    if whole.is_file():
        return prepared
    paths = []
    for one in scenes:
        with progress(f"{one.world}, seed {seed}: videos", options.made) as bar:
            write_motionscenes(one, folder / one.world, on_progress=bar.update)
        videos = read_list(folder / one.world / "train.txt")
        paths += [str(videos.file(row).absolute()) for row in range(len(videos))]
    write_text(whole, "".join(f"{path}\n" for path in paths))
    return prepared


def measured(options: Options, seed: int, real: dict[str, Prepared]) -> list[Row]:
    """Train on made videos, and measure on real ones, against random weights."""
    learned = places.trial(options.as_places, "made", "dsm", seed, prepare_made(options, seed))
    file = learned.folder / "results.json"
    if file.is_file():
        return read_results(file)
    random = replace(learned, random=True)
    train_once(replace(learned.config, out=learned.folder / "run"), pretrain)
    draw_weights(random)
    rows = []
    for place, videos in real.items():
        for run, one in zip(RUNS, (random, learned), strict=True):
            tested = replace(one, name=run, tests=videos.tests, groups=videos.groups)
            rows += [replace(row, test=place) for row in measure_other_groups(tested)]
    found = numbers_of(load_weights(learned.folder / "run").module, learned.config.data.train, BALANCED)
    rows.append(Row(RUNS[1], seed, "made", "balance", found["balance"], None, None, BALANCED))
    write_results(file, rows, command=study_command())
    return rows


def ship(options: Options, rows: list[Row], file: Path) -> None:
    """Export the encoder with the highest balance on made videos."""
    best = max((row for row in rows if row.metric == "balance"), key=lambda row: row.value)
    run = options.out / "made" / f"dsm-{best.seed}" / "run"
    dsm_command(f"export --weights {run} --half --out {file} --overwrite")


def main(options: Options) -> None:
    if options.quick:
        out = options.out.with_name(f"{options.out.name}-quick")
        options = replace(options, out=out, seeds=options.seeds[:1], made=16, steps=12)
    real = {place: places.prepare_real(options.as_places, place) for place in REAL}
    rows = [row for seed in options.seeds for row in measured(options, seed, real)]
    write_results(options.out / "transfer.json", rows, command=study_command())
    tables = (
        f"{title}:\n\n" + table(rows, metric, runs=RUNS, tests=REAL, against=[(RUNS[1], RUNS[0])])
        for metric, title in METRICS.items()
    )
    write_text(options.out / "transfer.md", f"`{study_command()}`\n\n{caption(rows)}\n\n" + "\n".join(tables))
    console.print(f"{options.out}: transfer.json, transfer.md")
    if options.ship is not None:
        ship(options, rows, options.ship)


if __name__ == "__main__":
    begin(main, Options, __doc__)
