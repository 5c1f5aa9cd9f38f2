"""Who learns motion where nobody tuned it? python studies/places.py --gestures DIR --fights DIR

Places are data sets as different as possible: the worlds of MotionScenes, each by another renderer, whose
videos are drawn anew by seed; and real video: hand gestures before many backdrops, fights before surveillance
cameras. Every method trains in every place with the same settings, those of `dsm demo` but for the backbone,
and is asked for R@1 and a linear probe among scenes that it has no label of.

``--search`` trains the candidates of each method on other seeds, and chooses among them for each place by
the *other* places alone (leave one place out): no method is reported where its settings were chosen.
Writes ``places.json`` (a row a number) and ``places.md``. What is done is not done again; ``--quick`` shows
in minutes that all of it works.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from begin import begin
from candidates import CANDIDATES, FAMILIES
from measured import read_measured
from real_pack import GROUPS, pack_real, write_part
from tables import by_seed, caption, table
from trial import Trial
from trials import is_done, run_all, study_command, write_all

from dsm.demo import TESTS, pretrain_config
from dsm.errors import UserError
from dsm.files import write_text
from dsm.models.settings import Precision
from dsm.runs.folder import plain
from dsm.runs.results import Row
from dsm.synthetic.motionscenes import WORLDS, MotionScenesConfig, write_motionscenes
from dsm.terminal import console, progress
from dsm.verbs.pack import LIST
from dsm.verbs.settings.demo import DemoConfig

QUICK_STEPS = 12
BACKBONE = "tiny3d"
"""Its first layer looks at three frames: a single frame of `dots` shows nothing, labels or not."""
FREE = "test_free"
"""The test of a made place that is reported: scene families that training never showed."""
METRICS = {
    "R@1": "R@1: is the nearest video of another scene of the same class?",
    "linear_probe": "Linear probe, asked about scenes that it was not trained on",
}
"""Asked in every place."""
SEARCH_SEEDS = (90,)
CHECKPOINTS = 6
"""Evaluated along the way, to see when a method reaches what."""


@dataclass(frozen=True)
class Options:
    out: Path = Path("runs/places")
    methods: tuple[str, ...] = ("random", "moco-steps", "moco", "dsm")
    """Names of candidates (studies/candidates.py). `moco` shows its encoder as many clips as `dsm`, in more
    steps; `moco-steps` makes as many steps."""
    places: tuple[str, ...] = (*WORLDS, "gestures", "fights")
    candidates: tuple[str, ...] = tuple(name for family in FAMILIES.values() for name in family)
    """What a search trains."""
    seeds: tuple[int, ...] = (60, 61, 62, 63, 64)
    """None on which a setting was chosen."""
    search: bool = False
    """Train all candidates on the seed of the search, and choose with one place left out."""
    steps: int = 450
    """Training steps of `dsm`."""
    gestures: Path | None = None
    """Folder of the gestures: all.txt, or train.txt and test.txt, and groups.tsv; if none is given, they are
    left out."""
    fights: Path | None = None
    """Folder of the fights; the same."""
    precision: Precision = "bf16"
    jobs: int = 2
    """Encoders trained side by side; they share the cores."""
    known: tuple[Path, ...] = ()
    """Files ``measured/*.json``: what they hold of the same settings is taken, not measured again."""
    quick: bool = False
    """One seed, few videos and steps: numbers that mean nothing, by the same way."""

    @property
    def name(self) -> str:
        """Of the files that are written."""
        return "places_search" if self.search else "places"

    def real(self, place: str) -> Path | None:
        """The folder of a place of real video; None where there is none."""
        return {"gestures": self.gestures, "fights": self.fights}[place]


@dataclass(frozen=True)
class Prepared:
    """The videos of one place, and of a made one of one seed."""

    train: Path
    """What is pretrained on, without labels."""
    tests: tuple[Path, ...]
    measures: tuple[str, ...]
    videos: str
    """A word for the videos."""
    groups: Path | None = None
    confounded: tuple[Path, ...] = ()
    """Lists for training and testing a probe, in which the scene gives the class away, wrongly."""


def prepare_made(options: Options, place: str, seed: int) -> Prepared:
    """Say where the videos of a made place are; they are written when wanted."""
    folder = options.out / place / f"videos-{seed}"
    word = json.dumps(plain(scenes_config(options, place, seed)))
    tests = tuple(folder / f"{test}.txt" for test in TESTS)
    return Prepared(folder / "train.txt", tests, ("features", "curve"), word)


def prepare_real(options: Options, place: str) -> Prepared:
    """Pack the videos of a real place, once for all seeds."""
    source, folder = options.real(place), options.out / place / "videos"
    if source is None:
        raise UserError(f"{place}: give its folder, --{place} DIR, or leave it out of --places.")
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
    """all.txt of a folder; where there is none, its train.txt and test.txt joined, beside the pack."""
    if (source / "all.txt").is_file():
        return source / "all.txt"
    joined = folder.with_suffix(".txt")
    parts = [(source / f"{part}.txt").read_text(encoding="utf-8") for part in ("train", "test")]
    write_text(joined, "".join(f"{part.rstrip()}\n" for part in parts))
    return joined


def scenes_config(options: Options, place: str, seed: int) -> MotionScenesConfig:
    """The demo's videos, but of this world and seed."""
    whole = MotionScenesConfig(world=place, seed=seed)  # type: ignore[arg-type]
    return replace(whole, train=64, test=20) if options.quick else whole


def write_scenes(options: Options, place: str, seed: int) -> None:
    scenes = scenes_config(options, place, seed)
    with progress(f"{place}, seed {seed}: videos", scenes.train + len(TESTS) * scenes.test) as bar:
        write_motionscenes(scenes, options.out / place / f"videos-{seed}", on_progress=bar.update)


def trial(options: Options, place: str, name: str, seed: int, prepared: Prepared) -> Trial:
    """One candidate in one place: all are trained alike, but for what makes the candidate."""
    candidate = CANDIDATES["dsm" if name == "random" else name]
    base = pretrain_config(DemoConfig(out=options.out / place, workers=0), candidate.method, seed)
    steps = QUICK_STEPS if options.quick else round(options.steps * candidate.longer)
    config = replace(
        base,
        backbone=BACKBONE,
        data=replace(base.data, train=prepared.train, cache_mb=1500),
        out=options.out / place / f"{name}-{seed}",
        settings=candidate.settings,
        augment=candidate.augment,
        steps=steps,
        precision=options.precision,
        save_every=-(-steps // CHECKPOINTS),
        keep=CHECKPOINTS,
    )
    random = name == "random"
    # A search asks how good an encoder is in the end, not how it got there.
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
    """What is asked in every place, under the place's name."""
    test = f"{FREE if place in WORLDS else 'list'}@{place}"
    return [replace(row, test=place) for row in rows if row.test == test]


def chosen_without(rows: Sequence[Row], place: str, places: Sequence[str], names: Sequence[str]) -> str:
    """The candidate that loses least to the best of each *other* place, R@1 and probe together."""
    found = by_seed(rows)

    def loss(name: str) -> float:
        """Mean points behind the best candidate."""
        behind = []
        for other in places:
            for metric in METRICS if other != place else ():
                scores = {one: np.mean(list(found[one, other, metric].values())) for one in names}
                behind.append(max(scores.values()) - scores[name])
        return float(np.mean(behind))

    return min(names, key=loss)


def search_tables(rows: Sequence[Row], places: Sequence[str], asked: Sequence[str]) -> str:
    """What each candidate reached, and which is chosen where a place is left out, and where none is."""
    text = ""
    for family, candidates in FAMILIES.items():
        names = tuple(name for name in candidates if name in asked)
        if not names:
            continue
        for metric, title in METRICS.items():
            text += f"\n`{family}`. {title}:\n\n" + table(rows, metric, runs=names, tests=tuple(places))
        text += f"\n| left out | chosen for `{family}` |\n|---|---|\n"
        for place in places if len(places) > 1 else ():
            text += f"| {place} | {chosen_without(rows, place, places, names)} |\n"
        text += f"| none | {chosen_without(rows, '', places, names)} |\n"
    return text


AGAINST = (("dsm", "moco"), ("dsm", "moco-steps"), ("moco", "random"), ("dsm", "random"))


def result_tables(rows: Sequence[Row], options: Options, places: Sequence[str]) -> str:
    """Every place's numbers, what was seen on the way, and the confounded test."""
    text = ""
    for metric, title in METRICS.items():
        text += f"\n{title}:\n\n"
        text += table(rows, metric, runs=options.methods, tests=tuple(places), against=AGAINST)
    text += "\n*Motion* a third of the way through the training, in %:\n\n"
    text += table(rows, "motion_at_third", runs=("dsm",), tests=tuple(places))
    text += "\nWhen `dsm` reaches the final R@1 of `moco`, mean over the seeds that reach it:\n\n"
    text += cost_table(rows, places)
    if any(row.metric == "confounded_R@1" for row in rows):
        for metric in ("confounded_R@1", "confounded_linear_probe"):
            text += f"\nGestures, {metric.replace('_', ' ')}:\n\n"
            text += table(rows, metric, runs=options.methods, tests=("gestures",), against=AGAINST)
    return text


def cost_table(rows: Sequence[Row], places: Sequence[str]) -> str:
    """Steps and minutes until `dsm` is where `moco` ends; a dash where it never is."""
    found = by_seed(rows)
    lines = ["| place | seeds that reach it | steps | minutes |", "|---|---|---|---|"]
    for place in places:
        steps, minutes, asked = [], [], 0
        for seed, wanted in found.get(("moco", place, "R@1"), {}).items():
            curve = sorted(
                (int(metric.removeprefix("R@1_at_")), values[seed])
                for (run, test, metric), values in found.items()
                if run == "dsm" and test == place and metric.startswith("R@1_at_") and seed in values
            )
            asked += 1
            reached = next((step for step, value in curve if value >= wanted), None)
            if reached is not None:
                steps.append(reached)
                minutes.append(reached * found["dsm", place, "minutes_a_step"][seed])
        told = [f"{np.mean(steps):.0f}", f"{np.mean(minutes):.1f}"] if steps else ["–", "–"]
        lines.append(f"| {place} | {len(steps)} of {asked} | {' | '.join(told)} |")
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
    known = read_measured(options.known)
    trials = []
    for place in places:
        real = None if place in WORLDS else prepare_real(options, place)
        for seed in options.seeds:
            prepared = real or prepare_made(options, place, seed)
            some = [trial(options, place, name, seed, prepared) for name in names]
            if real is None and not all(is_done(one, known) for one in some):
                write_scenes(options, place, seed)
            trials += some
    rows = write_all(options.out, run_all(trials, options.jobs, known), options.name)
    shown = [row for place in places for row in reported(rows, place)]
    text = f"`{study_command()}`\n\n{caption(shown)}\n"
    if options.search:
        text += search_tables(shown, places, names)
    else:
        text += result_tables(shown, options, places)
    write_text(options.out / f"{options.name}.md", text)
    console.print(f"{options.out}: {options.name}.json, {options.name}.md")


if __name__ == "__main__":
    begin(main, Options, __doc__)
