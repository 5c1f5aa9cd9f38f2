"""Variants that keep the scene or the motion, and their features, compared with slow references."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import moving_square
from runs import CLIP
from torch import Tensor

from dsm.data.lists import VideoList, read_list
from dsm.data.settings import ClipConfig
from dsm.disturb.scene import fill, moving_mask, still_scene, stripes, swap_scene, temporal_median
from dsm.errors import UserError
from dsm.evaluate.extract import extract_by_all
from dsm.evaluate.variants import SCENES, VARIANTS, OtherScenes, Seen, draw_order, features_of_variants
from dsm.models.zoo import create_model
from dsm.synthetic.motions import MOTIONS
from dsm.synthetic.motionscenes import VideoPlan, render
from dsm.synthetic.scenery import TRAINING_FAMILIES
from dsm.synthetic.settings import MotionScenesConfig
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
    return Seen(clips, found, moving_mask(clips, found), others), scene


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


@pytest.mark.parametrize("motion", range(len(MOTIONS)), ids=list(MOTIONS))
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


@pytest.mark.parametrize("labels", [[0] * 30 + [1], [0, 1, 2] * 5, [1, 0], [2, 2, 1, 1, 0]])
def test_every_video_gets_scenes_of_other_labels(labels: list[int]) -> None:
    of = np.array(labels)
    for seed in range(5):
        order, scenes = draw_order(of, seed), OtherScenes()
        assert sorted(order[1:]) == list(range(len(of)))
        for place, video in enumerate(order):
            unlike = [other for other in order[:place][::-1] if of[other] != of[video]]
            behind = scenes.behind(labels[video])
            assert (behind is None) == (place == 0)
            if behind is not None:
                videos, found = behind
                assert videos == [unlike[at % len(unlike[:SCENES])] for at in range(SCENES)]  # the last first
                assert [int(scene) for scene in found] == videos
            scenes.add(int(video), labels[video], torch.tensor(int(video)))
            assert len(scenes) <= 2 * SCENES


@pytest.fixture
def broken(tmp_path: Path) -> VideoList:
    """A list of six moving squares with three labels; the files do not exist."""
    paths = [f"{place}.mp4" for place in range(6)]
    return VideoList(paths, np.array([0, 0, 0, 1, 2, 0]), np.full(6, -1), tmp_path, source="six.txt")


@pytest.mark.parametrize("missing", [(0,), (3,), (4,), (3, 0), (5, 4, 1)])
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
        assert (labels[found.others] != labels[:, None]).all()
        assert found.features[0]["background"].shape[:2] == (len(left), SCENES)
    with pytest.raises(VideoError, match="no such file"):
        features_of_variants([encoder], broken, CLIP, variants, workers=0)


def test_a_single_readable_class_is_refused(broken: VideoList) -> None:
    for place in (0, 1):
        write_video(broken.file(place), moving_square(16, 64))
    with pytest.raises(UserError, match=r"six\.txt: its readable videos have only one class"):
        features_of_variants(
            [create_model("tiny").eval()], broken, CLIP, {"clip": VARIANTS["clip"]}, workers=0,
            on_bad=lambda video: None,
        )  # fmt: skip


def test_encoders_get_the_clips_of_extraction_for_any_batch_size(scenes: Path) -> None:
    torch.manual_seed(0)
    encoder = create_model("tiny").eval()
    videos = read_list(scenes / "test_free.txt")
    clip = ClipConfig(frames=8, stride=3, resize=40, size=32)
    found = features_of_variants([encoder], videos, clip, VARIANTS, workers=0, batch_size=4)
    (plain,) = extract_by_all([encoder], videos, clip, workers=0)
    np.testing.assert_allclose(found.features[0]["clip"][:, 0], plain.features, atol=1e-4)
    alone = features_of_variants([encoder], videos, clip, VARIANTS, workers=0, batch_size=1)
    assert (found.others == alone.others).all()
    assert (videos.labels[found.others] != videos.labels[:, None]).all()
    for name in VARIANTS:
        np.testing.assert_allclose(found.features[0][name], alone.features[0][name], atol=1e-4)


def test_variants_work_for_single_frames_and_differences(scenes: Path) -> None:
    videos = read_list(scenes / "test_free.txt")
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
    found = features_of_variants([encoder], videos, CLIP, VARIANTS, workers=0)
    assert {name: each.shape for name, each in found.features[0].items()} == {
        name: (10, SCENES if name == "background" else 1, 32) for name in VARIANTS
    }
