"""The field's measures on predictions and features that are made up, against slow counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dsm.data.classes import write_opposites
from dsm.errors import UserError
from dsm.evaluate.bias import Judged
from dsm.evaluate.field_measures import (
    contrasted_accuracy,
    field_measures,
    preferred_to_the_lender,
    probe_accuracy,
    ratio_to_whole,
    skill_kept,
    taken_for_the_lender,
    within_pairs,
)
from dsm.evaluate.opposites import opposites_by_name, read_opposites
from dsm.evaluate.unlabelled import DIMENSIONS, arrow_of_time, places, static_and_dynamic
from dsm.evaluate.variants import VARIANTS
from dsm.runs.metrics import CUT_BY_MOTION
from dsm.synthetic.settings import WORLDS

CLASSES, COUNT, PARTS = 5, 200, 3
LABELS = np.arange(COUNT) % CLASSES


def judged(scene: float, groups: list[str] | None = None) -> Judged:
    """A classifier that goes by the scene in a share of the videos, otherwise by the motion.

    Without motion it guesses, unless it goes by the scene, which is the video's own or the lender's; without
    a scene it guesses, unless it goes by the motion.
    """
    rng = np.random.default_rng(0)
    by_scene = rng.random(COUNT) < scene
    lenders = {
        name: np.stack([
            rng.choice(np.flatnonzero((one == LABELS) if name == "same_scene" else (one != LABELS)), parts)
            for one in LABELS
        ])
        for name, parts in (
            ("background", PARTS), ("same_scene", 1), ("near_scene", 1), ("far_scene", 1),
            ("stripes_actor", 1),
        )
    }  # fmt: skip
    guess = rng.integers(0, CLASSES, (COUNT, PARTS))
    predicted = {}
    for name in VARIANTS:
        still = name in ("static", "no_foreground") or name.endswith("_frozen")
        lent = lenders.get(name.removesuffix("_frozen"))
        scenes = LABELS[lent] if lent is not None else LABELS[:, None]
        parts = scenes.shape[1]
        no_scene = name in ("flat", "appearance_free") or (name.startswith("stripes") and lent is None)
        seen = guess[:, :parts] if no_scene else scenes
        moved = guess[:, :parts] if still else LABELS[:, None] + np.zeros_like(seen)
        predicted[name] = np.where(by_scene[:, None], seen, moved)
    return Judged(
        {name: np.eye(CLASSES, dtype=np.float32)[each] for name, each in predicted.items()},
        np.arange(CLASSES), LABELS, lenders, groups,
    )  # fmt: skip


def test_the_measures_are_what_counting_gives() -> None:
    one = judged(0.4)
    right, still, lured = [], [], []
    for video in range(COUNT):
        for part in range(PARTS):
            says = [
                one.probabilities[name][video, part].argmax() for name in ("background", "background_frozen")
            ]
            right.append(says[0] == LABELS[video] and says[1] != LABELS[video])
            still.append(says[1] == LABELS[video])
            lured.append(says[0] == LABELS[one.partners["background"][video, part]])
    assert contrasted_accuracy(one, "background").value == pytest.approx(np.mean(right))
    assert taken_for_the_lender(one, "background").value == pytest.approx(np.mean(lured))
    clip, flat = (np.mean(one.hits(name)) for name in ("clip", "flat"))
    preferred = []
    for video in range(COUNT):
        answer = one.probabilities["stripes_actor"][video, 0]
        own, theirs = (
            answer[label] for label in (LABELS[video], LABELS[one.partners["stripes_actor"][video, 0]])
        )
        preferred.append(0.5 if own == theirs else float(own > theirs))
    assert preferred_to_the_lender(one, "stripes_actor").value == pytest.approx(np.mean(preferred))
    assert ratio_to_whole(one, "flat").value == pytest.approx(flat / clip)
    assert skill_kept(one, "flat").value == pytest.approx((flat - 0.2) / (clip - 0.2))


def test_the_measures_rise_or_fall_with_the_weight_of_the_scene_and_have_the_expected_ends() -> None:
    table = [field_measures(judged(share), masked=True, pairs=[(0, 1)]) for share in (0, 0.25, 0.5, 0.75, 1)]
    rising = ("conflfg_error", "hat_background_only_ratio", "hat_scene_error_random", "hat_scene_error_far")
    falling = (
        "contrasted_scenes", "contrasted_stripes", "conflfg_motion_preferred", "hat_human_only_ratio",
        "hat_swap_random_ratio",
        "hat_swap_near_ratio", "appearance_free_skill",
    )  # fmt: skip
    for name in (*rising, *falling):
        values = [found[name].value for found in table]
        assert values == sorted(values, reverse=name in falling), name
        assert all(found[name].low <= found[name].value <= found[name].high for found in table), name
    first, last = table[0], table[-1]
    # A frozen frame is guessed right one time in five, and such a hit does not count as seen in the motion.
    assert first["contrasted_scenes"].value == pytest.approx(0.8, abs=0.05)
    assert last["contrasted_scenes"].value == 0
    assert last["hat_scene_error_random"].value == last["conflfg_error"].value == 1
    assert first["hat_scene_error_random"].value == first["conflfg_error"].value == 0
    assert [found["hat_swap_same_ratio"].value for found in table] == [1] * 5
    assert first["appearance_free_skill"].value == 1
    assert last["appearance_free_skill"].value == pytest.approx(0, abs=0.1)


def test_without_masks_the_names_say_so() -> None:
    known, cut = (set(field_measures(judged(0.5), masked=masked, pairs=[])) for masked in (True, False))
    assert {name.removesuffix(CUT_BY_MOTION) for name in cut} == known
    assert cut & known == {"appearance_free_skill"}


def test_a_probe_learns_from_clips_without_appearance() -> None:
    one = judged(0)
    noise = np.random.default_rng(4).normal(size=(COUNT, 8)).astype(np.float32)
    held = np.concatenate([noise, 4 * np.eye(CLASSES, dtype=np.float32)[LABELS]], 1)
    assert probe_accuracy(one, held).value == 1
    assert probe_accuracy(one, noise).value == pytest.approx(1 / CLASSES, abs=0.1)
    places = [str(place // 20) for place in range(COUNT)]
    assert probe_accuracy(judged(0, places), held).value == 1
    of_class = [str(label) for label in LABELS]  # no fold could train on the class that it tests
    assert probe_accuracy(judged(0, of_class), held) is None


def test_opposites_compare_the_two_only() -> None:
    labels = np.array([0, 1, 2, 0])
    probabilities = np.float32([[0.2, 0.1, 0.7], [0.3, 0.2, 0.5], [0.1, 0.1, 0.8], [0.3, 0.3, 0.4]])[:, None]
    one = Judged({"clip": probabilities}, np.arange(3), labels)
    # Class 0: right, and a tie; class 1: wrong; class 2 has no opposite.
    assert within_pairs(one, [(1, 0)]).value == pytest.approx((0.75 + 0) / 2)
    assert within_pairs(one, [(2, 7)]) is None
    several = within_pairs(one, [(0, 1), (0, 2)]), within_pairs(one, [(0, 2), (0, 1)])
    assert several[0] == several[1], "a class may have several opposites"
    # Where every class has its own place, the place tells opposites apart, unless it is exchanged.
    by_scene = judged(1)
    assert within_pairs(by_scene, [(0, 1), (2, 3)]).value == 1
    assert within_pairs(by_scene, [(0, 1), (2, 3)], "background").value < 0.5
    assert within_pairs(judged(0), [(0, 1), (2, 3)], "background").value == 1
    assert within_pairs(one, []) is None


def test_opposites_are_found_by_name(tmp_path: Path) -> None:
    names = [
        "SwipeLeft", "swipe right", "Opening a door", "closing_a_door", "walk", "walk-backwards", "left hook",
    ]  # fmt: skip
    assert opposites_by_name(names) == [(0, 1), (2, 3), (4, 5)]
    known = {"scenes": 4, "dots": 3, "walkers": 3, "drone": 3}
    for world, count in known.items():
        pairs = opposites_by_name(WORLDS[world].motions)
        assert len(pairs) == count, world
    names = list(WORLDS["walkers"].motions)
    same_video = ("from left to right", "from right to left", "from up to right")
    assert opposites_by_name([f"Pushing something {one}" for one in same_video]) == [(0, 1)]
    for one, two in (
        ("turn on light", "TurnOffLight"), ("sit", "stand"), ("Standing up", "sitting down"),
        ("moving closer to it", "moving away from it"), ("pouring into a cup", "pouring out of a cup"),
    ):  # fmt: skip
        assert opposites_by_name([one, two]) == [(0, 1)], (one, two)
    for one, two in (
        ("push-up", "pull-up"), ("PushUps", "PullUps"), ("leaving house", "approaching house"),
        ("Pushing it from left to right", "Pulling it from left to right"),
    ):  # fmt: skip
        assert opposites_by_name([one, two]) == [], (one, two)
    file = tmp_path / "pairs.txt"
    file.write_text("walk, walk-backwards\n\nkick\tbow\n")
    assert read_opposites(file, names) == [(0, 1), (names.index("kick"), names.index("bow"))]
    written = write_opposites(tmp_path, [("put, left", "put, right")])
    assert read_opposites(written, ["put, left", "put, right"]) == [(0, 1)]
    for text, match in (("walk\n", "two class names"), ("walk,wolk", "no class is named 'wolk'")):
        file.write_text(text)
        with pytest.raises(UserError, match=match):
            read_opposites(file, names)
    with pytest.raises(UserError, match="no such file of opposites"):
        read_opposites(tmp_path / "none.txt", names)


def test_dimensions_are_static_dynamic_both_or_neither() -> None:
    rng = np.random.default_rng(1)
    scene, motion, noise = rng.normal(size=(3, 60, 40)).astype(np.float32)
    again, other, last = rng.normal(size=(3, 60, 40)).astype(np.float32)
    empty = np.ones((60, 40), np.float32)
    clips = np.concatenate([scene, motion, scene, noise, empty], 1)
    shuffled = np.concatenate([scene, again, scene, other, empty], 1)
    recoloured = np.concatenate([last, motion, scene, again, empty], 1)
    found = static_and_dynamic(clips, shuffled, recoloured)
    assert [found[name].value for name in DIMENSIONS] == [0.2, 0.2, 0.2, 0.4]
    assert all(found[name].low <= found[name].value <= found[name].high for name in DIMENSIONS)
    # All dimensions are static, but few videos make some seem neither: no draw of videos reaches the value.
    weak = (0.9 * scene + 1.2 * noise)[:15]
    few = static_and_dynamic(scene[:15], weak, other[:15])
    assert all(few[name].low <= few[name].value <= few[name].high for name in DIMENSIONS)
    assert static_and_dynamic(clips[:9], shuffled[:9], recoloured[:9]) == {}


def test_the_arrow_of_time_is_found_if_it_is_there() -> None:
    rng = np.random.default_rng(2)
    content, way = rng.normal(size=(80, 6)), rng.normal(2, 0.3, size=(80, 1))
    forwards = np.concatenate([content, way], 1).astype(np.float32)
    backwards = np.concatenate([content, -way], 1).astype(np.float32)
    assert arrow_of_time(forwards, backwards).value == 1
    blind = arrow_of_time(forwards, forwards + rng.normal(0, 1e-3, forwards.shape).astype(np.float32))
    assert blind.low < 0.5 < blind.high
    assert arrow_of_time(forwards, backwards, ["all"] * 80) is None
    assert arrow_of_time(forwards[:5], backwards[:5]) is None


def test_classes_that_are_each_others_reverse_leave_the_arrow_of_time_at_chance() -> None:
    """In the order of the list, a whole class would fall into one fold, and the probe would miss it."""
    rng = np.random.default_rng(3)
    labels = np.arange(150) % 10
    way = np.eye(10)[labels] + rng.normal(0, 0.1, (150, 10))
    back = np.eye(10)[labels ^ 1] + rng.normal(0, 0.1, (150, 10))
    for known in (labels, None):
        found = arrow_of_time(way.astype(np.float32), back.astype(np.float32), labels=known)
        assert found is not None
        assert abs(found.value - 0.5) < (0.06 if known is not None else 0.2)


def test_places_are_read_from_features_that_hold_them() -> None:
    rng = np.random.default_rng(3)
    names = np.repeat(np.arange(6), 12)
    groups = [f"camera{name}" for name in names]
    apart = np.eye(6)[names] * 5 + rng.normal(0, 0.5, (72, 6))
    found = places(apart.astype(np.float32), groups)
    assert found["place_probe"].value == found["place_neighbour"].value == 1
    mixed = places(rng.normal(size=(72, 6)).astype(np.float32), groups)
    for name in ("place_probe", "place_neighbour"):
        assert mixed[name].value == pytest.approx(mixed[f"{name}_chance"].value, abs=0.12)
    assert mixed["place_neighbour_chance"].value == pytest.approx(11 / 71)
    assert places(apart.astype(np.float32), [str(place) for place in range(72)]) == {}
