"""Who learns motion on untuned data? python studies/places.py --gestures DIR --fights DIR

Places are data sets that differ as much as possible: the worlds of MotionScenes, each with its own renderer,
whose videos are drawn by seed; and real video, of hand gestures in front of many backdrops and of fights on
surveillance cameras. Every method trains in every place with the same settings: those of `dsm demo`, except
for the backbone. Measured are R@1 and a linear probe, on scenes without training labels.

``--search`` trains the candidates of each method on other seeds. For each place, it chooses among them by the
*other* places only (leave one place out), so no method is reported where its settings were chosen. Writes
``places.json`` (one row per number), ``places.md`` and ``places_headline.md``. Finished work is not repeated;
``--rows`` adds the numbers of another machine. ``--quick`` tests in minutes that everything works.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from begin import begin
from candidates import CANDIDATES, FAMILIES
from real_pack import GROUPS, pack_real, write_part
from tables import by_seed, caption, mean_of, paired, table
from trial import Trial
from trials import is_done, run_all, study_command

from dsm.demo import TESTS, pretrain_config
from dsm.errors import UserError
from dsm.files import write_text
from dsm.models.settings import Precision
from dsm.runs.folder import plain
from dsm.runs.results import Row, read_results, write_results
from dsm.synthetic.motionscenes import write_motionscenes
from dsm.synthetic.settings import WORLDS, MotionScenesConfig
from dsm.terminal import console, progress
from dsm.train.config import MonitorConfig
from dsm.verbs.pack import LIST
from dsm.verbs.settings.training import DemoConfig

QUICK_STEPS = 12
BACKBONE = "tiny3d"
"""Its first layer sees three frames: a single frame of `dots` shows nothing, even to a model with labels."""
FREE = "test_free"
"""The test to report for generated places: scene families that training never showed."""
METRICS = {
    "R@1": "R@1 (does the nearest video of another scene have the same class?)",
    "linear_probe": "Linear probe, tested on scenes that it was not trained on",
}
"""Measured in every place, with the titles of their tables."""
SEARCH_SEEDS = (90,)
CHECKPOINTS = 6
"""Number of evaluations of `dsm` during training, to see when it reaches which result."""


@dataclass(frozen=True)
class Options:
    out: Path = Path("runs/places")
    methods: tuple[str, ...] = ("random", "moco-steps", "moco", "dsm")
    """Names of candidates (studies/candidates.py). `moco` trains for as much compute as `dsm`, in more steps;
    `moco-steps` for as many steps."""
    places: tuple[str, ...] = (*WORLDS, "gestures", "fights")
    candidates: tuple[str, ...] = tuple(name for family in FAMILIES.values() for name in family)
    """Candidates to train in a search."""
    seeds: tuple[int, ...] = (65, 66, 67, 68, 69)
    """No setting was chosen on these."""
    search: bool = False
    """Train all candidates on the search's seed, and choose among them with one place left out."""
    steps: int = 450
    """Training steps of `dsm`."""
    gestures: Path | None = None
    """Folder of the gestures: all.txt, or train.txt and test.txt, and groups.tsv. Without it, this place is
    left out."""
    fights: Path | None = None
    """Folder of the fights, with the same files."""
    precision: Precision | None = None
    """By default bf16 on a CPU with instructions for it, fp32 on others, which are many times slower in
    bf16."""
    jobs: int = 2
    """Encoders to train at the same time; they share the cores."""
    rows: Path | None = None
    """A ``places.json`` of the same settings, such as studies/results/places.json. Encoders that it
    measures are not trained again."""
    quick: bool = False
    """One seed, few videos and steps, to test the study; the numbers mean nothing."""

    @property
    def name(self) -> str:
        """Name of the files to write."""
        return "places_search" if self.search else "places"

    def real(self, place: str) -> Path | None:
        """The folder of a place of real video, or None if it was not given."""
        return {"gestures": self.gestures, "fights": self.fights}[place]


@dataclass(frozen=True)
class Prepared:
    """The videos of one place; for a generated place, those of one seed."""

    train: Path
    """List for pretraining, without labels."""
    tests: tuple[Path, ...]
    measures: tuple[str, ...]
    videos: str
    """Identifies the videos."""
    groups: Path | None = None
    confounded: tuple[Path, ...] = ()
    """Lists for training and testing a probe, in which the scene predicts the class, and does so wrongly in
    the test."""


def prepare_generated(options: Options, place: str, seed: int) -> Prepared:
    """Paths of the videos of a generated place; :func:`write_scenes` writes them."""
    folder = options.out / place / f"videos-{seed}"
    word = json.dumps(plain(scenes_config(options, place, seed)))
    tests = tuple(folder / f"{test}.txt" for test in TESTS)
    return Prepared(folder / "train.txt", tests, ("features", "curve"), word)


def prepare_real(options: Options, place: str) -> Prepared:
    """Pack the videos of a real place, once for all seeds."""
    source, folder = options.real(place), options.out / place / "videos"
    if source is None:
        raise UserError(f"{place}: give its folder, --{place} DIR, or remove it from --places.")
    side = pretrain_config(DemoConfig(out=folder), "dsm", 0).clip.resize
    packed = pack_real(whole_list(source, folder), source, source / "groups.tsv", folder, side)
    confounded = []
    for part in ("confounded_train.txt", "confounded_test.txt"):
        if (source / part).is_file():
            write_part(packed, source / part, source, folder / part)
            confounded.append(folder / part)
    train, groups = folder.absolute() / LIST, folder.absolute() / GROUPS
    measures = ("other_groups", "curve", *(["confounded"] if confounded else []))
    return Prepared(train, (train,), measures, packed.word, groups, tuple(confounded))


def whole_list(source: Path, folder: Path) -> Path:
    """The folder's all.txt; without one, its train.txt and test.txt joined, written beside the pack."""
    if (source / "all.txt").is_file():
        return source / "all.txt"
    joined = folder.with_suffix(".txt")
    parts = [(source / f"{part}.txt").read_text(encoding="utf-8") for part in ("train", "test")]
    write_text(joined, "".join(f"{part.rstrip()}\n" for part in parts))
    return joined


def scenes_config(options: Options, place: str, seed: int) -> MotionScenesConfig:
    """The demo's videos with this world and seed."""
    whole = MotionScenesConfig(world=place, seed=seed)  # type: ignore[arg-type]
    return replace(whole, train=64, test=20) if options.quick else whole


def write_scenes(options: Options, place: str, seed: int) -> None:
    scenes = scenes_config(options, place, seed)
    with progress(f"{place}, seed {seed}: videos", scenes.train + len(TESTS) * scenes.test) as bar:
        write_motionscenes(scenes, options.out / place / f"videos-{seed}", on_progress=bar.update)


def trial(options: Options, place: str, name: str, seed: int, prepared: Prepared) -> Trial:
    """One candidate in one place; all train alike except for the candidate's own settings."""
    candidate = CANDIDATES["dsm" if name == "random" else name]
    base = pretrain_config(DemoConfig(out=options.out / place, workers=0), candidate.method, seed)
    steps = QUICK_STEPS if options.quick else round(options.steps * candidate.longer)
    # A search needs only the final result, and so does every method but dsm.
    checkpoints = CHECKPOINTS if candidate.method == "dsm" and not options.search else 1
    config = replace(
        base,
        backbone=BACKBONE,
        data=replace(base.data, train=prepared.train, cache_mb=1500),
        out=options.out / place / f"{name}-{seed}",
        settings=candidate.settings,
        augment=candidate.augment,
        steps=steps,
        precision=options.precision or base.precision,
        save_every=-(-steps // checkpoints),
        keep=checkpoints,
        monitor=MonitorConfig(videos=0),  # `health.py` measures the balance afterwards
    )
    random = name == "random"
    without_curve = random or options.search
    return Trial(
        name,
        config,
        prepared.tests,
        tuple(measure for measure in prepared.measures if measure != "curve" or not without_curve),
        windows=1 if place in WORLDS else 3,
        groups=prepared.groups,
        suffix=f"@{place}",
        random=random,
        videos=prepared.videos,
        confounded=prepared.confounded,
    )


def reported(rows: Sequence[Row], place: str) -> list[Row]:
    """The rows to report for a place, with the place as their test."""
    test = f"{FREE if place in WORLDS else 'list'}@{place}"
    return [replace(row, test=place) for row in rows if row.test == test]


def chosen_without(rows: Sequence[Row], place: str, places: Sequence[str], names: Sequence[str]) -> str:
    """The candidate that is least behind the best one of each *other* place, over R@1 and probe."""
    values = by_seed(rows)

    def loss(name: str) -> float:
        """Mean points behind the best candidate."""
        behind = []
        for other in places:
            for metric in METRICS if other != place else ():
                scores = {one: np.mean(list(values[one, other, metric].values())) for one in names}
                behind.append(max(scores.values()) - scores[name])
        return float(np.mean(behind))

    return min(names, key=loss)


def search_tables(rows: Sequence[Row], places: Sequence[str], trained: Sequence[str]) -> str:
    """The result of each candidate, and the choice with each place left out, and with none."""
    text = ""
    for family, candidates in FAMILIES.items():
        names = tuple(name for name in candidates if name in trained)
        if not names:
            continue
        for metric, title in METRICS.items():
            text += f"\n`{family}`. {title}:\n\n" + table(rows, metric, runs=names, tests=tuple(places))
        text += f"\n| left out | chosen for `{family}` |\n|---|---|\n"
        for place in places if len(places) > 1 else ():
            text += f"| {place} | {chosen_without(rows, place, places, names)} |\n"
        text += f"| none | {chosen_without(rows, '', places, names)} |\n"
    return text


SHOWN = {
    "scenes": "synthetic: moving shapes",
    "dots": "synthetic: figure and background of the same dots",
    "walkers": "synthetic: people in rooms and streets",
    "drone": "synthetic: a vehicle from above, moving camera",
    "gestures": "real: hand gestures, 21 backdrops",
    "fights": "real: fights on surveillance cameras",
}
"""What each place shows, for README's table."""


def headline(rows: Sequence[Row], places: Sequence[str]) -> str:
    """README's table: R@1 of each method, and the gain of dsm, with a line per place."""
    values = by_seed(rows)
    methods = [name for name in ("random", "moco", "dsm") if (name, places[0], "R@1") in values]
    named = ["random weights" if name == "random" else name for name in methods]
    lines = ["| data set | " + " | ".join(named) + " | gain |", "|---" * (len(methods) + 2) + "|"]
    for place in places:
        means = [mean_of(list(values[name, place, "R@1"].values())) for name in methods]
        gains = paired(values, ("dsm", place, "R@1"), ("moco", place, "R@1"))
        cells = [*(f"{mean.value:.1f}" for mean in means), mean_of(gains).text(signed=True) if gains else ""]
        lines.append(f"| {SHOWN[place]} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def confounded_table(rows: Sequence[Row], names: Sequence[str]) -> str:
    """Means over seeds, each with the mean bounds of the seeds' intervals, which draw whole backdrops."""
    lines = ["| | R@1 | linear probe |", "|---|---|---|"]
    for name in names:
        cells = []
        for metric in ("confounded_R@1", "confounded_linear_probe"):
            some = [row for row in rows if (row.run, row.metric) == (name, metric)]
            bounds = [(row.value, row.low, row.high) for row in some]
            value, low, high = 100 * np.mean(np.array(bounds, float), axis=0)
            cells.append(f"{value:.1f} [{low:.1f}, {high:.1f}]")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


DIFFERENCES = (("dsm", "moco"), ("dsm", "moco-steps"), ("moco", "random"), ("dsm", "random"))


def result_tables(rows: Sequence[Row], options: Options, places: Sequence[str]) -> str:
    """Every place's results, the course of training, and the confounded test."""
    text = ""
    for metric, title in METRICS.items():
        text += f"\n{title}:\n\n"
        text += table(rows, metric, runs=options.methods, tests=tuple(places), against=DIFFERENCES)
    text += "\n*motion* after a third of the training, in %:\n\n"
    text += table(rows, "motion_at_third", runs=("dsm",), tests=tuple(places))
    text += "\nWhen `dsm` reaches the final R@1 of `moco` (mean over the seeds that reach it):\n\n"
    text += cost_table(rows, places)
    if any(row.metric == "confounded_R@1" for row in rows):
        text += (
            "\nGestures, where each backdrop shows one class in training and other classes in the test. In "
            "brackets, the 95 % interval over backdrops (mean over the seeds):\n\n"
        )
        text += confounded_table(rows, options.methods)
    return text


def cost_table(rows: Sequence[Row], places: Sequence[str]) -> str:
    """Steps and minutes until `dsm` reaches the final result of `moco`; a dash if it never does."""
    by_key = by_seed(rows)
    lines = ["| data set | seeds that reach it | steps | minutes |", "|---|---|---|---|"]
    for place in places:
        steps, minutes, seeds = [], [], 0
        for seed, final in by_key.get(("moco", place, "R@1"), {}).items():
            curve = sorted(
                (int(metric.removeprefix("R@1_at_")), values[seed])
                for (run, test, metric), values in by_key.items()
                if run == "dsm" and test == place and metric.startswith("R@1_at_") and seed in values
            )
            seeds += 1
            reached = next((step for step, value in curve if value >= final), None)
            if reached is not None:
                steps.append(reached)
                minutes.append(reached * by_key["dsm", place, "minutes_a_step"][seed])
        cells = [f"{np.mean(steps):.0f}", f"{np.mean(minutes):.1f}"] if steps else ["–", "–"]
        lines.append(f"| {place} | {len(steps)} of {seeds} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(options: Options) -> None:
    names = options.methods
    if options.search:
        names, options = options.candidates, replace(options, seeds=SEARCH_SEEDS)
    if options.quick:
        options = replace(options, seeds=options.seeds[:1])
    absent = [place for place in options.places if place not in WORLDS and options.real(place) is None]
    places = [place for place in options.places if place not in absent]
    for place in absent:
        console.print(f"{place}: left out; --{place} DIR gives its folder.", style="yellow")
    trials, rows = [], read_results(options.rows) if options.rows else []
    measured = {(row.run, row.seed, row.test.rpartition("@")[2]) for row in rows}
    for place in places:
        wanted = [
            (name, seed) for seed in options.seeds for name in names if (name, seed, place) not in measured
        ]
        if not wanted:
            continue
        real = None if place in WORLDS else prepare_real(options, place)
        for seed in options.seeds:
            prepared = real or prepare_generated(options, place, seed)
            some = [trial(options, place, *one, prepared) for one in wanted if one[1] == seed]
            if real is None and not all(is_done(one) for one in some):
                write_scenes(options, place, seed)
            trials += some
    rows += run_all(trials, options.jobs)
    write_results(options.out / f"{options.name}.json", rows, command=study_command())
    shown = [row for place in places for row in reported(rows, place)]
    text = f"`{study_command()}`\n\n{caption(shown)}\n"
    if options.search:
        text += search_tables(shown, places, names)
    else:
        text += result_tables(shown, options, places)
    write_text(options.out / "places_headline.md", headline(shown, places))
    write_text(options.out / f"{options.name}.md", text)
    console.print(f"{options.out}: {options.name}.json, {options.name}.md")


if __name__ == "__main__":
    begin(main, Options, __doc__)
