"""The numbers of a bias report: classifiers made to rely on the scene or not, and slow references."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dsm.data.lists import VideoList, read_list, write_list
from dsm.data.settings import ClipConfig
from dsm.evaluate.bias import (
    SKILLS,
    Judged,
    accuracy,
    class_shares,
    four_numbers,
    scene_reliance,
    skill_lost,
    skilled,
)
from dsm.evaluate.variant_features import features_of_variants
from dsm.evaluate.variants import FOUR_NUMBERS, VARIANTS
from dsm.intervals import Interval, share_interval
from dsm.pages.bias import fitted_line, rows_of
from dsm.pages.figures import Box, place_labels
from dsm.render import MEAN, STD
from dsm.video.write import write_video

SIDE = 32
SCENE_COLOURS = np.array([[60, 60, 130], [130, 60, 60], [60, 130, 60], [120, 120, 40]])
DIRECTIONS = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
"""Direction (x, y) per class; each is the reverse of another."""


def moving_square(label: int, scene: int, rng: np.random.Generator, frames: int = 24) -> np.ndarray:
    """A white square that moves in one of four directions on a plain scene: uint8 (T, S, S, 3)."""
    video = np.empty((frames, SIDE, SIDE, 3), np.uint8)
    video[:] = SCENE_COLOURS[scene] + rng.integers(-8, 9, 3)
    for number in range(frames):
        x, y = 13 + DIRECTIONS[label] * (number - frames // 2) * 0.9 + rng.integers(-1, 2, 2) * (number == 0)
        video[number, round(y) : round(y) + 6, round(x) : round(x) + 6] = 245
    return video


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four motions, each on its own scene (``tied.txt``) and on another's (``crossed.txt``)."""
    out = tmp_path_factory.mktemp("squares")
    rng = np.random.default_rng(0)
    for name, shift in (("tied", 0), ("crossed", 1)):
        labels = np.arange(24) % 4
        paths = [f"{name}/{index:02d}.mp4" for index in range(len(labels))]
        for path, label in zip(paths, labels, strict=True):
            write_video(out / path, moving_square(label, (label + shift) % 4, rng))
        write_list(out / f"{name}.txt", VideoList(paths, labels, np.full(24, 24), out))
    return out


SQUARE_CLIP = ClipConfig(frames=8, stride=3, resize=SIDE, size=SIDE)


class Made(nn.Module):
    """A rule-based classifier; its parameter only defines the device."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(1))

    def forward(self, clip: Tensor) -> Tensor:
        return self.logits(clip * STD + MEAN).softmax(1)

    def logits(self, clip: Tensor) -> Tensor:
        raise NotImplementedError


class MeanColour(Made):
    """Predicts the class whose scene is nearest to the mean colour."""

    def logits(self, clip: Tensor) -> Tensor:
        # The square takes a 28th of the picture, and its white is known.
        colour = (clip.mean((2, 3, 4)) - 36 / SIDE**2) / (1 - 36 / SIDE**2)
        return -40 * torch.cdist(colour, torch.from_numpy(SCENE_COLOURS).float() / 255)


class SquaresWay(Made):
    """Predicts the direction in which the white area moves."""

    def logits(self, clip: Tensor) -> Tensor:
        white = (clip.amin(1) > 0.75).float()
        amount = white.sum((2, 3)).clamp(min=1)
        line = torch.arange(SIDE).float()
        x = (white.sum(2) * line).sum(2) / amount
        y = (white.sum(3) * line).sum(2) / amount
        way = torch.stack([x[:, -1] - x[:, 0], y[:, -1] - y[:, 0]], dim=1)
        return 5 * way @ torch.from_numpy(DIRECTIONS).float().T


def judge(classifiers: list[nn.Module], videos: VideoList, **changes: Any) -> list[Judged]:
    found = features_of_variants(classifiers, videos, SQUARE_CLIP, FOUR_NUMBERS, workers=0, **changes)
    return [Judged(one, np.arange(4), videos.labels, found.partners) for one in found.features]


def test_scene_reliance_is_one_for_a_scene_classifier_and_zero_for_a_motion_classifier(squares: Path) -> None:
    for name in ("tied", "crossed"):  # the measure uses no labels
        by_colour, by_motion = judge([MeanColour(), SquaresWay()], read_list(squares / f"{name}.txt"))
        assert scene_reliance(by_colour).value == pytest.approx(1, abs=0.02)
        assert scene_reliance(by_motion).value == pytest.approx(0, abs=0.02)
    by_colour, by_motion = judge([MeanColour(), SquaresWay()], read_list(squares / "tied.txt"))
    numbers = four_numbers(by_colour)
    assert [numbers[name].value for name in SKILLS] == [0, 0, 0]
    assert accuracy(by_colour, "no_foreground").value == 1
    assert accuracy(by_colour, "background").value == 0
    numbers = four_numbers(by_motion)
    assert accuracy(by_motion, "clip").value == accuracy(by_motion, "background").value == 1
    assert accuracy(by_motion, "stripes").value > 0.8
    assert numbers["motion_gain"].value == 1
    assert numbers["direction_sensitivity"].value == pytest.approx(1 / 0.75)  # always the opposite way
    assert 0.3 < numbers["order_sensitivity"].value < 1.4


def test_scene_reliance_rises_with_the_weight_of_the_scene(squares: Path) -> None:
    class Mixed(Made):
        def __init__(self, share: float) -> None:
            super().__init__()
            self.share, self.parts = share, (MeanColour(), SquaresWay())

        def forward(self, clip: Tensor) -> Tensor:
            return self.share * self.parts[0](clip) + (1 - self.share) * self.parts[1](clip)

    shares = [0.0, 0.25, 0.5, 0.75, 1.0]
    found = judge([Mixed(share) for share in shares], read_list(squares / "tied.txt"))
    assert [scene_reliance(one).value for one in found] == pytest.approx(shares, abs=0.05)


def certain(labels: np.ndarray, classes: int) -> np.ndarray:
    return np.eye(classes, dtype=np.float32)[labels][:, None]


def test_accuracy_weighs_classes_equally_and_chance_level_has_no_skill_to_lose() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    always = {name: certain(np.zeros(100, int), 2) for name in VARIANTS}
    judged = Judged(always, np.arange(2), labels, {"background": np.zeros((100, 1), int)})
    assert accuracy(judged, "clip").value == judged.chance == 0.5
    assert list(four_numbers(judged).values()) == [None] * 4


def test_chance_counts_only_the_tested_classes() -> None:
    """Two of the ten known classes are in the test, so a constant answer is right for half."""
    labels = np.repeat([3, 7], 20)
    always = {name: certain(np.full(40, 3), 10) for name in VARIANTS}
    judged = Judged(always, np.arange(10), labels)
    assert judged.chance == 0.5
    assert not skilled(judged)


def test_with_a_single_group_the_accuracy_itself_decides_about_skill() -> None:
    labels = np.repeat([0, 1], 20)
    right = {name: certain(labels, 2) for name in VARIANTS}
    judged = Judged(right, np.arange(2), labels, groups=["all"] * 40)
    assert skilled(judged)
    assert accuracy(judged, "clip").value == 1


def test_the_lost_skill_follows_its_formula() -> None:
    labels = np.repeat(np.arange(4), 20)
    wrong = (labels + 1) % 4
    half = np.where(np.arange(80) % 2, labels, wrong)
    probabilities = {"clip": certain(labels, 4), "static": certain(half, 4), "reversed": certain(wrong, 4)}
    judged = Judged(probabilities, np.arange(4), labels)
    found = skill_lost(judged, "static")
    assert found.value == pytest.approx((1 - 0.5) / (1 - 0.25))
    assert found.low < found.value < found.high
    assert skill_lost(judged, "reversed").value == pytest.approx(1 / 0.75)


def test_scene_reliance_is_least_squares_over_all_mixtures() -> None:
    rng = np.random.default_rng(4)
    own = rng.dirichlet(np.ones(5), 60).astype(np.float32)
    others = rng.integers(0, 60, (60, 3))
    mixed = 0.3 * own[:, None] + 0.5 * own[others] + 0.2 * rng.dirichlet(np.ones(5) / 2, (60, 3))
    judged = Judged(
        {"clip": own[:, None], "background": mixed.astype(np.float32)},
        np.arange(5), rng.integers(0, 5, 60), {"background": others},
    )  # fmt: skip
    # Each class is centred on its mean: one column of ones per class.
    rows = [
        (*np.eye(5)[k], own[i, k], own[others[i, part], k], mixed[i, part, k])
        for i in range(60) for part in range(3) for k in range(5)
    ]  # fmt: skip
    table = np.array(rows)
    *_, m, s = np.linalg.lstsq(table[:, :-1], table[:, -1], rcond=None)[0]
    found = scene_reliance(judged)
    assert found.value == pytest.approx(s / (m + s), rel=1e-4)
    assert found.low < 5 / 8 < found.high


@pytest.mark.parametrize("confidence", [1.0, 1e-2, 1e-3])
def test_scene_reliance_does_not_depend_on_confidence(confidence: float) -> None:
    rng = np.random.default_rng(7)
    own = rng.dirichlet(np.ones(4), 40)
    others = (np.arange(40)[:, None] + [1, 2]) % 40
    mixed = 0.6 * own[:, None] + 0.3 * own[others] + 0.1 * rng.dirichlet(np.ones(4), (40, 2))
    squeezed = [(0.25 + confidence * (one - 0.25)).astype(np.float32) for one in (own[:, None], mixed)]
    given = dict(zip(("clip", "background"), squeezed, strict=True))
    found = scene_reliance(Judged(given, np.arange(4), np.arange(40) % 4, {"background": others}))
    assert found is not None
    assert found.value == pytest.approx(1 / 3, abs=0.03)
    assert found.high - found.low < 0.15


@pytest.mark.parametrize("groups", [None, [str(place // 4) for place in range(40)]])
def test_a_classifier_that_never_goes_by_the_scene_may_do_so_in_videos_that_were_not_drawn(
    groups: list[str] | None,
) -> None:
    own = np.eye(4, dtype=np.float32)[np.arange(40) % 4][:, None]
    others = (np.arange(40)[:, None] + [1, 2]) % 40
    by_motion, by_scene = own.repeat(2, 1), own[others][:, :, 0]
    labels = np.arange(40) % 4
    ends = []
    for mixed in (by_motion, by_scene):
        given = {"clip": own, "background": mixed}
        found = scene_reliance(Judged(given, np.arange(4), labels, {"background": others}, groups))
        assert found is not None
        ends.append(found)
    count = 40 if groups is None else 10
    most = share_interval(np.zeros(count), groups=None if groups is None else list(map(str, range(count))))
    assert ends[0] == (0, 0, pytest.approx(most.high))
    assert ends[1] == (1, pytest.approx(1 - most.high), 1)


def test_constant_mixtures_have_no_scene_reliance() -> None:
    own = np.random.default_rng(5).dirichlet(np.ones(3), 30).astype(np.float32)[:, None]
    odd = np.broadcast_to(np.float32([0.2, 0.7, 0.1]), (30, 2, 3))
    others = (np.arange(30)[:, None] + [1, 2]) % 30
    assert (
        scene_reliance(
            Judged({"clip": own, "background": odd}, np.arange(3), np.arange(30) % 3, {"background": others})
        )
        is None
    )


def test_a_row_counts_the_videos_that_it_used() -> None:
    labels = np.repeat([0, 1], 20)
    right = {name: certain(labels, 2) for name in ("clip", "static", "shuffled", "reversed", "background")}
    judged = Judged(right, np.arange(2), labels, {"background": (np.arange(40)[:, None] + 20) % 40})
    rows = rows_of(
        {"a": judged}, test="t", seeds={"a": 0}, measures={"a": {"actor_left": Interval(0.1)}},
        counts={"a": {"actor_left": 7}},
    )  # fmt: skip
    assert {row.metric: row.n for row in rows}["actor_left"] == 7
    assert {row.n for row in rows if row.metric != "actor_left"} == {40}


def test_a_class_that_single_frames_never_recognise_has_a_finite_gain() -> None:
    labels = np.array([0, 0, 1, 1])
    probabilities = {"clip": certain(labels, 2), "static": certain(np.array([1, 1, 1, 0]), 2)}
    first, second = class_shares(Judged(probabilities, np.arange(2), labels))
    assert (first.accuracy["static"], first.gain) == (0, pytest.approx(2.5 / 0.5 - 1))
    assert (second.accuracy["static"], second.gain) == (0.5, pytest.approx(2.5 / 1.5 - 1))


def test_the_confidence_band_follows_the_textbook() -> None:
    rng = np.random.default_rng(6)
    x = rng.random(17) * 100
    y = 3 - 0.02 * x + rng.normal(0, 0.4, 17)
    # The same by matrices: var(line at x0) = s² x0' (X'X)^-1 x0.
    design = np.column_stack([np.ones(17), x])
    residuals = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    at = np.array([0.0, 30.0, 140.0])
    places = np.column_stack([np.ones(3), at])
    variance = (
        residuals
        @ residuals
        / 15
        * np.einsum("ij,jk,ik->i", places, np.linalg.inv(design.T @ design), places)
    )
    middle, half = fitted_line(x, y, at)
    np.testing.assert_allclose(middle, places @ np.linalg.lstsq(design, y, rcond=None)[0])
    np.testing.assert_allclose(half, 2.131449546 * np.sqrt(variance), rtol=1e-6)


def overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


@pytest.mark.parametrize("count", [10, 101])
def test_labels_overlap_neither_labels_nor_points(count: int) -> None:
    rng = np.random.default_rng(count)
    points = rng.random((count, 2)) * [600, 450]
    points[: count // 5] = points[0]  # several classes at the same point
    sizes = np.column_stack([rng.uniform(20, 100, count), np.full(count, 10.0)])
    boxes = place_labels(points, sizes, (0, 0, 700, 500), 6)
    placed = [box for box in boxes if box is not None]
    assert len(placed) >= 0.9 * count
    for at, box in enumerate(placed):
        assert min(box) >= 0
        assert box[2] <= 700
        assert box[3] <= 500
        assert not any(overlap(box, other) for other in placed[:at])
        assert not any(overlap(box, (x - 1, y - 1, x + 1, y + 1)) for x, y in points)


@pytest.mark.parametrize(("count", "classes"), [(30, 5), (100, 10), (500, 10)])
def test_the_interval_of_a_share_of_the_skill_covers_by_simulation(count: int, classes: int) -> None:
    """A single frame is right for 10 in 19 of the videos that the whole clip is right for."""
    rng = np.random.default_rng(count)
    labels = np.arange(count) % classes
    whole, left, covered, draws = 0.95, 0.5, 0, 300 if count < 500 else 150
    truth = (whole - left) / (whole - 1 / classes)
    for _ in range(draws):
        clip = rng.random(count) < whole
        static = clip & (rng.random(count) < left / whole)
        of = {
            name: np.eye(classes)[np.where(hits, labels, (labels + 1) % classes)][:, None]
            for name, hits in (("clip", clip), ("static", static))
        }
        found = skill_lost(Judged(of, np.arange(classes), labels), "static")
        covered += found.low <= truth <= found.high
    assert 0.92 * draws <= covered <= 0.97 * draws


def test_the_interval_of_scene_reliance_covers_by_simulation() -> None:
    """Mixtures go by the scene to a half, and are noisy."""
    count, draws, covered = 30, 150, 0
    rng = np.random.default_rng(count)
    labels = np.arange(count) % 4
    for _ in range(draws):
        own = np.exp(rng.normal(size=(count, 4)) + 2 * np.eye(4)[labels])
        own /= own.sum(1, keepdims=True)
        others = np.stack([rng.choice(np.flatnonzero(labels != one), 3, replace=False) for one in labels])
        mixed = (own[:, None] + own[others]) / 2 * np.exp(0.6 * rng.normal(size=(count, 3, 4)))
        mixed /= mixed.sum(-1, keepdims=True)
        judged = Judged(
            {"clip": own[:, None], "background": mixed}, np.arange(4), labels, {"background": others}
        )
        found = scene_reliance(judged)
        assert found is not None
        covered += found.low <= 0.5 <= found.high
    assert 0.92 * draws <= covered <= 0.97 * draws
