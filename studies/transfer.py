"""Does motion learned from made videos transfer? python studies/transfer.py --gestures DIR --fights DIR

`dsm` trains on the four worlds of MotionScenes together, with its defaults and the clips and network of
``places.py``, and sees no real video. Measured on the two places of real video: R@1 among other groups and a
linear probe, against random weights of the same seed. Nothing is chosen on these places. Writes
``transfer.json`` (one row per number) and ``transfer.md``. Finished work is not repeated; ``--quick`` tests
in minutes that everything works.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from begin import begin
from measures import measure_other_groups
from places import BACKBONE, METRICS, Prepared, prepare_real
from places import Options as Places
from tables import caption, table
from trial import Trial
from trials import draw_weights, study_command

from dsm.data.lists import read_list
from dsm.demo import pretrain_config
from dsm.files import write_text
from dsm.runs.results import Row, read_results, write_results
from dsm.synthetic.motionscenes import write_motionscenes
from dsm.synthetic.settings import WORLDS, MotionScenesConfig
from dsm.terminal import console, progress
from dsm.train.config import MonitorConfig
from dsm.train.pretrain import pretrain
from dsm.train.start import train_once
from dsm.verbs.settings.training import DemoConfig

PLACES = ("gestures", "fights")


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
    quick: bool = False
    """One seed, few videos and steps; the numbers mean nothing."""


def made_videos(options: Options, seed: int) -> Path:
    """Videos of all worlds in one list for training; written once."""
    folder = options.out / f"seed-{seed}" / "made"
    whole = folder / "all.txt"
    if whole.is_file():
        return whole
    paths = []
    for world in WORLDS:
        scenes = MotionScenesConfig(world=world, train=options.made, test=10, seed=seed)
        with progress(f"{world}, seed {seed}: videos", options.made) as bar:
            write_motionscenes(scenes, folder / world, on_progress=bar.update)
        videos = read_list(folder / world / "train.txt")
        paths += [str(videos.file(row).absolute()) for row in range(len(videos))]
    write_text(whole, "".join(f"{path}\n" for path in paths))
    return whole


def trial_of(options: Options, seed: int) -> Trial:
    """The training on made videos, without what is measured."""
    base = pretrain_config(DemoConfig(out=options.out, workers=0), "dsm", seed)
    config = replace(
        base,
        backbone=BACKBONE,
        data=replace(base.data, train=made_videos(options, seed), cache_mb=3000),
        out=options.out / f"seed-{seed}",
        steps=options.steps,
        monitor=MonitorConfig(videos=0),
    )
    return Trial("dsm on made videos", config, (), windows=3)


def measured(options: Options, seed: int, places: dict[str, Prepared]) -> list[Row]:
    """Train on made videos, and measure on real ones, against random weights."""
    file = options.out / f"seed-{seed}" / "results.json"
    if file.is_file():
        return read_results(file)
    learned = trial_of(options, seed)
    random = replace(learned, name="random", random=True)
    train_once(replace(learned.config, out=learned.folder / "run"), pretrain)
    draw_weights(random)
    rows = []
    for place, real in places.items():
        for one in (random, learned):
            tested = replace(one, tests=real.tests, groups=real.groups)
            rows += [replace(row, test=place) for row in measure_other_groups(tested)]
    write_results(file, rows, command=study_command())
    return rows


def main(options: Options) -> None:
    if options.quick:
        out = options.out.with_name(f"{options.out.name}-quick")
        options = replace(options, out=out, seeds=options.seeds[:1], made=16, steps=12)
    given = Places(out=options.out, gestures=options.gestures, fights=options.fights)
    places = {place: prepare_real(given, place) for place in PLACES}
    rows = [row for seed in options.seeds for row in measured(options, seed, places)]
    write_results(options.out / "transfer.json", rows, command=study_command())
    runs = ("random", "dsm on made videos")
    tables = (
        f"{title}:\n\n" + table(rows, metric, runs=runs, tests=PLACES, against=[(runs[1], runs[0])])
        for metric, title in METRICS.items()
    )
    write_text(options.out / "transfer.md", f"`{study_command()}`\n\n{caption(rows)}\n\n" + "\n".join(tables))
    console.print(f"{options.out}: transfer.json, transfer.md")


if __name__ == "__main__":
    begin(main, Options, __doc__)
