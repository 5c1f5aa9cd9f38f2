"""Tables of results for a page: one table per test, one line per metric, one column per run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dsm.evaluate.bias import NUMBERS
from dsm.evaluate.field_measures import CUT_BY_MOTION
from dsm.intervals import Interval
from dsm.pages.bias import ACCURACY, OF_THE_FIELD
from dsm.runs.results import NO_SHARES, Row, mean_and_spread
from dsm.terminal import many

MEANINGS = {
    "R@1": "the nearest training video is of the same class",
    "mAP": "mean average precision",
    "linear_probe": "a linear classifier on frozen features",
    "attentive_probe": "a classifier that attends to frozen tokens",
    "attentive_probe_mean_class": "the same, mean over classes",
    "knn": "a vote of the nearest training videos",
    "linear_probe_mean_class": "the same, mean over classes",
    "knn_mean_class": "the same, mean over classes",
    "mean_class_top1": "top1, mean over classes",
    "train/loss": "at the last logged step",
    "train/motion": "positive nearer than negative, at the last step",
    "train/top1": "right on the last training batches",
    "monitor/top1": "top1 on the test list, while training",
    "monitor/top5": "top5 on the test list, while training",
    "monitor/knn": "knn on the monitored list, while training",
    "balance": "1: relies on motion; -1: on the scene",
    "monitor/balance": "1: relies on motion; -1: on the scene",
    "motion_area": "share of the picture that moves",
    "prefers_motion_to_still": "the map is on what moves rather than on what stands still",
    "map_mass_above_area": "map_mass_on_motion minus motion_area",
    "other_map_mass_on_motion": "share of another video's map where things move in this one",
    "top1": "the classifier's answer is right",
    "top5": "one of its first five answers is right",
    "map_mass_on_motion": "share of the map where things move",
    "map_mass_above_other_map": "map_mass_on_motion minus other_map_mass_on_motion",
    "scene_reliance": "0: the motion decides; 100: the scene",
    "motion_gain": "share of the skill that single frames cannot give",
    "order_sensitivity": "share of the skill lost with shuffled frames",
    "direction_sensitivity": "share of the skill lost when played backwards",
    "contrasted_scenes": "correct in front of another scene, but wrong on one frame of that clip",
    "contrasted_stripes": "correct in front of stripes, but wrong on one frame of that clip",
    "conflfg_error": "taken for the class of a still actor pasted in",
    "conflfg_motion_preferred": "its class more probable than that of a still actor pasted in",
    "hat_background_only_ratio": "accuracy on the scene alone / on the clip",
    "hat_human_only_ratio": "accuracy on the actor alone / on the clip",
    "hat_swap_random_ratio": "accuracy in front of another class's scene / on the clip",
    "hat_swap_same_ratio": "accuracy in front of another scene of its class / on the clip",
    "hat_swap_near_ratio": "accuracy in front of a similar scene / on the clip",
    "hat_swap_far_ratio": "accuracy in front of a dissimilar scene / on the clip",
    "hat_scene_error_random": "taken for the class of the scene behind it",
    "hat_scene_error_near": "taken for the class of a similar scene behind it",
    "hat_scene_error_far": "taken for the class of a dissimilar scene behind it",
    "appearance_free_skill": "share of the skill kept on noise that moves like the clip",
    "dimensions_static": "feature dimensions that encode static appearance, not motion",
    "dimensions_dynamic": "feature dimensions that encode motion, not static appearance",
    "dimensions_both": "feature dimensions that encode both",
    "dimensions_neither": "feature dimensions that encode neither",
    "place_neighbour": "the nearest other video is from the same place",
    "place_neighbour_chance": "the same by chance",
    "place_probe": "a linear probe tells the place",
    "place_probe_chance": "the same by chance",
    "actor_left": "how much of the actor is left in the scene alone",
    "appearance_free_probe": "a probe on noise that moves like the clip",
    "arrow_of_time": "a probe distinguishes forwards from backwards; chance 50%",
    "opposites": "picks the correct one of two opposite classes; chance 50%",
    "opposites_before_scenes": "picks the correct one of two opposite classes in front of other scenes",
    "acc_clip": "accuracy, mean over classes",
    "acc_static": "accuracy on single frames",
    "acc_shuffled": "frames in random order",
    "acc_reversed": "frames backwards",
    "acc_background": "in front of the scene of another class",
    "acc_stripes": "in front of stripes",
    "acc_sld": "scene broken as in training",
    "acc_tld": "motion broken as in training",
    "acc_appearance_free": "noise that moves like the clip",
    "acc_no_foreground": "accuracy on the scene alone",
}
# Metrics where higher is better, so that the best is marked.
_MORE = ("R@", "mAP", "linear_probe", "attentive_probe", "knn", "top", "acc_clip")


@dataclass(frozen=True)
class Cell:
    """A number, usually in %, and its interval or spread."""

    value: str
    spread: str
    best: bool


@dataclass(frozen=True)
class Bar:
    """A number as a bar of the page: positions in %, from 0 to 100."""

    name: str
    text: str
    at: float | None
    """Position of the number; None if it cannot be measured."""
    low: float
    high: float


def bar_of(name: str, share: Interval, *, digits: int = 0) -> Bar:
    """The bar of a share in [0, 1] with its 95 % interval, if it has one, clipped to [0, 1]."""
    at, low, high = (100 * min(max(place, 0.0), 1.0) for place in (share.value, *share.ends))
    return Bar(name, share.text(digits), at, low, high)


@dataclass(frozen=True)
class ResultTable:
    """The numbers of one test."""

    test: str
    """Its name and number of videos."""
    runs: list[str]
    lines: list[tuple[str, str, list[Cell | None]]]
    """Metric, its meaning, and one cell per run."""


def result_tables(rows: Sequence[Row]) -> list[ResultTable]:
    """One table per test, in order of appearance; those of logged training metrics last."""
    tables = []
    logged = {row.test: True for row in rows}
    for row in rows:
        logged[row.test] &= row.metric.startswith(("train/", "monitor/"))
    for test in sorted(logged, key=lambda test: logged[test]):
        # The same number of a run in two files counts once, so that it adds no spread.
        distinct = {(row.run, row.seed, row.metric, row.value): row for row in rows if row.test == test}
        own = list(distinct.values())
        runs = list(dict.fromkeys(row.run for row in own))
        lines = []
        for metric in dict.fromkeys(row.metric for row in own):
            of = [[row for row in own if (row.run, row.metric) == (run, metric)] for run in runs]
            means = [sum(row.value for row in some) / len(some) if some else None for some in of]
            known = [mean for mean in means if mean is not None]
            marked = metric.startswith(_MORE) and len(known) > 1 and max(known) > min(known)
            cells = [
                cell_of(some, marked and mean == max(known)) for some, mean in zip(of, means, strict=True)
            ]
            lines.append((metric, meaning_of(metric), cells))
        counts = sorted({row.n for row in own})
        videos = many(counts[0], "video") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} videos"
        tables.append(ResultTable(f"{test}, {videos}", runs, lines))
    return tables


def meaning_of(metric: str) -> str:
    """A short description of a metric; empty if unknown."""
    if known := MEANINGS.get(metric) or MEANINGS.get(metric.removesuffix(CUT_BY_MOTION)):
        return known
    name, _, count = metric.partition("@")
    return f"one of the {count} nearest has the same class" if name == "R" and count.isdecimal() else ""


def by_subject(rows: Sequence[Row]) -> tuple[list[Row], list[Row], list[Row]]:
    """Rows on quality, on where the network looks, and on reliance on the scene."""
    subjects: tuple[list[Row], list[Row], list[Row]] = [], [], []
    for row in rows:
        looks = "map_mass" in row.metric or row.metric in ("motion_area", "prefers_motion_to_still")
        scene = row.metric.startswith((ACCURACY, *OF_THE_FIELD)) or row.metric in NUMBERS
        subjects[1 if looks else 2 if scene else 0].append(row)
    return subjects


def seed_tables(rows: Sequence[Row], groups: Mapping[str, str]) -> list[ResultTable]:
    """Tables over seeds, with one column per group of runs. ``groups``: run name -> group name."""
    return result_tables([replace(row, run=groups[row.run]) for row in rows if row.run in groups])


def cell_of(rows: Sequence[Row], best: bool) -> Cell | None:
    """One metric of a run over its seeds: mean and spread; for one seed, its interval."""
    if not rows:
        return None
    if rows[0].metric in NO_SHARES:
        spread = rows[0].interval("[{:.2f}, {:.2f}]") if len(rows) == 1 else ""
        return Cell(f"{sum(row.value for row in rows) / len(rows):.3g}", spread, best)
    value, _, spread = mean_and_spread([row.value for row in rows]).removesuffix(" %").partition(" ")
    return Cell(value, spread or rows[0].measured.percents, best)
