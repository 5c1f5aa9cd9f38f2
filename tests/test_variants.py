"""Variants that keep the scene or the motion, and the still scene, compared with slow references."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import moving_square
from scipy import stats
from torch import Tensor

from dsm.data.lists import VideoList
from dsm.data.settings import ClipConfig
from dsm.disturb.scene import (
    drift,
    fill,
    moving_mask,
    steadiness,
    still_scene,
    stripes,
    swap_scene,
    temporal_median,
)
from dsm.evaluate.variant_features import (
    camera_drift,
    features_of_variants,
)
from dsm.evaluate.variants import SCENES, VARIANTS, Seen, carried_noise
from dsm.evaluate.verdict import DRIFTING
from dsm.models.zoo import create_model
from dsm.render import MEAN
from dsm.synthetic.motions import MOTIONS
from dsm.synthetic.motionscenes import VideoPlan, render
from dsm.synthetic.scenery import TRAINING_FAMILIES
from dsm.synthetic.settings import WORLDS, MotionScenesConfig, WorldName
from dsm.video.write import write_video


def example_video(seed: int = 0) -> tuple[Seen, Tensor]:
    """Three windows of a grey disc that moves in front of a noise picture, and that picture."""
    rng = np.random.default_rng(seed)
    scene = torch.from_numpy(rng.random((3, 1, 40, 40), np.float32) * 0.4)
    clips = scene.expand(3, 3, 5, 40, 40).clone()
    for window in range(3):
        for frame in range(5):
            clips[window, :, frame, 8 * window : 8 * window + 7, 7 * frame : 7 * frame + 7] = 0.95
    found = temporal_median(clips.transpose(0, 1).flatten(1, 2)[None])
    others = torch.from_numpy(rng.random((SCENES, 3, 1, 40, 40), np.float32))
    same, near, far = (torch.from_numpy(rng.random((1, 3, 1, 40, 40), np.float32)) for _ in range(3))
    actor = torch.zeros(1, 4, 1, 40, 40)
    actor[..., 20:25, 20:25] = 1
    return Seen(clips, found, moving_mask(clips, found), others, same, near, far, actor), scene


def test_the_scene_is_the_median_and_what_moves_is_kept_on_another() -> None:
    video, scene = example_video()
    assert torch.equal(video.scene[0], scene)
    mixed = VARIANTS["background"](video, np.random.default_rng(0))
    assert mixed.shape == (SCENES, 3, 3, 5, 40, 40)
    for window in range(3):
        for frame in range(5):
            y, x = 8 * window, 7 * frame
            inside = (slice(None), slice(y + 1, y + 6), slice(x + 1, x + 6))
            assert video.moving[window, 0, frame][inside[1:]].min() == 1
            far = torch.ones(40, 40, dtype=torch.bool)
            far[max(y - 2, 0) : y + 9, max(x - 2, 0) : x + 9] = False
            assert video.moving[window, 0, frame][far].max() == 0
            for part in range(SCENES):
                assert torch.equal(
                    mixed[part, window, :, frame][inside], video.clips[window, :, frame][inside]
                )
                expected = video.others[part, :, 0][:, far]
                assert torch.equal(mixed[part, window, :, frame][:, far], expected)


def rendered(motion: int, number: int) -> tuple[Tensor, Tensor]:
    """A MotionScenes video with its actor, and the same without: (1, 3, T, H, W)."""
    plan = VideoPlan("test", number, motion, TRAINING_FAMILIES[(motion + 5 * number) % 10])
    config = MotionScenesConfig(motions=len(MOTIONS))
    with pytest.MonkeyPatch.context() as patch:
        whole = render(config, plan)
        patch.setattr("dsm.synthetic.scenery.draw_actor", lambda *_, **__: None)
        empty = render(config, plan)
    one, two = (torch.from_numpy(video).permute(3, 0, 1, 2)[None].float() / 255 for video in (whole, empty))
    return one, two


def left_of_the_actor(found: Tensor, whole: Tensor, empty: Tensor) -> float:
    """How much of a scene (3, H, W) looks more like the actor than like the scene, in areas of the actor."""
    covers = ((whole - empty).abs().amax(1, keepdim=True) > 0.08).float()  # (1, 1, T, H, W)
    actor = ((whole * covers).sum(2) / covers.sum(2).clamp(min=1))[0]
    scene = empty.median(2).values[0]
    nearer = (found - actor).abs().sum(0) < (found - scene).abs().sum(0)
    return float((nearer & (covers.sum(2)[0, 0] > 2)).sum() / covers.sum((3, 4)).mean())


# Every fourth motion; the others are slow.
@pytest.mark.parametrize(
    "motion",
    [
        pytest.param(number, id=name, marks=[pytest.mark.slow] * (number % 4 != 0))
        for number, name in enumerate(MOTIONS)
    ],
)
def test_the_still_scene_has_no_actor_for_any_motion(motion: int) -> None:
    left, errors, kept = [], [], []
    for number in (0, 1, 2):
        whole, empty = rendered(motion, number)
        covers = (whole - empty).abs().amax(1, keepdim=True) > 0.08
        scenes = temporal_median(whole), still_scene(whole)
        left.append([left_of_the_actor(scene[0, :, 0], whole, empty) for scene in scenes])
        errors.append(
            [float((scene - empty.median(2, keepdim=True).values).abs().mean()) for scene in scenes]
        )
        kept.append([float(moving_mask(whole, scene)[covers].mean()) for scene in scenes])
    before, after = np.mean(left, axis=0)
    assert after < max(0.5 * before, 0.1)
    assert np.mean(errors, axis=0)[1] < np.mean(errors, axis=0)[0]
    # The part of the actor that `background` puts in front of other scenes.
    assert np.mean(kept, axis=0)[1] > max(0.7, np.mean(kept, axis=0)[0] - 0.01)


def test_the_still_scene_is_the_median_if_no_actor_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    _, empty = rendered(0, 0)
    assert torch.equal(still_scene(empty), temporal_median(empty))
    alone = empty[:, :, :1]
    assert torch.equal(still_scene(alone), alone)
    passing = empty.clone()
    passing[:, :, 3:8, 20:40, 10:30] = 1
    assert torch.equal(still_scene(passing), temporal_median(passing))
    whole, _ = rendered(list(MOTIONS).index("pulse"), 0)
    assert not torch.equal(still_scene(whole), temporal_median(whole))
    monkeypatch.setattr("dsm.disturb.scene.MOST_UNSURE", 0.1)  # too much is unsure, as with a moving camera
    assert torch.equal(still_scene(whole), temporal_median(whole))


def test_unknown_areas_are_filled_from_their_surroundings() -> None:
    slope = torch.linspace(0, 1, 48).expand(1, 3, 48, 48)
    unknown = torch.zeros(1, 1, 48, 48, dtype=torch.bool)
    unknown[..., 16:32, 16:32] = True
    holed = torch.where(unknown, 1.0, slope)
    found = fill(holed, unknown)
    assert torch.equal(torch.where(unknown, 0.0, found), torch.where(unknown, 0.0, slope))
    torch.testing.assert_close(found, slope, atol=0.06, rtol=0)
    everything = torch.ones_like(unknown)
    assert torch.isfinite(fill(slope, everything)).all()


def test_flickering_light_does_not_count_as_motion() -> None:
    clip = torch.full((1, 3, 8, 24, 24), 0.5)
    clip[:, :, 4:] += 0.2
    assert moving_mask(clip, temporal_median(clip)).max() == 0


def test_a_still_camera_is_told_from_a_moving_one() -> None:
    whole, _ = rendered(0, 0)
    assert steadiness(whole, still_scene(whole)) > 0.7
    light = (whole * torch.linspace(0.8, 1.1, whole.shape[2])[:, None, None]).clamp(0, 1)
    assert steadiness(light, still_scene(light)) > 0.6
    wall = torch.rand(1, 3, 1, 8, 40).repeat_interleave(8, 3).repeat_interleave(8, 4)
    pan = torch.cat([wall[..., 6 * frame : 6 * frame + 64] for frame in range(16)], 2)
    assert steadiness(pan, still_scene(pan)) < 0.2
    assert moving_mask(pan, still_scene(pan)).mean() < 0.5  # which would pass for a still camera


def test_an_actor_that_leaves_a_fifth_of_the_picture_at_rest_is_no_drift() -> None:
    flow = np.zeros((3, 2, 50, 100), np.float32)
    flow[:, 0, :, :75] = 9.0
    assert drift(flow) == 0
    flow[:, 1, :, 75:] = 3.0
    assert drift(flow) == pytest.approx(0.09)  # over the three steps
    flow[1:, 1, :, 75:] = 0.0  # a jolt
    assert drift(flow) == 0


def test_shaking_is_no_drift_however_many_frames() -> None:
    rng = np.random.default_rng(0)
    for steps in (8, 80):
        places = rng.normal(0, 2, (steps + 1, 2))
        flow = np.broadcast_to(np.diff(places, axis=0)[..., None, None], (steps, 2, 50, 100))
        shaken = drift(flow.astype(np.float32))
        assert shaken <= np.hypot(*(places[-1] - places[0])) / 100 + 1e-6
        on = drift((flow + np.array([2.0, 0.0])[:, None, None]).astype(np.float32))
        assert on == pytest.approx(2 * steps / 100, rel=0.6)


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("cut", [0, 8])
@pytest.mark.parametrize("world", ["scenes", "walkers", "dots", "drone"])
def test_a_camera_that_moves_is_told_by_the_flow(world: WorldName, cut: int, stride: int) -> None:
    """The ground under a flying camera is smooth: most of the picture seems to show a still scene.

    Also of clips without the picture's edges (``cut`` pixels), which an actor fills more.
    """
    pytest.importorskip("cv2")
    config = MotionScenesConfig(world=world, frames=25, size=64)
    made = WORLDS[world]
    drifts = []
    for index in range(6):
        video = render(config, VideoPlan("test", index, index, made.training_families[index]))
        frames = torch.from_numpy(video[::stride, cut : 64 - cut, cut : 64 - cut])
        drifts.append(camera_drift(frames.permute(3, 0, 1, 2) / 255))
    assert (np.median(drifts) > DRIFTING) == (world == "drone")


@pytest.mark.parametrize("stride", [1, 3])
def test_a_slow_camera_moves_whatever_the_stride(tmp_path: Path, stride: int) -> None:
    """A pan by a sixth of a pixel per frame over smooth ground, and overlapping windows."""
    pytest.importorskip("cv2")
    wall = torch.rand(1, 3, 4, 14, generator=torch.Generator().manual_seed(0)) * 0.3 + 0.35
    wall = torch.nn.functional.interpolate(wall, (64, 256), mode="bicubic")[0]
    frames = torch.stack([wall[:, :, round(number / 6) :][..., :64] for number in range(60)])
    pixels = (frames.clamp(0, 1) * 255).byte().permute(0, 2, 3, 1).numpy()
    labels, paths = np.arange(2), ["a.mp4", "b.mp4"]
    for path in paths:
        write_video(tmp_path / path, pixels)
    videos = VideoList(paths, labels, np.full(2, 60), tmp_path, source="two.txt")
    clip = ClipConfig(frames=8, stride=stride, resize=64, size=64)
    found = features_of_variants(
        [create_model("tiny").eval()], videos, clip, {"clip": VARIANTS["clip"]}, workers=0
    )
    assert (found.drift > DRIFTING).all()


def test_swapping_is_a_mean_weighted_by_the_mask() -> None:
    clip, other = torch.rand(2, 3, 4, 8, 8), torch.rand(2, 3, 1, 8, 8)
    mask = torch.rand(2, 1, 4, 8, 8)
    torch.testing.assert_close(swap_scene(clip, mask, other), mask * clip + (1 - mask) * other)


def test_stripes_stay_between_two_colours_in_range() -> None:
    made = stripes(3, 48, 64, np.random.default_rng(3))[0, :, 0].double()
    assert made.shape == (3, 48, 64)
    assert made.min() >= 0
    assert made.max() <= 1
    line = made.flatten(1).T - made.flatten(1).T.mean(0)
    spread = torch.linalg.svdvals(line)
    assert spread[1] < 1e-4 * spread[0]  # colours on one line
    assert spread[0] > 0


def test_static_reordered_and_scene_variants_follow_their_definitions() -> None:
    video, scene = example_video()
    made = {name: variant(video, np.random.default_rng(1)) for name, variant in VARIANTS.items()}
    assert torch.equal(made["clip"][0], video.clips)
    originals = [frame.tolist() for clip in video.clips for frame in clip.transpose(0, 1)]
    for view in made["static"][0]:
        assert all(torch.equal(view[:, 0], view[:, frame]) for frame in range(5))
        assert view[:, 0].tolist() in originals
    assert made["static"].shape[:2] == (1, 12)
    for before, after in zip(video.clips, made["reversed"][0], strict=True):
        assert all(torch.equal(before[:, frame], after[:, 4 - frame]) for frame in range(5))
    for before, after in zip(video.clips, made["shuffled"][0], strict=True):
        frames = [frame.tolist() for frame in before.transpose(0, 1)]
        order = [frames.index(frame.tolist()) for frame in after.transpose(0, 1)]
        assert sorted(order) == [0, 1, 2, 3, 4]
        assert order not in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0])
    assert torch.equal(made["no_foreground"][0, 0], scene.expand(3, 5, 40, 40))
    assert all(views.shape[2:] == (3, 5, 40, 40) for views in made.values())


def seeded() -> np.random.Generator:
    return np.random.default_rng(3)


def test_frozen_variants_repeat_one_frame_of_their_moving_ones() -> None:
    video, _ = example_video()
    for name in ("background", "stripes"):
        moving, still = (VARIANTS[each](video, seeded()) for each in (name, f"{name}_frozen"))
        assert moving.shape == still.shape
        for one, other in zip(moving.flatten(0, 1), still.flatten(0, 1), strict=True):
            assert (other == other[:, :1]).all()
            assert any(torch.equal(one[:, frame], other[:, 0]) for frame in range(5))


def test_what_moves_is_shown_on_flat_ground_and_before_chosen_scenes() -> None:
    video, _ = example_video()
    for name, behind in (
        ("flat", torch.full((1, 3, 1, 40, 40), MEAN)), ("same_scene", video.same),
        ("near_scene", video.near), ("far_scene", video.far),
    ):  # fmt: skip
        found = VARIANTS[name](video, seeded())[0]
        torch.testing.assert_close(found, video.moving * video.clips + (1 - video.moving) * behind)


def test_a_still_actor_is_pasted_behind_what_moves() -> None:
    video, _ = example_video()
    plain, found = (VARIANTS[name](video, seeded())[0] for name in ("stripes", "stripes_actor"))
    pasted = (found == 1).all(1) & (video.moving[:, 0] == 0)
    assert (pasted == pasted[:, :1]).flatten(2).float().mean() > 0.9  # it does not move
    assert 10 <= pasted[:, 0].sum() / 3 <= 25
    same = (found == plain).all(1) | pasted | (video.moving[:, 0] > 0)
    assert same.all()
    assert torch.equal(found * (video.moving == 1), plain * (video.moving == 1))


def test_other_colours_are_the_same_turn_of_all_colours() -> None:
    video, _ = example_video()
    found = VARIANTS["recoloured"](video, seeded())[0]
    inside = ((found > 0) & (found < 1)).all(1)
    before, after = ((clip.transpose(0, 1)[:, inside] - 0.5) for clip in (video.clips, found))
    turn = torch.linalg.lstsq(before.T, after.T).solution
    torch.testing.assert_close(turn @ turn.T, torch.eye(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(before.T @ turn, after.T, atol=1e-5, rtol=0)
    assert not torch.allclose(found, video.clips, atol=0.1)


def test_no_turn_of_the_colours_is_more_likely_than_others() -> None:
    """The mean of rotations is 0; with the sign that the QR decomposition chooses, it is not."""
    rng, cube = np.random.default_rng(0), torch.eye(3).reshape(1, 3, 1, 1, 3) / 4 + 0.5
    seen = replace(example_video()[0], clips=cube)
    turns = [4 * (VARIANTS["recoloured"](seen, rng)[0, 0, :, 0, 0] - 0.5) for _ in range(1000)]
    assert all(float(torch.linalg.det(turn)) == pytest.approx(1, abs=1e-4) for turn in turns)
    assert torch.stack(turns).mean(0).abs().max() < 4 * (1 / 3 / 1000) ** 0.5


def test_carried_noise_moves_as_the_flow_and_a_frame_alone_is_noise() -> None:
    flow = np.zeros((10, 2, 48, 48), np.float32)
    flow[:, 0, :24], flow[:, 1, 24:] = -0.5, 2.0  # the upper half to the right, the lower one upwards
    found = carried_noise(flow, seeded())
    np.testing.assert_array_equal(found[10, :20, 8:], found[0, :20, 3:-5])
    np.testing.assert_array_equal(found[5, 26:36], found[0, 36:46])
    y, x = np.mgrid[:48, :48] - 24.0
    zoom = np.repeat(np.stack([-x, -y])[None] * 0.06, 12, 0).astype(np.float32)
    for frames in (found, carried_noise(zoom, seeded())):
        assert len({tuple(grain) for grain in frames[-1].reshape(-1, 3)}) == 48 * 48  # none is shown twice
        assert stats.kstest(frames[-1].ravel(), "uniform").pvalue > 0.01
        one, other = frames[-1][:, 1:, 0].ravel(), frames[-1][:, :-1, 0].ravel()
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.06


def test_appearance_free_clips_move_like_the_video() -> None:
    """The flow of the noise is that of the clip; a still clip gives still noise."""
    pytest.importorskip("cv2")
    clip = torch.from_numpy(moving_square(frames=6, side=96)).permute(3, 0, 1, 2)[None].float() / 255
    video = replace(example_video()[0], clips=clip)
    noise = VARIANTS["appearance_free"](video, seeded())[0]
    # The square is at 8 to 20 in frame 2, and three pixels to the right in frame 3.
    before = noise[0, :, 2, 6:14, 10:18].flatten()
    alike = [
        float(torch.corrcoef(torch.stack([before, noise[0, :, 3, 6:14, 10 + by : 18 + by].flatten()]))[0, 1])
        for by in range(7)
    ]
    assert int(np.argmax(alike)) in (2, 3, 4)
    assert max(alike) > 0.8 > alike[6]
    assert torch.equal(noise[0, :, 0, 50:], noise[0, :, 5, 50:])
    assert (noise[0, :, 0, :20] != noise[0, :, 5, :20]).float().mean() > 0.1
    assert 0.2 < noise.std() < 0.35
