"""Features of variants of a list: whose scenes are lent, what is left out, and what encoders see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import moving_square
from PIL import Image
from runs import CLIP
from torch import Tensor

from dsm.data.clips import EvaluationClips
from dsm.data.lists import VideoList, read_list
from dsm.data.settings import ClipConfig
from dsm.errors import UserError
from dsm.evaluate.extract import extract_by_all
from dsm.evaluate.masks import Masks
from dsm.evaluate.other_scenes import POOL, Lent, OtherScenes, draw_order
from dsm.evaluate.variant_features import (
    clip_and_variant,
    features_of_variants,
    left_of_planted,
    windows_shown,
    windows_to_read,
)
from dsm.evaluate.variants import SCENES, VARIANTS, Seen
from dsm.models.precision import encode
from dsm.models.zoo import create_model
from dsm.render import MEAN, to_frames
from dsm.video.source import VideoError
from dsm.video.write import write_video


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
