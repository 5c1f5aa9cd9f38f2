"""Variants that keep the scene or the motion, and their features, compared with slow references."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import moving_square
from PIL import Image
from runs import CLIP
from scipy import stats
from torch import Tensor

from dsm.data.clips import EvaluationClips
from dsm.data.lists import VideoList, read_list
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
from dsm.errors import UserError
from dsm.evaluate.extract import extract_by_all
from dsm.evaluate.masks import Masks
from dsm.evaluate.other_scenes import POOL, Lent, OtherScenes, draw_order
from dsm.evaluate.variant_features import (
    camera_drift,
    clip_and_variant,
    features_of_variants,
    left_of_planted,
    windows_shown,
    windows_to_read,
)
from dsm.evaluate.variants import SCENES, VARIANTS, Seen, carried_noise
from dsm.evaluate.verdict import DRIFTING
from dsm.models.precision import encode
from dsm.models.zoo import create_model
from dsm.render import MEAN, to_frames
from dsm.synthetic.motions import MOTIONS
from dsm.synthetic.motionscenes import VideoPlan, render
from dsm.synthetic.scenery import TRAINING_FAMILIES
from dsm.synthetic.settings import WORLDS, MotionScenesConfig, WorldName
from dsm.video.source import VideoError
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


@pytest.mark.parametrize("windows", [1, 2, 3])
def test_the_card_shows_the_clip_that_encoders_saw(tmp_path: Path, windows: int) -> None:
    """Of a random variant too: its draws go on from window to window."""
    labels, paths = np.arange(4) % 2, [f"{place}.mp4" for place in range(4)]
    for path in paths:
        write_video(tmp_path / path, moving_square(12, 48))
    videos = VideoList(paths, labels, np.full(4, 12), tmp_path, source="four.txt")
    clip = ClipConfig(frames=4, stride=2, resize=48, size=48)
    made: list[Tensor] = []

    def noisy(seen: Seen, rng: np.random.Generator) -> Tensor:
        noise = rng.random((1, *seen.clips.shape), dtype=np.float32)
        made.append(torch.from_numpy(noise))
        return made[-1]

    encoder = create_model("tiny").eval()
    found = features_of_variants([encoder], videos, clip, {"noisy": noisy}, windows=windows, workers=0)
    assert len(found.places) == len(made) == 4
    whole, changed = clip_and_variant(videos, clip, "noisy", noisy, 2, 1, windows=windows)
    seen = [to_frames(each[0, windows // 2]) for each in made[:4]]
    assert any(np.array_equal(changed, each) for each in seen)
    middle = windows_shown(windows, clip)[windows // 2]
    read = EvaluationClips(videos, clip, windows_to_read(windows, clip)).sample(2)["clips"]
    np.testing.assert_array_equal(whole, read[middle].numpy())


def test_videos_without_labels_need_no_others(tmp_path: Path) -> None:
    """Of three, the middle one is broken: the two others are left, whatever their classes would be."""
    for place in (0, 2):
        write_video(tmp_path / f"{place}.mp4", moving_square(16, 64))
    paths = [f"{place}.mp4" for place in range(3)]
    videos = VideoList(paths, np.full(3, -1), np.full(3, -1), tmp_path, source="three.txt")
    encoder, variants = create_model("tiny").eval(), {name: VARIANTS[name] for name in ("clip", "reversed")}
    found = features_of_variants(
        [encoder], videos, CLIP, variants, workers=0, on_bad=lambda video: None, windows=1
    )  # fmt: skip
    assert found.places.tolist() == [0, 2]
    assert found.partners == {}
    with pytest.raises(UserError, match="has no labels, which 'background' needs"):
        features_of_variants([encoder], videos, CLIP, {"background": VARIANTS["background"]}, workers=0)


def test_features_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    class Overflowing(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.full((1,), float("inf")))

        def forward(self, clips: Tensor) -> Tensor:
            return clips.mean((2, 3, 4)) * self.weight

    clips = torch.rand(2, 3, 4, 8, 8)
    with pytest.raises(UserError, match=r"in bf16, the weights give features .* use --precision fp32"):
        encode(Overflowing(), clips, "bf16")
    with pytest.raises(UserError, match=r"in fp32, .* use other weights"):
        encode(Overflowing(), clips, "fp32")


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


def test_an_actor_that_moves_about_leaves_nothing_and_one_that_stays_does() -> None:
    scene = torch.rand(1, 3, 1, 48, 48) * 0.5
    clip, mask = scene.expand(2, 3, 8, 48, 48).clone(), torch.zeros(2, 1, 8, 48, 48)
    staying, still = clip.clone(), mask.clone()
    for window in range(2):
        for frame in range(8):
            for one in (clip, mask):
                one[window, :, frame, 20:30, 5 * frame : 5 * frame + 10] = 1
    staying[..., 20:30, 20:30], still[..., 20:30, 20:30] = 1, 1
    assert left_of_planted(clip, mask, torch.rand(1, 3, 1, 48, 48) * 0.5) < 0.05
    assert left_of_planted(staying, still, torch.rand(1, 3, 1, 48, 48) * 0.5) > 0.9
    assert np.isnan(left_of_planted(clip, mask * 0, scene))


def test_given_masks_take_the_place_of_what_is_found(tmp_path: Path) -> None:
    """A still actor, which the median takes for the scene, is cut out by its mask; also of pictures."""
    labels, paths = np.arange(4) % 2, [f"{place}.mp4" for place in range(4)]
    for path in paths:
        frames = moving_square(16, 64)
        frames[:, 40:56, 40:56] = (250, 20, 20)
        write_video(tmp_path / path, frames)
        mask = np.zeros((16, 64, 64, 3), np.uint8)
        mask[:, 40:56, 40:56] = 255
        if path == "0.mp4":
            (tmp_path / "masks" / "0").mkdir(parents=True)
            for number, picture in enumerate(mask):
                Image.fromarray(picture).save(tmp_path / "masks" / "0" / f"{number:03d}.png")
        else:
            write_video(tmp_path / "masks" / path, mask)
    videos = VideoList(paths, labels, np.full(4, 16), tmp_path, source="four.txt")
    variants = {name: VARIANTS[name] for name in ("flat", "no_foreground")}
    masks = Masks(tmp_path / "masks", videos, CLIP, windows_to_read(1, CLIP))
    encoder = create_model("tiny").eval()
    found = features_of_variants([encoder], videos, CLIP, variants, workers=0, windows=1, masks=masks)
    inside, flat = slice(round(43 * CLIP.resize / 64), round(50 * CLIP.resize / 64)), round(255 * MEAN)
    offset = (CLIP.resize - CLIP.size) // 2
    inside = slice(inside.start - offset, inside.stop - offset)
    assert (found.pictures["no_foreground"][:, inside, inside, 0] < 120).all()  # the red is gone
    assert (found.pictures["flat"][:, inside, inside, 0] > 200).all()
    assert abs(int(found.pictures["flat"][0, 5, 5, 0]) - flat) <= 3
    assert np.isnan(found.left).all()
    (tmp_path / "masks" / "0" / "000.png").unlink()
    with pytest.raises(UserError, match=r"15 masks for a video of 16 frames"):
        Masks(tmp_path / "masks", videos, CLIP, 1).of(0)
    (tmp_path / "masks" / "3.mp4").unlink()
    with pytest.raises(UserError, match=r"has no mask for 3\.mp4;"):
        Masks(tmp_path / "masks", videos, CLIP, 1)


@pytest.mark.parametrize("labels", [[0] * 30 + [1], [0, 1, 2] * 5, [1, 0], [2, 2, 1, 1, 0]])
def test_every_video_gets_scenes_of_other_labels(labels: list[int]) -> None:
    of = np.array(labels)
    for seed in range(5):
        order, scenes = draw_order(of, seed), OtherScenes()
        assert sorted(order[1:]) == list(range(len(of)))
        for place, video in enumerate(order):
            unlike = [other for other in order[:place][::-1] if of[other] != of[video]]
            alike = [other for other in order[:place][::-1] if of[other] == of[video] and other != video]
            behind = scenes.behind(labels[video])
            assert (not behind) == (place == 0)
            if behind:
                videos = [one.video for one in behind]
                assert videos == [unlike[at % len(unlike[:SCENES])] for at in range(SCENES)]  # the last first
            same = scenes.same(int(video), labels[video])
            assert (same is None) == (not alike)
            assert same is None or same.video == alike[0]
            own = Lent(int(video), labels[video], torch.full((1, 3, 1, 8, 8), float(video)), torch.zeros(0))
            if behind:
                near, far = scenes.near_and_far(own)
                known = [abs(int(one.video) - int(video)) for one in scenes.unlike(own.label)]
                assert (abs(near.video - video), abs(far.video - video)) == (min(known), max(known))
            scenes.add(own)
            assert len(scenes) <= POOL + 2 * SCENES


@pytest.fixture
def broken(tmp_path: Path) -> VideoList:
    """A list of six moving squares with three labels; the files do not exist."""
    paths = [f"{place}.mp4" for place in range(6)]
    return VideoList(paths, np.array([0, 0, 0, 1, 2, 0]), np.full(6, -1), tmp_path, source="six.txt")


@pytest.mark.parametrize(
    "missing",
    [*(pytest.param((one,), marks=pytest.mark.slow) for one in (0, 4)), (3,), (3, 0), (5, 4, 1)],
)
def test_an_unreadable_video_is_left_out_and_gives_no_scene(
    broken: VideoList, missing: tuple[int, ...]
) -> None:
    left = [place for place in range(6) if place not in missing]
    for place in left:
        write_video(broken.file(place), moving_square(16, 64))
    variants = {name: VARIANTS[name] for name in ("clip", "background")}
    encoder = create_model("tiny").eval()
    for seed in range(6):  # whichever video comes first and would give the first scene
        left_out: list[int] = []
        found = features_of_variants(
            [encoder], broken, CLIP, variants, workers=0, windows=1, batch_size=2, seed=seed,
            on_bad=lambda video: left_out.append(video.index),  # noqa: B023
        )  # fmt: skip
        assert sorted(left_out) == sorted(missing)
        assert found.places.tolist() == left
        labels = broken.labels[found.places]
        assert (labels[found.partners["background"]] != labels[:, None]).all()
        assert found.features[0]["background"].shape[:2] == (len(left), SCENES)
    with pytest.raises(VideoError, match="no such file"):
        features_of_variants([encoder], broken, CLIP, variants, workers=0)


def test_a_single_readable_class_is_refused(broken: VideoList) -> None:
    for place in (0, 1):
        write_video(broken.file(place), moving_square(16, 64))
    with pytest.raises(UserError, match=r"six\.txt: the readable videos have only one class"):
        features_of_variants(
            [create_model("tiny").eval()], broken, CLIP, {"clip": VARIANTS["clip"]}, workers=0,
            on_bad=lambda video: None,
        )  # fmt: skip


def test_encoders_get_the_clips_of_extraction_for_any_batch_size(scenes: Path) -> None:
    torch.manual_seed(0)
    encoder = create_model("tiny").eval()
    videos = read_list(scenes / "test_free.txt").part(np.arange(6), scenes)
    clip = ClipConfig(frames=8, stride=3, resize=40, size=32)
    found = features_of_variants([encoder], videos, clip, VARIANTS, workers=0, windows=1, batch_size=4)
    (plain,) = extract_by_all([encoder], videos, clip, windows=1, workers=0)
    np.testing.assert_allclose(found.features[0]["clip"][:, 0], plain.features, atol=1e-4)
    alone = features_of_variants([encoder], videos, clip, VARIANTS, workers=0, windows=1, batch_size=1)
    assert (found.partners["background"] == alone.partners["background"]).all()
    assert (videos.labels[found.partners["background"]] != videos.labels[:, None]).all()
    for name in VARIANTS:
        np.testing.assert_allclose(found.features[0][name], alone.features[0][name], atol=1e-4)


def test_variants_work_for_single_frames_and_differences(scenes: Path) -> None:
    videos = read_list(scenes / "test_free.txt").part(np.arange(4), scenes)
    encoder = create_model("tiny").eval()
    for clip in (
        ClipConfig(frames=1, stride=1, resize=40, size=32),
        ClipConfig(frames=4, stride=3, resize=40, size=32, modality="rgbdiff"),
    ):
        found = features_of_variants([encoder], videos, clip, VARIANTS, workers=0, windows=1).features[0]
        assert all(np.isfinite(each).all() for each in found.values())
        if clip.frames == 1:
            np.testing.assert_array_equal(found["clip"], found["static"])
        else:
            assert np.ptp(found["static"], axis=0).max() == 0  # without change all clips are equal


def test_foreign_models_work(scenes: Path) -> None:
    pytest.importorskip("transformers")
    encoder = create_model(
        "hf:videomae", image_size=32, num_frames=4, hidden_size=32, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=32,
    )  # fmt: skip
    videos = read_list(scenes / "test_free.txt")
    found = features_of_variants([encoder], videos, CLIP, VARIANTS, workers=0, windows=1)
    assert {name: each.shape for name, each in found.features[0].items()} == {
        name: (10, SCENES if name.startswith("background") else 1, 32) for name in VARIANTS
    }
