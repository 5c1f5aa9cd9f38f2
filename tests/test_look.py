"""Where a network looks: the maps, the probes, how much lies on motion, and `dsm look`."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import numbered_frames
from PIL import Image
from test_adapters import TINY, needs_torchvision
from torch import Tensor, nn

from dsm import cli
from dsm.analyse.cam import (
    Layer,
    MapKind,
    activation_map,
    class_score,
    features_and_gradient,
    find_layer,
    named_layer,
    similarity_score,
    to_unit,
)
from dsm.analyse.motion_mass import MassMeter, mass_on, moving_area, preference, speed_of
from dsm.analyse.overlay import overlay
from dsm.analyse.probes import ACTOR, frozen, make_probe, mixed, pasted
from dsm.errors import UserError
from dsm.models.adapters import TRANSFORMERS
from dsm.models.foreign import Renormalized
from dsm.models.heads import Classifier
from dsm.models.sources import Normalization
from dsm.models.zoo import MODELS, create_model
from dsm.video.decode import probe as probe_video
from dsm.video.write import write_video


class Corner(nn.Module):
    """Sees only the upper left eighth of the picture, along each side, and the first half of the time."""

    def __init__(self) -> None:
        super().__init__()
        self.see = nn.Conv3d(3, 4, (1, 8, 8), (1, 8, 8))
        nn.init.constant_(self.see.weight, 0.1)
        nn.init.zeros_(self.see.bias)

    def forward(self, clip: Tensor) -> Tensor:
        mask = torch.zeros_like(clip)
        mask[:, :, : clip.shape[2] // 2, :8, :8] = 1
        features: Tensor = self.see(clip * mask)
        return features.mean((2, 3, 4))


def test_an_encoder_that_sees_one_corner_looks_there() -> None:
    clip = torch.rand(2, 3, 8, 64, 64)
    kinds: tuple[MapKind, ...] = ("cam", "grad-cam")
    for kind in kinds:
        maps = activation_map(Corner(), clip, similarity_score(), kind=kind)
        assert maps.shape == (2, 8, 64, 64)
        # Bringing 8x8 places to 64x64 pixels smears a place into half of each of its neighbours.
        assert maps[:, :4, :12, :12].sum() == pytest.approx(float(maps.sum()), rel=1e-5)
        assert maps[:, :4, :8, :8].sum() > 0.6 * maps.sum()
        unit = to_unit(maps)
        assert unit.min() >= 0
        assert unit.amax((1, 2, 3)).tolist() == [1, 1]


def tiny_classifier(pooling: str, classes: int = 5) -> Classifier:
    torch.manual_seed(1)
    model = Classifier(create_model("tiny", widths=(4, 6, 8, 10), pooling=pooling), classes, dropout=0.5)
    return model.eval()


def test_cam_of_average_pooling_is_the_last_layers_weights_at_every_place() -> None:
    model, clip = tiny_classifier("avg"), torch.rand(2, 3, 4, 48, 48)
    with torch.no_grad():
        features = model.encoder.feature_map(clip)  # type: ignore[operator]
    slowly = torch.zeros(2, *features.shape[2:])
    for channel in range(10):
        slowly += model.head.weight[3, channel].detach() * features[:, channel]
    expected = F.interpolate(slowly.clamp(min=0)[:, None], clip.shape[2:], mode="trilinear")[:, 0]
    found = to_unit(activation_map(model, clip, class_score(3)))
    assert torch.allclose(found, to_unit(expected), atol=1e-5)


@pytest.mark.parametrize("pooling", ["avg", "max", "avgmax", "gem"])
def test_what_places_contribute_adds_up_to_the_score_whatever_the_pooling(pooling: str) -> None:
    model, clip = tiny_classifier(pooling), torch.rand(3, 3, 4, 48, 48)
    features, gradient = features_and_gradient(model, clip, class_score(2))
    with torch.no_grad():
        logits = model(clip)[:, 2] - model.head.bias[2]
    assert torch.allclose((features * gradient).sum((1, 2, 3, 4)), logits, rtol=1e-3, atol=1e-5)
    encoder: Any = model.encoder
    features, gradient = features_and_gradient(encoder, clip, similarity_score())
    with torch.no_grad():
        length = encoder(clip).norm(dim=1)  # of itself, along itself
    assert torch.allclose((features * gradient).sum((1, 2, 3, 4)), length, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("pooling", ["avg", "avgmax"])
def test_grad_cam_equals_a_slow_computation_by_differences(pooling: str) -> None:
    model, clip = tiny_classifier(pooling).double(), torch.rand(1, 3, 4, 32, 32).double()
    encoder: Any = model.encoder
    with torch.no_grad():
        features = encoder.feature_map(clip)

        def logit(at: Tensor) -> float:
            pooled = [at.mean((2, 3, 4))] + ([at.amax((2, 3, 4))] if pooling == "avgmax" else [])
            return float(model.head(torch.cat(pooled, 1))[0, 1])

        slope = torch.zeros_like(features)
        for place in range(features.numel()):
            nudged = features.clone()
            nudged.view(-1)[place] += 1e-6
            slope.view(-1)[place] = (logit(nudged) - logit(features)) / 1e-6
    weights = slope.mean((2, 3, 4))[0]
    slowly = sum(weights[k] * features[0, k] for k in range(len(weights)))
    assert isinstance(slowly, Tensor)
    expected = F.interpolate(slowly.clamp(min=0)[None, None], clip.shape[2:], mode="trilinear")[:, 0]
    found = activation_map(model, clip, class_score(1), kind="grad-cam")
    assert torch.allclose(found, expected, atol=1e-5 * float(expected.max()))


def test_looking_leaves_weights_and_statistics_as_they_are() -> None:
    model = create_model("tiny")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    activation_map(model, torch.rand(2, 3, 4, 32, 32), similarity_score())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(one.requires_grad and one.grad is None for one in model.parameters())


def test_the_map_for_a_target_shows_what_is_like_it() -> None:
    class Colours(nn.Module):
        """How much red, green and blue there is."""

        def __init__(self) -> None:
            super().__init__()
            self.see = nn.Conv3d(3, 3, 1, bias=False)
            self.see.weight.data = torch.eye(3).reshape(3, 3, 1, 1, 1)

        def forward(self, clip: Tensor) -> Tensor:
            return self.see(clip).mean((2, 3, 4))

    clip = torch.zeros(1, 3, 4, 16, 16)
    clip[:, 0, :, :8] = 1  # red above
    clip[:, 2, :, 8:] = 1  # blue below
    red = activation_map(Colours(), clip, similarity_score(torch.tensor([2.0, 0, 0])))
    assert float(red[:, :, :8].min()) == pytest.approx(float(red.max()), rel=1e-5)
    assert red.max() > 0
    assert red[:, :, 8:].max() == 0


@pytest.mark.parametrize("name", ["c3d", "i3d", "r3d18", "r2plus1d10", "s3dg", "tiny"])
def test_every_backbone_finds_its_last_map(name: str) -> None:
    assert name in MODELS
    encoder: Any = create_model(name)
    clip = torch.rand(1, 3, 4, 64, 64)
    layer = find_layer(encoder.eval(), clip)
    assert layer.name == "stages"
    with torch.no_grad():
        assert layer.sides == tuple(encoder.feature_map(clip).shape[2:])
    assert find_layer(Classifier(encoder, 3).eval(), clip).name == "encoder.stages"
    wrapped = Renormalized(encoder, Normalization((0.4,) * 3, (0.2,) * 3))
    assert find_layer(wrapped, clip).name == "encoder.stages"
    maps = activation_map(encoder, clip, similarity_score())
    assert maps.shape == (1, 4, 64, 64)
    assert maps.max() > 0


def test_a_layer_with_one_place_is_passed_over_for_the_one_before() -> None:
    encoder = create_model("i3d").eval()
    layer = find_layer(encoder, torch.rand(1, 3, 8, 32, 32))
    assert layer.name.startswith("stages.mixed4")
    assert layer.sides[1:] == (2, 2)


def test_of_a_network_with_channels_last_the_input_of_its_pooling_is_taken() -> None:
    class Last(nn.Module):
        """As video transformers of torchvision end: a norm over the last axis, then the map is turned."""

        def __init__(self) -> None:
            super().__init__()
            self.see, self.norm = nn.Conv3d(3, 6, (2, 8, 8), (2, 8, 8)), nn.LayerNorm(6)
            self.pool = nn.AdaptiveAvgPool3d(1)

        def forward(self, clip: Tensor) -> Tensor:
            features = self.norm(self.see(clip).permute(0, 2, 3, 4, 1))
            return self.pool(features.permute(0, 4, 1, 2, 3)).flatten(1)

    clip = torch.rand(2, 3, 4, 32, 32)
    assert find_layer(Last(), clip) == Layer("pool", before=True, sides=(2, 4, 4))
    assert activation_map(Last(), clip, similarity_score()).shape == (2, 4, 32, 32)


def test_tokens_whose_places_are_not_known_are_no_map() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.see, self.mix = nn.Conv3d(3, 6, (2, 8, 8), (2, 8, 8)), nn.Linear(6, 6)

        def forward(self, clip: Tensor) -> Tensor:
            return self.mix(self.see(clip).flatten(2).transpose(1, 2)).mean(1)

    clip = torch.rand(2, 3, 4, 32, 32)
    with pytest.raises(UserError, match=r"goes on with tokens.*; known are see"):
        find_layer(Tokens(), clip)
    assert activation_map(Tokens(), clip, similarity_score(), named_layer(Tokens(), "see", clip)).max() > 0


@pytest.mark.parametrize("name", sorted(TRANSFORMERS))
def test_tokens_of_transformers_lie_where_their_patches_lie(name: str) -> None:
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    encoder: Any = create_model(f"hf:{name}", **TINY[name]).eval()
    clip = torch.rand(1, 3, 4, 32, 32)
    tokens: list[Tensor] = []
    encoder.token_map.register_forward_hook(lambda m, i, o: tokens.append(o.detach()))
    with torch.no_grad():
        before = encoder(clip)
        whole = encoder.model(**{encoder._pictures: clip.transpose(1, 2)}, **encoder._more)
    assert torch.allclose(before, whole.last_hidden_state.mean(1), atol=1e-6)
    time, height, width = tokens[0].shape[2:]
    assert (height, width) == (2, 2)
    for t, y, x in ((0, 0, 1), (time - 1, 1, 0)):
        changed = clip.clone()
        deep = 4 // time
        changed[:, :, t * deep : (t + 1) * deep, y * 16 : y * 16 + 16, x * 16 : x * 16 + 16] += 3
        with torch.no_grad():
            encoder(changed)
        # Through the residual stream a token changes most by its own patch.
        moved = (tokens[-1] - tokens[0]).norm(dim=1)[0]
        assert np.unravel_index(int(moved.argmax()), moved.shape) == (t, y, x)
    assert activation_map(encoder, clip, similarity_score()).shape == (1, 4, 32, 32)


def test_torchvisions_models_are_looked_into() -> None:
    needs_torchvision()
    encoder = create_model("tv:r3d_18").eval()
    assert find_layer(encoder, torch.rand(1, 3, 4, 32, 32)).sides == (1, 2, 2)


def moving_square(frames: int = 8, side: int = 48) -> np.ndarray:
    """A bright square of 12 pixels that goes from left to right along the top of a wall with a pattern."""
    rng = np.random.default_rng(0)
    wall, coat = (np.kron(rng.integers(0, 60, (n, n, 1)), np.ones((3, 3, 3))) for n in (-(-side // 3), 4))
    clip = np.repeat(wall[None, :side, :side].astype(np.uint8), frames, axis=0)
    for t in range(frames):
        clip[t, 4:16, 2 + 3 * t : 14 + 3 * t] = 180 + coat
    return clip


@pytest.mark.parametrize("kind", ["difference", "flow"])
def test_the_moving_area_is_where_the_square_goes(kind: Any) -> None:
    if kind == "flow":
        pytest.importorskip("cv2")
    clip = moving_square()
    area = moving_area(clip, kind)
    assert area.shape == clip.shape[:3]
    assert area[:, :20].sum() > 0.85 * area.sum()
    assert all(area[t, 6:14, 4 + 3 * t : 12 + 3 * t].mean() > 0.6 for t in range(1, 7))
    assert 0.02 < area.mean() < 0.3
    assert not moving_area(frozen(clip), kind).any()


def test_difference_is_that_to_the_frame_before_or_after() -> None:
    clip = numbered_frames(3, 32, 32)  # brighter by 6 of 255 each
    assert np.allclose(speed_of(clip), 6 / 255, atol=1e-5)


def test_a_map_that_is_the_same_everywhere_scores_chance_exactly() -> None:
    rng = np.random.default_rng(0)
    area = rng.random((4, 8, 8)) < 0.3
    assert mass_on(np.full((4, 8, 8), 0.7, np.float32), area) == pytest.approx(area.mean(), abs=1e-12)
    assert mass_on(area.astype(np.float32), area) == 1
    assert mass_on((~area).astype(np.float32), area) == 0
    assert np.isnan(mass_on(np.zeros((4, 8, 8), np.float32), area))
    meter = MassMeter()
    meter.add("a", [np.ones((4, 8, 8), np.float32)], [area])
    meter.add("b", [np.ones((4, 8, 8), np.float32)], [~area])
    one, two = meter.finish()
    assert (one.mass, one.area, one.other) == pytest.approx((area.mean(),) * 3)
    assert two.mass == pytest.approx(two.area) == pytest.approx(two.other)


def test_preference_is_of_means_whatever_the_sizes() -> None:
    moving, still = np.zeros((2, 8, 8), bool), np.zeros((2, 8, 8), bool)
    moving[:, :2], still[:, 3:] = True, True
    even = np.ones((2, 8, 8), np.float32)
    assert preference(even, moving, still) == 0.5
    assert preference(moving.astype(np.float32), moving, still) == 1
    assert preference(still.astype(np.float32), moving, still) == 0
    assert preference(even + 2 * moving.astype(np.float32), moving, still) == pytest.approx(0.75)
    assert np.isnan(preference(even, moving, np.zeros_like(still)))


def test_a_still_actor_in_every_video_of_a_list(scenes: Path, tmp_path: Path) -> None:
    words = (*SMALL, scenes / "test.txt", "--score", "--workers", "0")
    for probe in ("pasted", "mixed"):
        run(*words, "--probe", probe, "--out", tmp_path / probe)
    rows = [
        json.loads((tmp_path / probe / "results.json").read_text())["rows"] for probe in ("pasted", "mixed")
    ]
    assert rows[0][-1]["metric"] == "prefers_motion_to_still"
    assert 0 < rows[0][-1]["value"] < 1
    assert "prefers_motion_to_still" not in [row["metric"] for row in rows[1]]


def test_every_videos_motion_is_also_laid_under_another_videos_map() -> None:
    shape = (2, 4, 4)
    areas = [np.zeros(shape, bool) for _ in range(3)]
    for place, area in enumerate(areas):
        area[:, place] = True
    meter = MassMeter()
    for name, area in zip("abc", areas, strict=True):
        meter.add(name, [area.astype(np.float32)], [area])
        meter.leave_out(f"{name} broken", "no such file")
    found = {one.path: one for one in meter.finish()}
    assert [(found[name].mass, found[name].other) for name in "abc"] == [(1, 0)] * 3
    alone = MassMeter()
    alone.add("a", [areas[0].astype(np.float32)], [areas[0]])
    assert np.isnan(alone.finish()[0].other)  # there is no other video


def test_probes_do_what_they_say() -> None:
    clip = moving_square()
    still = frozen(clip)
    assert (still == clip[4]).all()

    other = np.full_like(clip, 10)
    other[:, 30:42, 20:32] = 240
    other[::2, 30:42, 20:32] = 200  # what changes in it
    result = pasted(clip, other, at=(0.25, 0.75))
    changed = (result != clip).any(3)
    assert (changed == changed[0]).all()
    rows, columns = np.nonzero(changed[0])
    side = round(ACTOR * 48)
    assert max(np.ptp(rows), np.ptp(columns)) < side
    assert abs(rows.mean() - 36) < 2.5  # its centre, at three quarters of the height
    assert abs(columns.mean() - 12) < 2.5
    assert result[:, rows, columns].max() == 200  # the middle frame's actor, in every frame
    assert not (pasted(clip, other) != clip).any(3)[:, :16].any()  # left to itself, away from what moves

    blend = mixed(clip, other, 0.25)
    expected = 0.75 * clip + 0.25 * other[4]
    assert np.abs(blend - expected).max() <= 1
    assert make_probe("clip", clip, other) is clip


def test_the_overlay_is_lighter_where_the_map_is_higher_and_colour_is_the_maps_alone() -> None:
    clip = np.full((1, 4, 11, 3), (90, 120, 60), np.uint8)
    ramp = np.broadcast_to(np.linspace(0, 1, 11, dtype=np.float32), (1, 4, 11))
    for colours in ("inferno", "magma", "viridis", "cividis"):
        light = overlay(clip, ramp, colours)[0, 0] @ np.array([0.299, 0.587, 0.114])
        assert light[-1] > light[0] + 50
        assert (np.diff(light[3:]) > 0).all()


def run(*words: object) -> None:
    cli.run(["look", *map(str, words)])


SMALL = ("--weights", "none", "--backbone", "tiny", "--frames", "6", "--stride", "2", "--resize", "48",
         "--size", "48")  # fmt: skip


@pytest.fixture
def square(tmp_path: Path) -> Path:
    path = tmp_path / "square.mp4"
    write_video(path, moving_square(16, 64))
    return path


@pytest.mark.parametrize("ending", [".png", ".jpg", ".gif", ".mp4"])
def test_a_look_in_every_format(
    square: Path, tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / f"look{ending}"
    run(*SMALL, square, "--out", out, "--probe", "all", "--map", "grad-cam")
    told = capsys.readouterr().err
    assert "random: grad-cam at stages (3x3x3)" in told
    for probe in ("frozen", "pasted", "mixed"):
        assert f"{probe}: similarity to the clip" in told
    if ending == ".mp4":
        assert probe_video(out).frames == 6
    else:
        picture = Image.open(out)
        assert getattr(picture, "n_frames", 1) == (6 if ending == ".gif" else 1)
        assert min(picture.size) > 2 * 176  # small clips are enlarged
    with pytest.raises(UserError, match="already exists"):
        run(*SMALL, square, "--out", out)


def test_a_video_shorter_than_the_clip_is_looped_in_every_probe(small_list: Path, tmp_path: Path) -> None:
    short = small_list.parent / "walk" / "clip 0.mp4"
    run(*SMALL, short, "--out", tmp_path / "a.png", "--probe", "all", "--stride", "4", "--start", "0")
    with pytest.raises(UserError, match="has 12 frames; a clip that reaches over 21 cannot begin"):
        run(*SMALL, short, "--out", tmp_path / "b.png", "--stride", "4", "--start", "1")


@pytest.mark.parametrize("modality", ["rgbdiff", "flow"])
def test_networks_of_change_and_of_flow_are_shown_over_colours(
    square: Path, tmp_path: Path, modality: Any
) -> None:
    from dsm.analyse.look import Looker, read_frames_of
    from dsm.datasets.reading import ClipConfig

    if modality == "flow":
        pytest.importorskip("cv2")
    clip = ClipConfig(frames=4, stride=2, resize=48, size=48, modality=modality)
    looker = Looker(create_model("tiny", in_channels=2 if modality == "flow" else 3), clip)
    frames = read_frames_of(square, clip)
    assert frames.shape == (5, 48, 48, 3)
    assert looker.shown(frames).shape == (4, 48, 48, 3)
    assert looker.look(frames[None]).maps.shape == (1, 4, 48, 48)


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small classifier of two classes."""
    path = tmp_path_factory.mktemp("weights") / "classifier.pt"
    model = {"widths": [4, 6, 8, 10], "pooling": "avgmax"}
    config = {
        "method": "finetune", "backbone": "tiny", "model": model, "classes": ["walk", "wave"],
        "settings": {"seed": 3},
        "clip": {"frames": 4, "stride": 2, "resize": 48, "size": 48},
    }  # fmt: skip
    torch.manual_seed(0)
    module = Classifier(create_model("tiny", **model), 2)
    state = {f"query.{name}": tensor for name, tensor in module.state_dict().items()}
    torch.save({"format": 1, "config": json.dumps(config), "method": state}, path)
    return path


def test_a_classifier_is_asked_for_a_class_by_name_or_number(
    classifier: Path, square: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = []
    for place, aim in enumerate((["--target-class", "wave"], ["--target-class", "1"],
                                 ["--target-class", "walk"], [])):  # fmt: skip
        out = tmp_path / f"{place}.png"
        run("--weights", classifier, square, "--out", out, *aim)
        pictures.append(np.asarray(Image.open(out)))
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])
    told = capsys.readouterr().err
    assert "encoder.stages" in told
    assert "clip: w" in told


def test_a_classifier_over_a_list_is_named_with_its_seed(
    classifier: Path, scenes: Path, tmp_path: Path
) -> None:
    words = (
        "--weights",
        classifier,
        scenes / "test.txt",
        "--score",
        "--workers",
        "0",
        "--out",
        tmp_path / "a",
    )
    run(*words, "--target-class", "walk")
    rows = json.loads((tmp_path / "a" / "results.json").read_text())["rows"]
    assert {(row["run"], row["seed"], row["test"]) for row in rows} == {("finetune", 3, "test")}
    with pytest.raises(UserError, match="holds a look of other settings"):
        run(*words, "--target-class", "wave")


def test_a_small_transformer_goes_through_the_command(square: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    encoder = create_model("hf:videomae", **TINY["videomae"])
    config = {
        "method": "moco", "backbone": "hf:videomae", "model": TINY["videomae"],
        "clip": {"frames": 4, "stride": 2, "resize": 32, "size": 32},
    }  # fmt: skip
    state = {f"query.encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    weights = tmp_path / "videomae.pt"
    torch.save({"format": 1, "config": json.dumps(config), "method": state}, weights)
    run("--weights", weights, square, "--out", tmp_path / "a.gif", "--target", square)
    assert Image.open(tmp_path / "a.gif").n_frames == 4  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="does not take clips of 3x4x48x48"):
        run("--weights", weights, square, "--out", tmp_path / "b.gif", "--resize", "48", "--size", "48")


def test_the_score_of_a_list_goes_on_after_bad_files(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (scenes / "test.txt").read_text().splitlines()[:5]
    one_frame, still = tmp_path / "one.mp4", tmp_path / "still.mp4"
    write_video(one_frame, moving_square(1, 64))
    write_video(still, np.repeat(moving_square(1, 64), 12, axis=0))
    listed = tmp_path / "some.txt"
    paths = [str(scenes / line.rsplit(" ", 2)[0]) for line in lines]
    listed.write_text("".join(f"{path}\n" for path in [*paths, "missing.mp4", str(one_frame), str(still)]))
    run(*SMALL, listed, "--score", "--out", tmp_path / "out", "--windows", "2", "--workers", "0")
    told = capsys.readouterr()
    assert "missing.mp4: no such file" in told.err.replace("\n", "")
    assert told.err.count("nothing moves in it") == 2
    assert "5 videos, 3 left out" in told.err
    record = json.loads((tmp_path / "out" / "results.json").read_text())
    rows = {row["metric"]: row for row in record["rows"]}
    assert list(rows) == ["map_mass_on_motion", "motion_area", "map_mass_above_area",
                          "other_map_mass_on_motion", "map_mass_above_other_map"]  # fmt: skip
    assert {(row["run"], row["test"], row["n"]) for row in rows.values()} == {("random", "some", 5)}
    with (tmp_path / "out" / "look.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == 8
    masses = [float(one["map_mass_on_motion"]) for one in table if not one["left_out"]]
    areas = [float(one["motion_area"]) for one in table if not one["left_out"]]
    assert rows["map_mass_on_motion"]["value"] == pytest.approx(np.mean(masses), abs=1e-4)
    difference = rows["map_mass_above_area"]
    assert difference["value"] == pytest.approx(np.mean(masses) - np.mean(areas), abs=1e-4)
    assert difference["low"] <= difference["value"] <= difference["high"]


def test_intervals_draw_whole_groups_where_they_are_given(scenes: Path, tmp_path: Path) -> None:
    words = (*SMALL, scenes / "test.txt", "--score", "--workers", "0")
    run(*words, "--out", tmp_path / "videos")
    run(*words, "--out", tmp_path / "groups", "--group-regex", r"(\d)\.mp4")  # each its own
    run(*words, "--out", tmp_path / "one", "--group-regex", "test")  # all together
    found = {
        name: json.loads((tmp_path / name / "results.json").read_text())["rows"][0]
        for name in ("videos", "groups", "one")
    }
    assert len({row["value"] for row in found.values()}) == 1
    assert found["videos"]["low"] == pytest.approx(found["groups"]["low"])
    assert found["videos"]["low"] < found["videos"]["value"] - 0.001
    assert found["one"]["low"] == pytest.approx(found["one"]["high"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("square.mp4", "--out", "a.jpeg"), "must end in one of .png, .jpg, .gif, .mp4"),
        (("list.txt", "--out", "a.png"), "is a list; give --score"),
        (("list.txt", "--score", "--out", "a.png"), "--out is a folder"),
        (("square.mp4", "--score", "--out", "out"), "is not a UTF-8 text file"),
        (("list.txt", "--score", "--out", "out", "--probe", "all"), "takes one --probe"),
        (("missing.mp4", "--out", "a.png"), "no such file"),
        (("rubbish.mp4", "--out", "a.png"), "cannot be decoded"),
        (("one.mp4", "--out", "a.png"), "one.mp4: has one frame"),
        (("square.mp4", "--out", "a.png", "--target", "one.mp4"), "one.mp4: has one frame"),
        (("square.mp4", "--out", "a.png", "--target-class", "wave"), "encoder without labels"),
        (("square.mp4", "--out", "a.png", "--frames", "1"), "clips of one frame"),
        (("square.mp4", "--out", "a.png", "--mix", "1.5"), "are shares"),
        (("square.mp4", "--out", "a.png", "--layer", "stages.stage4"), "did you mean 'stages.stage3'"),
        (("square.mp4", "--out", "a.png", "--size", "2", "--resize", "2"), "try a larger --size"),
        (("square.mp4", "--out", "a.png", "--head", "projection"), "no projection head"),
    ],
)
def test_wrong_settings_are_one_sentence(
    square: Path, words: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(square.parent)
    write_video("one.mp4", moving_square(1, 64))
    Path("rubbish.mp4").write_bytes(b"\x00\xff no video " * 100)
    Path("list.txt").write_text("square.mp4\n")
    with pytest.raises(UserError, match=said):
        run(*SMALL, *words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--target-class", "wavee"), "no class is called 'wavee'; did you mean 'wave'"),
        (("--target-class", "2"), "the classes are numbered 0 to 1"),
        (("--target", "square.mp4"), "asked for a --target-class"),
    ],
)
def test_wrong_questions_to_a_classifier_are_one_sentence(
    classifier: Path, square: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        run("--weights", classifier, square, "--out", tmp_path / "a.png", *words)
