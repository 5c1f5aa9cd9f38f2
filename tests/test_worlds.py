"""Every world of MotionScenes can be learned by its motions, and `scenes` is unchanged."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dsm.errors import UserError
from dsm.synthetic import dots, drone, walkers
from dsm.synthetic.motions import MOTIONS
from dsm.synthetic.motionscenes import (
    MARKER,
    VideoPlan,
    holds_others,
    motion_names,
    plan_split,
    render,
    write_motionscenes,
)
from dsm.synthetic.settings import WORLDS, MotionScenesConfig, with_overrides
from dsm.synthetic.world import Shot

NEW = [name for name in WORLDS if name != "scenes"]
TINY = MotionScenesConfig(motions=2, train=2, test=2, size=32, frames=4)
DEMO = MotionScenesConfig()
FIRST_PLANS = [(0, "rings"), (1, "room"), (2, "stripes"), (3, "dots")]
FIRST_BLOCKS = np.array([
    [101, 141, 104], [99, 144, 107], [94, 150, 103], [101, 141, 104], [94, 149, 102], [87, 144, 90],
    [101, 142, 106], [101, 143, 107], [101, 143, 107], [102, 143, 106], [98, 150, 107], [96, 151, 104],
    [102, 143, 105], [93, 151, 101], [92, 142, 94], [102, 145, 109], [102, 144, 107], [102, 144, 107],
])  # fmt: skip
"""Mean colours of nine blocks of two frames of the first video, from before there were other worlds."""


def shot(motion: str, family: str, **changes: object) -> Shot:
    """The demo's settings for a world."""
    whole = Shot(motion, family, DEMO.frames, DEMO.size, DEMO.radius, DEMO.contrast, DEMO.shake)
    return replace(whole, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("world", NEW)
def test_every_motion_and_every_family_can_be_drawn_and_moves(world: str) -> None:
    config = MotionScenesConfig(world=world, size=32, frames=12)  # type: ignore[arg-type]
    there = WORLDS[config.world]
    families = there.training_families + there.free_families
    for place, family in enumerate(families):
        plan = VideoPlan("train", place, place % config.motions, family)
        frames = render(config, plan)
        assert frames.shape == (12, 32, 32, 3)
        assert frames.dtype == np.uint8
        assert np.abs(np.diff(frames.astype(int), axis=0)).max() > 40
        assert np.array_equal(frames, render(config, plan))
    assert not np.array_equal(frames, render(replace(config, seed=1), plan))


@pytest.mark.parametrize("world", WORLDS)
def test_conflict_avoids_a_motions_own_family_and_free_avoids_training_families(world: str) -> None:
    config = MotionScenesConfig(world=world, test=300, scene_correlation=1.0)  # type: ignore[arg-type]
    own = {plan.motion: plan.family for plan in plan_split(config, "train")}
    assert len(set(own.values())) == len(own) == config.motions
    assert all(own[plan.motion] != plan.family for plan in plan_split(config, "test_conflict"))
    free = {plan.family for plan in plan_split(config, "test_free")}
    assert free == set(WORLDS[config.world].free_families)
    assert not free & set(own.values())


def test_worlds_have_separate_families_and_names() -> None:
    families = [f for world in WORLDS.values() for f in world.training_families + world.free_families]
    assert "walk-backwards" in motion_names(MotionScenesConfig(world="walkers"))
    assert motion_names(MotionScenesConfig()) == list(MOTIONS)[:10]
    for world in WORLDS.values():
        assert len(world.training_families) >= 10
        assert len(world.free_families) == 5
    assert len(set(families)) >= len(families) - 3  # dots, bricks and the like may be named twice


def test_the_scenes_world_is_unchanged() -> None:
    config = MotionScenesConfig()
    first = [(plan.motion, plan.family) for plan in plan_split(config, "train")[:4]]
    assert first == FIRST_PLANS
    frames = render(config, plan_split(config, "train")[0])[[0, 20]]
    blocks = frames.reshape(2, 3, 24, 3, 24, 3).mean((2, 4))
    assert np.allclose(blocks.reshape(-1, 3), FIRST_BLOCKS, atol=0.6)


def test_a_folder_from_before_worlds_is_recognised(tmp_path: Path) -> None:
    write_motionscenes(TINY, tmp_path, workers=1)
    assert "world" not in json.loads((tmp_path / MARKER).read_text())
    assert not holds_others(tmp_path, TINY)
    dots = replace(TINY, world="dots")
    assert holds_others(tmp_path, dots)
    with pytest.raises(UserError, match="other settings"):
        write_motionscenes(dots, tmp_path)


def test_a_folder_records_its_world(tmp_path: Path) -> None:
    config = replace(TINY, world="walkers")
    write_motionscenes(config, tmp_path, workers=1)
    assert json.loads((tmp_path / MARKER).read_text())["world"] == "walkers"
    assert (tmp_path / "classes.txt").read_text().splitlines() == ["walk", "walk-backwards"]
    assert not holds_others(tmp_path, config)


def test_settings_that_a_world_lacks_are_refused() -> None:
    with pytest.raises(UserError, match="no bystanders"):
        MotionScenesConfig(world="dots", bystanders=1)
    with pytest.raises(UserError, match="2 to 10"):
        MotionScenesConfig(world="walkers", motions=11)
    with pytest.raises(UserError, match="preset full"):
        with_overrides("full", world="drone")
    with pytest.raises(UserError, match="one of scenes, dots"):
        MotionScenesConfig(world="moon")  # type: ignore[arg-type]


# --- dots -------------------------------------------------------------------------------


def cast(motion: str, family: str, seed: int, **changes: object) -> dots.Cast:
    kind = dots.FAMILIES[family]
    return dots.place_dots(shot(motion, family, **changes), kind, kind.radius, np.random.default_rng(seed))


@pytest.mark.parametrize("motion", ["figure-eight", "spin-clockwise", "pulse"])
def test_dots_have_the_same_density_inside_and_outside_the_actor(motion: str) -> None:
    own = covered = 0
    small, large = [], []
    for seed in range(300):
        placed = cast(motion, list(dots.FAMILIES)[seed % 15], seed, frames=8)
        shown = placed.shown & (np.abs(placed.x) < 0.5) & (np.abs(placed.y) < 0.5)
        hidden = ~placed.shown & (np.abs(placed.x) < 0.5) & (np.abs(placed.y) < 0.5)
        counts = shown[:, placed.actor].sum(1), hidden[:, ~placed.actor].sum(1)
        own, covered = own + counts[0].sum(), covered + counts[1].sum()
        order = counts[1].argsort()
        small.append([count[order[0]] for count in counts])
        large.append([count[order[-1]] for count in counts])
    # Dots under the actor were as dense as in the rest of the scene.
    assert own / covered == pytest.approx(1, abs=0.06)
    if motion == "pulse":  # at every size
        for sums in (np.sum(small, 0), np.sum(large, 0)):
            assert sums[0] / sums[1] == pytest.approx(1, abs=0.12)


def test_the_actor_of_dots_shows_only_in_two_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dots, "REDRAWN", 0.0)
    loud: dict[bool, list[float]] = {True: [], False: []}
    moved: dict[bool, list[float]] = {True: [], False: []}
    place = dots.place_dots
    for seed, family in enumerate(dots.FAMILIES):
        kept: list[dots.Cast] = []
        monkeypatch.setattr(dots, "place_dots", lambda *a, k=kept: k.append(place(*a)) or k[0])
        clip = shot("circle-clockwise", family, shake=0.0, frames=4)
        frames = dots.render(clip, np.random.default_rng(seed)).astype(float)
        placed = kept[0]
        change = np.abs(frames[3] - frames[0]).mean(-1)  # as far apart as the frames of a clip
        from_ground = np.abs(frames - np.median(frames, (1, 2), keepdims=True)).mean(-1)
        row, column = (np.floor((part + 0.5) * 72).astype(int) for part in (placed.y, placed.x))
        within = placed.shown & (row >= 0) & (row < 72) & (column >= 0) & (column < 72)
        for is_actor in (True, False):
            some = within[0] & (placed.actor == is_actor)
            loud[is_actor].append(from_ground[0, row[0, some], column[0, some]].mean())
            moved[is_actor].append(change[row[0, some], column[0, some]].mean())
    assert np.mean(loud[True]) == pytest.approx(np.mean(loud[False]), rel=0.08)
    assert np.mean(moved[True]) > 3 * np.mean(moved[False])


# --- walkers ----------------------------------------------------------------------------


def joints(action: str, time: NDArray[np.float64]) -> NDArray[np.float64]:
    """All joint angles, shape (T, angles)."""
    pose = walkers.ACTIONS[action](time)
    return np.stack([np.zeros(len(time)) + getattr(pose, f.name) for f in fields(pose)], 1)


@pytest.mark.parametrize(
    ("action", "reverse"), [("walk", "walk-backwards"), ("arms-circle-up", "arms-circle-down")]
)
def test_a_reversed_action_is_its_counterpart(action: str, reverse: str) -> None:
    time = np.linspace(-1, 1, 49)
    assert np.allclose(joints(action, time)[::-1], joints(reverse, time))
    assert not np.allclose(joints(action, time), joints(reverse, time), atol=0.1)


def points(action: str, time: NDArray[np.float64], seed: int = 0) -> NDArray[np.float64]:
    """The end points of all parts of a figure, shape (T, parts, 2, 2)."""
    person = walkers.random_person(np.random.default_rng(seed))
    side = action in walkers.SIDEWAYS
    parts = walkers.figure(person, walkers.ACTIONS[action](time), len(time), side)
    return np.stack([np.stack([part.start, part.end], 1) for part in parts], 1)


def test_waving_left_mirrored_is_waving_right() -> None:
    time = np.linspace(0, 1, 24)
    left, right = points("wave-left", time), points("wave-right", time)
    mirrored = left * np.array([-1, 1])

    for one, other in zip(mirrored, right, strict=True):
        assert np.allclose(np.sort(one.reshape(-1, 2), 0), np.sort(other.reshape(-1, 2), 0), atol=1e-6)
    assert not np.allclose(np.sort(left[0].reshape(-1, 2), 0), np.sort(right[0].reshape(-1, 2), 0))


def test_figures_stand_on_the_ground_and_stay_connected() -> None:
    time = np.linspace(0, 1, 24)
    for action in walkers.ACTIONS:
        ends = points(action, time)
        lowest = ends[..., 1].max((1, 2))
        lift = np.zeros(24) + walkers.ACTIONS[action](time).lift
        assert np.abs(lowest + lift).max() < 0.12, action  # y points down; the ground is at 0
        lengths = np.linalg.norm(ends[:, :, 1] - ends[:, :, 0], axis=-1)
        limbs = [part for part in range(ends.shape[1]) if lengths[:, part].min() > 0.15]
        assert len(limbs) >= 8
        assert ends[..., 1].min() > -1.5


# --- drone ------------------------------------------------------------------------------


def shift(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """How far the other picture is shifted, in pixels (phase correlation)."""
    window = np.hanning(one.shape[0])[:, None] * np.hanning(one.shape[1])
    a, b = (np.fft.fft2((picture.mean(-1) - picture.mean()) * window) for picture in (one, other))
    peak = np.fft.ifft2(a * np.conj(b) / (np.abs(a * b) + 1e-6)).real
    place = np.array(np.unravel_index(peak.argmax(), peak.shape))
    size = np.array(peak.shape)
    return float(np.hypot(*((place + size // 2) % size - size // 2)))


def test_the_ground_moves_for_drone_and_not_for_walkers() -> None:
    moved, stayed = [], []
    for seed, family in enumerate(drone.GROUNDS):
        clip = shot("rock", family)
        frames = drone.fly(family, clip, np.random.default_rng(seed))
        moved.append(shift(frames[10], frames[16]))
    for seed, family in enumerate(WORLDS["walkers"].training_families):
        whole = walkers.render(shot("bow", family), np.random.default_rng(seed)).astype(np.float32)
        stayed.append(shift(whole[10], whole[16]))
    # 0.3 to 1 sides of 72 pixels in 40 frames: 3 to 11 pixels in six.
    assert np.median(moved) >= 3
    assert np.median(stayed) <= 2


# --- labels -----------------------------------------------------------------------------

CLIP = np.arange(8) * 3 / 24
"""The times of eight frames of stride 3, in cycles of 24 frames."""
AHEAD = [field.name for field in fields(walkers.Joints)].index("ahead")


def true_pose(world: str, motion: str, time: NDArray[np.float64]) -> NDArray[np.float64]:
    """A clip as an oracle sees it: the actor's true pose, shape (T, numbers)."""
    if world == "walkers":
        angles = joints(motion, time)
        angles[:, AHEAD] -= angles[0, AHEAD]
        side = np.full(len(time), motion in walkers.SIDEWAYS)
        return np.column_stack([np.cos(angles), np.sin(angles), side])
    pose = MOTIONS[motion](time.astype(np.float32))
    angle = np.zeros(len(time)) + pose.angle
    angle -= angle[0]  # an actor at rest has a random rotation
    curves = [pose.x, pose.y, pose.scale, np.cos(angle), np.sin(angle)]
    return np.stack([np.zeros(len(time)) + curve for curve in curves], 1)


def nearest(world: str, one: str, other: str, time: NDArray[np.float64]) -> float:
    """The root mean square difference of two motions, from the start times that match best."""
    phases = np.arange(48) / 48
    a, b = (np.stack([true_pose(world, motion, time + phase) for phase in phases]) for motion in (one, other))
    return float(np.sqrt(((a[:, None] - b[None]) ** 2).mean((2, 3))).min())


@pytest.mark.parametrize("world", NEW)
def test_clips_of_two_motions_differ_from_any_start(world: str) -> None:
    for one, other in combinations(WORLDS[world].motions, 2):  # type: ignore[index]
        assert nearest(world, one, other, CLIP) > 0.08, (one, other)


@pytest.mark.parametrize(
    ("world", "one", "other"),
    [
        ("walkers", "walk", "walk-backwards"),
        ("walkers", "arms-circle-up", "arms-circle-down"),
        ("dots", "circle-clockwise", "circle-anticlockwise"),
        ("drone", "swell-and-snap", "shrink-and-snap"),
        ("drone", "spin-clockwise", "spin-anticlockwise"),
    ],
)
def test_a_single_frame_does_not_separate_a_pair(world: str, one: str, other: str) -> None:
    assert nearest(world, one, other, CLIP) > 0.08
    others = np.stack([true_pose(world, other, np.array([phase])) for phase in np.arange(240) / 240])
    for phase in np.arange(8) / 8:
        first = true_pose(world, one, np.array([phase]))
        assert np.sqrt(((others - first) ** 2).mean((1, 2))).min() < 0.02
