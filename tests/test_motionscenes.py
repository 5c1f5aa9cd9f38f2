"""MotionScenes is balanced, correlated as set, and the same for the same seed."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dsm.data.lists import read_list
from dsm.errors import UserError
from dsm.synthetic import scenery
from dsm.synthetic.motions import MOTIONS
from dsm.synthetic.motionscenes import SPLITS, plan_split, render, write_motionscenes
from dsm.synthetic.settings import PRESETS, MotionScenesConfig
from dsm.video.decode import probe


def own_family(config: MotionScenesConfig) -> dict[int, str]:
    """The scene family each motion is seen on most, in training."""
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    for plan in plan_split(config, "train"):
        counts[plan.motion][plan.family] += 1
    return {motion: families.most_common(1)[0][0] for motion, families in counts.items()}


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9, 1.0])
def test_motion_and_scene_agree_at_the_set_correlation(correlation: float) -> None:
    config = MotionScenesConfig(train=5000, test=2000, scene_correlation=correlation)
    own = own_family(replace(config, scene_correlation=1.0))
    for split in ("train", "test"):
        plans = plan_split(config, split)
        tied = np.mean([plan.family == own[plan.motion] for plan in plans])
        assert tied == pytest.approx(correlation, abs=0.03)


def test_conflict_avoids_a_motions_own_family_and_free_avoids_training_families() -> None:
    config = MotionScenesConfig(test=1000)
    own = own_family(config)
    training = {plan.family for plan in plan_split(config, "train")}
    conflict = plan_split(config, "test_conflict")
    assert all(plan.family != own[plan.motion] and plan.family in training for plan in conflict)
    assert not training & {plan.family for plan in plan_split(config, "test_free")}


@pytest.mark.parametrize("split", SPLITS)
def test_motions_are_balanced(split: str) -> None:
    counts = Counter(plan.motion for plan in plan_split(MotionScenesConfig(), split))
    assert len(set(counts.values())) == 1
    assert len(counts) == 10


def test_a_video_is_the_same_for_the_same_seed_and_differs_from_others() -> None:
    config = MotionScenesConfig()
    plans = plan_split(config, "train")
    assert np.array_equal(render(config, plans[3]), render(config, plans[3]))
    assert not np.array_equal(render(config, plans[3]), render(config, plans[13]))
    assert not np.array_equal(render(config, plans[3]), render(replace(config, seed=1), plans[3]))


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_motion_can_be_drawn_on_every_family(preset: str) -> None:
    config = replace(PRESETS[preset], size=32, frames=12)
    plan = plan_split(config, "train")[0]
    for motion in range(config.motions):
        for family in scenery.PATTERNS:
            frames = render(config, replace(plan, motion=motion, family=family))
            assert frames.shape == (12, 32, 32, 3)
            # Something moves: it changes more than noise and light alone would.
            assert np.abs(np.diff(frames.astype(int), axis=0)).max() > 40


def test_mirrored_motions_are_mirrored_and_reversed_ones_reversed() -> None:
    time = np.linspace(0, 2, 50, dtype=np.float32)
    clockwise, anticlockwise = (MOTIONS[f"circle-{way}"](time) for way in ("clockwise", "anticlockwise"))
    assert np.allclose(clockwise.y, -np.asarray(anticlockwise.y))
    # On screen y points down: a clockwise walk turns from the right (x) towards the bottom (+y).
    assert clockwise.y[1] > clockwise.y[0]
    back = MOTIONS["circle-anticlockwise"](-time)
    assert np.allclose(clockwise.x, back.x, atol=1e-5)
    assert np.allclose(clockwise.y, back.y, atol=1e-5)


def test_shapes_have_an_inside_and_an_outside() -> None:
    axis = np.linspace(-1.6, 1.6, 65, dtype=np.float32)
    u, v = np.meshgrid(axis, axis)
    for name, shape in scenery.SHAPES.items():
        inside = shape(u, v) < 0
        assert 0.05 < inside.mean() < 0.6, name
        assert not inside[0].any(), name


def test_the_folder_holds_the_listed_videos(scenes: Path) -> None:
    for split in SPLITS:
        videos = read_list(scenes / f"{split}.txt")
        assert len(videos) == (40 if split == "train" else 10)
        assert probe(videos.file(0)).frames == videos.frames[0] == 40
    assert (scenes / "classes.txt").read_text().splitlines() == list(MOTIONS)[:10]
    table = (scenes / "scenes.tsv").read_text().splitlines()
    assert len(table) == 1 + 40 + 30


def test_an_interrupted_data_set_is_completed_identically(scenes: Path) -> None:
    config = MotionScenesConfig(train=40, test=10)
    videos = read_list(scenes / "train.txt")
    before = videos.file(7).read_bytes()
    videos.file(7).unlink()
    write_motionscenes(config, scenes, workers=1)
    assert videos.file(7).read_bytes() == before


def test_a_later_call_for_another_list_keeps_the_scenes_of_the_first(tmp_path: Path) -> None:
    config = MotionScenesConfig(motions=2, train=2, test=2, frames=4, size=32)
    for split in ("train", "test_free"):
        write_motionscenes(config, tmp_path / "scenes", splits=[split], workers=1)
    listed = [
        path for split in ("train", "test_free") for path in read_list(tmp_path / f"scenes/{split}.txt").paths
    ]
    table = (tmp_path / "scenes" / "scenes.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in table[1:]] == listed


def test_folders_with_other_settings_or_contents_are_left_alone(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="other settings"):
        write_motionscenes(MotionScenesConfig(train=40, test=10, seed=1), scenes)
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(UserError, match="not empty and does not contain MotionScenes"):
        write_motionscenes(MotionScenesConfig(), tmp_path)


def test_in_conflict_every_motion_is_on_a_family_of_another_motion() -> None:
    config = MotionScenesConfig(motions=4, scene_correlation=1.0, train=40, test=40)
    owner = {plan.family: plan.motion for plan in plan_split(config, "train")}
    for plan in plan_split(config, "test_conflict"):
        assert owner[plan.family] != plan.motion


@pytest.mark.parametrize(
    "wrong", [{"motions": 1}, {"motions": 99}, {"scene_correlation": 1.5}, {"size": 33}, {"frames": 0}]
)
def test_meaningless_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(UserError):
        MotionScenesConfig(**wrong)
