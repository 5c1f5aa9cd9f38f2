"""Local edits, motion scaled along the flow, and common properties of all TLD on real frames."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from dsm.data.clips import TrainingClips
from dsm.data.lists import VideoList
from dsm.data.settings import ClipConfig
from dsm.disturb import MotionScale, TemporalMix, scale_motion
from dsm.disturb.motion_scale import at_pace
from dsm.disturb.temporal import FACTORS, KINDS, draw_motion_scale
from dsm.evaluate.preview import motion_change, scene_change
from dsm.video.flow import compute_flow
from dsm.video.write import write_video
from dsm.views import Augment, View

EVERY = [*KINDS, "flow"]
WINDOW = 10 + 2 * np.arange(10)


def gliding(frames: int = 10, size: int = 96, pace: int = 2) -> np.ndarray:
    """A soft textured disc that moves to the right over a still ground: (T, H, W, 3)."""
    rng = np.random.default_rng(0)
    ground = np.kron(rng.integers(60, 190, (size // 8, size // 8, 3)), np.ones((8, 8, 1)))
    patch = np.kron(rng.integers(0, 255, (12, 12, 3)), np.ones((3, 3, 1)))
    y, x = np.mgrid[:36, :36] - 17.5
    mask = np.clip((17 - np.hypot(x, y)) / 3, 0, 1)[..., None]
    shown = np.stack([ground] * frames)
    for t in range(frames):
        part = shown[t, 30:66, 10 + pace * t : 46 + pace * t]
        part[:] = mask * patch + (1 - mask) * part
    return shown.astype(np.uint8)


def as_clip(frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(frames).permute(3, 0, 1, 2)


def place_of_disc(frame: np.ndarray, start: np.ndarray) -> int:
    """How many pixels the first frame's disc has moved to the right, by the best match."""
    patch = start[38:58, 18:38].astype(float)
    errors = [np.abs(frame[38:58, 18 + shift : 38 + shift] - patch).mean() for shift in range(55)]
    return int(np.argmin(errors))


def test_swaps_keep_all_frames_and_move_few() -> None:
    for seed in range(30):
        broken = KINDS["swap"](WINDOW, 60, np.random.default_rng(seed))
        assert Counter(broken.tolist()) == Counter(WINDOW.tolist())
        assert (broken != WINDOW).sum() <= 4  # two swaps of ten frames


@pytest.mark.parametrize("start", [0, 1, 3, 7, 20, 41])
def test_a_shift_may_begin_wherever_the_window_is_a_quarter_away(start: int) -> None:
    window, total = start + 2 * np.arange(10), 60
    allowed = {other for other in range(total - 18) if abs(other - start) >= 18 // 4}
    drawn = {int(KINDS["shift"](window, total, np.random.default_rng(seed))[0]) for seed in range(600)}
    assert drawn == allowed


@pytest.mark.parametrize(
    ("kind", "indices", "total"),
    [
        ("swap", [0, 4, 8, 0, 4, 8, 0, 4], 12),
        ("insert", [0, 1, 0, 1], 2),
        ("speed", [5, 6, 7], 60),
        ("shuffle", [0, 1, 0, 1], 2),
        ("swap", [0, 1, 0], 2),
        ("reverse", [0, 1, 0], 2),
    ],
)
def test_no_negative_shows_the_clips_own_frames(kind: str, indices: list[int], total: int) -> None:
    """Other positions of a looped video may hold the same frames."""
    clip = np.array(indices)
    for seed in range(300):
        broken = TemporalMix.only(kind).draw(clip, total, np.random.default_rng(seed))
        assert not np.array_equal(broken.indices, clip)


@pytest.mark.parametrize("kind", ["swap", "insert"])
def test_edits_do_not_undo_each_other(kind: str) -> None:
    window = np.arange(8)  # in a clip so short two swaps are of the same pair in every 28th draw
    draws = [KINDS[kind](window, 60, np.random.default_rng(seed)) for seed in range(400)]
    assert all((broken != window).any() for broken in draws)
    still = KINDS[kind](np.zeros(8, int), 1, np.random.default_rng(0))
    assert still.tolist() == [0] * 8  # a one-frame video has no other frame; the search must still end


def test_insertions_repeat_frames_and_deletions_leave_some_out() -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        inserted = KINDS["insert"](WINDOW, 60, rng)
        assert len(inserted) == 10
        assert set(inserted) <= set(WINDOW)
        assert len(set(inserted)) in (8, 9)
        deleted = KINDS["delete"](WINDOW, 60, rng)
        assert len(set(WINDOW) - set(deleted)) == 2
        assert deleted[-2:].tolist() == [30, 32]  # the video continues
        assert (np.diff(deleted) > 0).all()
        at_the_end = KINDS["delete"](WINDOW, 29, rng)
        assert at_the_end[-2:].tolist() == [28, 28]


def test_the_scale_factor_is_far_from_one_over_a_long_interval() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        scale = draw_motion_scale(8, rng)
        assert FACTORS[0] <= scale.factor <= FACTORS[1]
        assert not 0.63 < scale.factor < 1.6
        assert 0 <= scale.start < scale.stop <= 7
        assert scale.stop - scale.start >= 4


@pytest.mark.parametrize("factor", [0.01, 0.5, 1.0, 1.5])
def test_scaled_motion_goes_the_factor_as_far(factor: float) -> None:
    frames = gliding()
    flow = torch.from_numpy(compute_flow(frames))
    scaled = scale_motion(as_clip(frames), flow, MotionScale(factor, 0, 8)).permute(1, 2, 3, 0).numpy()
    for t in (4, 8):
        assert place_of_disc(frames[t], frames[0]) == 2 * t
        assert abs(place_of_disc(scaled[t], frames[0]) - 2 * t * factor) <= 1.5 + 0.1 * t
    assert np.array_equal(scaled[9], frames[9])  # after the interval
    assert np.abs(scaled[:, 80:].astype(int) - frames[:, 80:]).mean() < 3  # the ground stays


def test_frames_stay_plausible_however_large_the_factor() -> None:
    """No tearing: a frame is as smooth as its source."""
    frames = gliding()
    flow = torch.from_numpy(compute_flow(frames))
    scaled = scale_motion(as_clip(frames), flow, MotionScale(10.0, 0, 9))
    roughness = [float(x.float().diff(dim=-1).abs().mean()) for x in (as_clip(frames), scaled)]
    assert roughness[1] < 1.3 * roughness[0]


def test_flow_itself_is_scaled_by_its_factor() -> None:
    flow = torch.rand(7, 5, 6, 2)
    found = at_pace(flow, MotionScale(3.0, 2, 5))
    assert torch.equal(found[2:5], flow[2:5] * 3)
    assert torch.equal(found[:2], flow[:2])
    assert torch.equal(found[5:], flow[5:])
    assert at_pace(flow, None) is flow


@pytest.mark.parametrize("kind", EVERY)
def test_the_scene_is_kept_and_the_motion_is_broken(kind: str) -> None:
    """Frames of a video whose disc moves back and forth."""
    video = np.concatenate([gliding(24, pace=2), gliding(24, pace=2)[::-1], gliding(24, pace=1)])
    window = 4 + 2 * np.arange(8)
    frames = video[window]
    flow = compute_flow(frames)
    scenes, motions = [], []
    for seed in range(6):
        broken = TemporalMix.only(kind).draw(window, len(video), np.random.default_rng(seed))
        found = at_pace(torch.from_numpy(video[broken.indices]), broken.scale).numpy()
        scenes.append(scene_change(found, frames))
        motions.append(motion_change(compute_flow(found), flow))
    assert np.mean(scenes) < 0.35
    assert np.mean(motions) > 0.5


@pytest.mark.parametrize("kind", EVERY)
def test_tensors_of_any_type_get_broken_motion(kind: str) -> None:
    clip = torch.stack([as_clip(gliding()), as_clip(gliding()).flip(-1)])
    mix = TemporalMix.only(kind)
    for one in (clip, clip.float() / 255, clip.double() / 255, clip.bfloat16() / 255):
        found = mix(one, seed=3)
        assert found.shape == one.shape
        assert found.dtype == one.dtype
        assert torch.equal(found, mix(one, seed=3))
        assert not torch.equal(found, one)
    still = clip[:, :, :1].expand(-1, -1, 10, -1, -1)
    assert (mix(still, seed=3).int() - still.int()).abs().max() <= 1


def test_training_clips_have_their_motion_scaled(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", gliding(30, pace=1))
    videos = VideoList(["a.mp4"], np.array([0]), np.array([30]), tmp_path)
    views = (View("anchor"), View("negative", temporal=TemporalMix.only("flow"), look_of="anchor"))
    dataset = TrainingClips(videos, ClipConfig(8, 2, resize=96, size=96), Augment(), views, seed=0)
    sample = dataset[0, 0]
    assert isinstance(sample, dict)
    anchor, negative = sample["clips"]["anchor"], sample["clips"]["negative"]
    assert negative.shape == anchor.shape
    changed = (anchor.int() - negative.int()).abs().amax((1, 2, 3)) > 20
    assert 3 <= changed.sum() <= 7
    again = dataset[0, 0]
    assert isinstance(again, dict)
    assert torch.equal(again["clips"]["negative"], negative)
