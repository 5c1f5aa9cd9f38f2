"""The 95 % intervals of `dsm bias` cover the truth in 92 to 97 of 100 simulated tests.

Over groups they may cover more: with few groups or few errors they are wide on purpose, because so little
cannot show whether the videos of a group err together; and so may those of shares near 0 or 1, of few
classes, and of features that a probe learned from few videos. They must not cover less.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from dsm.evaluate.bias import Judged, scene_reliance, skill_lost
from dsm.evaluate.field_measures import (
    contrasted_accuracy,
    probe_accuracy,
    ratio_to_whole,
    taken_for_the_lender,
    within_pairs,
)
from dsm.evaluate.unlabelled import arrow_of_time, places, static_and_dynamic
from dsm.intervals import Interval, share_interval

CLASSES, PARTS = 10, 3
Rng = np.random.Generator


def coverage(draw: Callable[[Rng], Interval | None], truth: float, times: int, seed: int = 0) -> float:
    """The share of simulations whose interval contains the truth."""
    rng = np.random.default_rng(seed)
    found = [draw(rng) for _ in range(times)]
    assert all(one is not None and one.known for one in found)
    return float(np.mean([one.low <= truth <= one.high for one in found if one is not None]))


def grouped(count: int, size: int, spread: float, rng: Rng) -> tuple[NDArray[np.float64], list[str] | None]:
    """How easy each video is, in (-1, 1), half of it shared by its group of ``size``; and the groups."""
    if size == 1:
        return spread * rng.uniform(-1, 1, count), None
    names = np.arange(count) // size
    return spread * rng.uniform(-1, 1, names[-1] + 1)[names], [str(name) for name in names]


def judged(count: int, size: int, right: dict[str, float], rng: Rng) -> Judged:
    """A classifier whose hits have these probabilities on average; a wrong answer is any other class.

    Hits of a video in all variants and parts go together, and so do those of a group.
    """
    labels = np.arange(count) % CLASSES
    easy, groups = grouped(count, size, 0.15, rng)
    lenders = (np.arange(count)[:, None] + 1 + rng.integers(0, CLASSES - 1, (count, PARTS))) % count
    probabilities = {}
    for variant, share in right.items():
        parts = PARTS if "background" in variant else 1
        hits = rng.random((count, parts)) < (share + easy)[:, None]
        wrong = (labels[:, None] + rng.integers(1, CLASSES, (count, parts))) % CLASSES
        answers = np.where(hits, labels[:, None], wrong)
        probabilities[variant] = np.eye(CLASSES, dtype=np.float32)[answers]
    return Judged(probabilities, np.arange(CLASSES), labels, {"background": lenders}, groups)


RIGHT = {"clip": 0.8, "static": 0.4, "background": 0.6, "background_frozen": 0.3}
MEASURES: dict[str, tuple[Callable[[Judged], Interval | None], float]] = {
    "motion gain": (lambda one: skill_lost(one, "static"), 0.4 / 0.7),
    "ratio": (lambda one: ratio_to_whole(one, "background"), 0.6 / 0.8),
    # Given how easy a video is, its hits are independent; E[(.6 + e) (.7 - e)] with Var(e) = .0225 / 3.
    "contrasted": (lambda one: contrasted_accuracy(one, "background"), 0.6 * 0.7 - 0.0075),
    # A lender's class is one of the nine others, and a wrong answer any of them.
    "fooled": (lambda one: taken_for_the_lender(one, "background"), 0.4 / 9),
}


SLOW_SIZES = [(100, 1), (500, 1), (120, 6), (600, 6)]
SIZES = [pytest.param(30, 1), *(pytest.param(*one, marks=pytest.mark.slow) for one in SLOW_SIZES)]


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(("count", "size"), SIZES)
def test_shares_and_ratios_of_the_card_cover(measure: str, count: int, size: int) -> None:
    number, truth = MEASURES[measure]
    times = 1000 if count > 30 or measure in ("contrasted", "fooled") else 400
    found = coverage(lambda rng: number(judged(count, size, RIGHT, rng)), truth, times)
    few_errors = size > 1 and truth < 0.1
    assert 0.92 <= found <= (0.995 if few_errors else 0.98 if size > 1 else 0.97)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.5, 0.95])
@pytest.mark.parametrize("groups", [6, 12, 30, 100])
def test_shares_over_groups_cover_and_are_not_too_wide(groups: int, share: float) -> None:
    def draw(rng: Rng) -> Interval:
        own = rng.beta(share * 7 / 3, (1 - share) * 7 / 3, groups)
        names = np.repeat(np.arange(groups), 6)
        return share_interval(rng.random(len(names)) < own[names], groups=[str(name) for name in names])

    found = coverage(draw, share, 2000)
    assert 0.92 <= found <= (0.97 if groups == 100 else 0.98 if groups == 30 else 0.995)


def mixed(count: int, motion: float, scene: float, rng: Rng) -> Judged:
    """Mixtures that follow their motion and their scene with these weights, and noise of their own."""
    labels = np.arange(count) % CLASSES
    sharp = rng.uniform(2, 5, (count, 1))
    own = np.exp(sharp * np.eye(CLASSES)[labels] + rng.normal(0, 0.7, (count, CLASSES)))
    own /= own.sum(1, keepdims=True)
    lenders = (np.arange(count)[:, None] + rng.integers(1, CLASSES, (count, PARTS))) % count
    weights = rng.dirichlet((4 * motion, 4 * scene, 4 * (1 - motion - scene)), count)[:, None, :, None]
    noise = rng.dirichlet(np.full(CLASSES, 0.5), (count, PARTS))
    parts = weights[:, :, 0] * own[:, None] + weights[:, :, 1] * own[lenders] + weights[:, :, 2] * noise
    probabilities = {"clip": own[:, None].astype(np.float32), "background": parts.astype(np.float32)}
    return Judged(probabilities, np.arange(CLASSES), labels, {"background": lenders})


@pytest.mark.slow
@pytest.mark.parametrize(("motion", "scene"), [(0.6, 0.2), (0.2, 0.6)])
@pytest.mark.parametrize("count", [100, 500])
def test_scene_reliance_covers(count: int, motion: float, scene: float) -> None:
    truth = scene / (motion + scene)
    found = coverage(
        lambda rng: scene_reliance(mixed(count, motion, scene, rng)), truth, 400 if count == 100 else 200
    )
    assert 0.92 <= found <= 0.97


@pytest.mark.slow
@pytest.mark.xfail(reason="they cover in 97 to 99 of 100 tests: wider than they need to be")
@pytest.mark.parametrize("count", [100, 500])
def test_shares_of_dimensions_cover(count: int) -> None:
    """96 dimensions that go together in threes, with correlations anywhere from 0 to 0.95.

    The correlations are drawn anew each time: where many of them lie just above the threshold, the share
    itself is underestimated, and an interval about it covers less often. Elsewhere it covers more often, as
    drawn videos scatter about videos that scatter already.
    """

    def draw(rng: Rng) -> Interval:
        static, dynamic = rng.uniform(0, 0.95, (2, 32))
        own, noise, other = rng.normal(size=(3, count, 32))
        shuffled = static * own + np.sqrt(1 - static**2) * noise
        recoloured = dynamic * own + np.sqrt(1 - dynamic**2) * other
        wide = [np.repeat(one, 3, axis=1).astype(np.float32) for one in (own, shuffled, recoloured)]
        found = static_and_dynamic(*wide)["static"]
        truth = float(((static > 0.5) & (dynamic <= 0.5)).mean())
        return Interval(*(end - truth for end in found))

    assert 0.92 <= coverage(draw, 0, 300 if count == 100 else 150) <= 0.97


def test_a_share_of_dimensions_that_few_videos_underestimate_is_covered() -> None:
    """All dimensions are static; of 30 videos, some correlations are below the threshold by chance."""

    def draw(rng: Rng) -> Interval:
        static = rng.uniform(0.6, 0.95, 96)
        own, noise, other = rng.normal(size=(3, 30, 96)).astype(np.float32)
        shuffled = (static * own + np.sqrt(1 - static**2) * noise).astype(np.float32)
        found = static_and_dynamic(own, shuffled, other)["static"]
        assert found.low <= found.value <= found.high
        return found

    assert coverage(draw, 1.0, 25) >= 0.92


UNEQUAL: dict[str, list[int]] = {
    "one large": [200] + [2] * 19,
    "two large": [60, 40] + [5] * 18,
    "any": [13, 4, 65, 20, 12, 8, 11, 3, 10, 1, 17, 9, 8, 10, 4, 7, 2, 6, 33, 4, 5, 15, 14, 14, 8],
    "equal": [6] * 12,
}
"""Sizes of groups."""


@pytest.mark.parametrize("sizes", UNEQUAL)
@pytest.mark.parametrize(("share", "alike"), [(0.5, 0.3), (0.5, 0.9), (0.95, 0.3)])
def test_groups_of_unequal_size_are_covered(sizes: str, share: float, alike: float) -> None:
    """``alike``: the correlation of the hits within a group."""
    names = np.repeat(np.arange(len(UNEQUAL[sizes])), UNEQUAL[sizes])
    both = (1 - alike) / alike

    def draw(rng: Rng) -> Interval:
        own = rng.beta(share * both, (1 - share) * both, len(UNEQUAL[sizes]))
        return share_interval(rng.random(len(names)) < own[names], groups=[str(name) for name in names])

    assert coverage(draw, share, 400) >= 0.91


@pytest.mark.parametrize(
    ("sizes", "shares"),
    [
        ((28, 2), (0.5, 0.5)), ((28, 2), (0.9, 0.3)), ((28, 2), (0.95, 0.95)),
        ((50, 30, 5, 2, 2), (0.95, 0.9, 0.8, 0.7, 0.6)), ((90, 5, 5), (0.8, 0.5, 0.9)),
    ],
)  # fmt: skip
def test_classes_of_unequal_size_are_covered(sizes: tuple[int, ...], shares: tuple[float, ...]) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    right = np.array(shares)[labels]

    def draw(rng: Rng) -> Interval:
        return share_interval(rng.random(len(labels)) < right, labels=labels)

    assert coverage(draw, float(np.mean(shares)), 1000) >= 0.915


@pytest.mark.parametrize("sizes", [(6, 6, 6), (20, 4, 2, 2), (7,)])
def test_groups_that_are_each_of_one_class_are_covered(sizes: tuple[int, ...]) -> None:
    """As the clips of one video are in UCF101; groups of seven if each class has a single one."""
    classes = 10
    groups = np.repeat(np.arange(classes * len(sizes)), np.tile(sizes, classes))
    labels = groups // len(sizes)

    def draw(rng: Rng) -> Interval:
        own = rng.beta(0.7 * 7 / 3, 0.3 * 7 / 3, classes * len(sizes))
        hits = rng.random(len(groups)) < own[groups]
        return share_interval(hits, labels=labels, groups=[str(group) for group in groups])

    assert coverage(draw, 0.7, 300) >= 0.91


@pytest.mark.parametrize(
    ("count", "scene"),
    [
        (30, 0.008),
        (30, 0.016),
        *(pytest.param(200, share, marks=pytest.mark.slow) for share in (0.008, 0.016)),
    ],
)
def test_a_scene_reliance_near_zero_is_covered(count: int, scene: float) -> None:
    """Few mixtures go by the scene, so few videos may show none that does."""
    truth = scene / (0.8 + scene)
    found = coverage(
        lambda rng: scene_reliance(mixed(count, 0.8, scene, rng)), truth, 50 if count < 50 else 150
    )
    assert found >= 0.92


@pytest.mark.parametrize("often", [0.02, 0.1])
def test_remains_of_few_actors_are_covered(often: float) -> None:
    """What is left of the actor: nothing in most videos, so that few may show none."""

    def draw(rng: Rng) -> Interval:
        return share_interval(np.where(rng.random(40) < often, rng.uniform(0.2, 0.8, 40), 0.0))

    assert coverage(draw, often / 2, 1000) >= 0.92


@pytest.mark.parametrize("size", [1, 6])
def test_opposites_are_covered(size: int) -> None:
    """Pairs of classes; the right one of two is the more probable in seven of ten videos."""
    pairs = [(label, label + 1) for label in range(0, CLASSES, 2)]

    def draw(rng: Rng) -> Interval | None:
        count = 60 if size > 1 else 40
        easy, groups = grouped(count, size, 0.15, rng)
        labels = np.arange(count) % CLASSES
        says = np.where(rng.random(count) < 0.7 + easy, labels, labels ^ 1)
        probabilities = np.eye(CLASSES, dtype=np.float32)[says][:, None]
        return within_pairs(Judged({"clip": probabilities}, np.arange(CLASSES), labels, {}, groups), pairs)

    assert 0.92 <= coverage(draw, 0.7, 200) <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("measure", ["arrow of time", "place probe", "nearest place", "probe accuracy"])
def test_probes_of_features_are_covered(measure: str) -> None:
    """The truth is the mean over many tests of the same size, as a probe learns from the videos tested.

    Two places that look alike miss each other's videos together, which no interval over places sees: that of
    the nearest video's place is known to be too narrow.
    """
    count, dims = 100, 4

    def draw(rng: Rng) -> Interval | None:
        noise = rng.normal(size=(2, count, dims)).astype(np.float32)
        labels = np.arange(count) % 4
        if measure == "arrow of time":
            noise[0, :, 0] += 1.0
            return arrow_of_time(noise[0], noise[1])
        if measure == "probe accuracy":
            features = noise[0] + 1.2 * np.eye(4, dims, dtype=np.float32)[labels]
            return probe_accuracy(Judged({}, np.arange(4), labels), features)
        of = np.arange(count) // 5
        looks = rng.normal(0, 1.5, (count // 5, dims)).astype(np.float32)
        found = places(noise[0] + looks[of], [str(place) for place in of])
        return found["place_probe" if measure == "place probe" else "place_neighbour"]

    rng = np.random.default_rng(1)
    drawn = [draw(rng) for _ in range(150)]
    truth = float(np.mean([one.value for one in drawn if one is not None]))
    assert coverage(draw, truth, 150) >= (0.85 if measure == "nearest place" else 0.92)
