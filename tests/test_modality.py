"""RGB difference and optical flow: computed, saved, disturbed, trained on."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_decode import encode, moving_frames
from test_pretrain import config

from dsm.data.lists import VideoList, read_list, write_list
from dsm.data.reading import Reader
from dsm.data.settings import ClipConfig
from dsm.disturb.spatial_mix import SpatialMix
from dsm.errors import UserError
from dsm.evaluate.extract import extract_features
from dsm.methods import MethodSettings
from dsm.methods.dsm import DsmConfig
from dsm.models.weights import load_weights
from dsm.render import STD, disturb_view, to_network
from dsm.train.pretrain import pretrain
from dsm.verbs.frames import FramesConfig, frames
from dsm.video.flow import BOUND, bytes_to_flow, compute_flow, flow_to_bytes
from dsm.views import View

needs_flow = pytest.mark.skipif(
    importlib.util.find_spec("cv2") is None, reason="OpenCV is not installed (extra `flow`)"
)
# The displacement of moving_frames per frame: its content moves left and up.
X, Y = -3.0, -2.0


def middle(flow: np.ndarray) -> list[float]:
    """Median flow (x, y) over the centre, which nothing has entered from outside: (T, H, W, 2)."""
    inside = flow[:, 16:-16, 16:-16]
    return [float(np.median(inside[..., axis])) for axis in (0, 1)]


@pytest.fixture
def moving(tmp_path: Path) -> VideoList:
    encode(tmp_path / "moving.mp4", "libx264", moving_frames(40))
    videos = VideoList(["moving.mp4"], np.array([0]), np.array([40]), tmp_path)
    write_list(tmp_path / "list.txt", videos)
    return videos


@needs_flow
def test_flow_points_where_things_move() -> None:
    flow = compute_flow(moving_frames(4)).transpose(0, 2, 3, 1)
    assert flow.shape == (3, 64, 96, 2)
    assert middle(flow) == pytest.approx([X, Y], abs=0.1)
    assert middle(compute_flow(moving_frames(4)[::-1]).transpose(0, 2, 3, 1)) == pytest.approx(
        [-X, -Y], abs=0.1
    )


def test_saved_flow_is_read_back() -> None:
    flow = np.random.default_rng(0).uniform(-BOUND, BOUND, (3, 2, 8, 8)).astype(np.float32)
    assert np.abs(bytes_to_flow(flow_to_bytes(flow)) - flow).max() < 0.16
    assert (bytes_to_flow(flow_to_bytes(np.zeros((1, 2, 4, 4), np.float32))) == 0).all()


@needs_flow
def test_computed_and_saved_flow_agree_even_with_broken_motion(moving: VideoList, tmp_path: Path) -> None:
    clip = ClipConfig(frames=3, stride=2, resize=64, size=64, modality="flow")
    frames(FramesConfig(tmp_path / "list.txt", tmp_path / "flow", flow=True, workers=1, quality=95))
    saved = Reader(read_list(tmp_path / "flow" / "list.txt"), clip)
    computed = Reader(moving, clip)
    assert saved.total(0) == 39
    kinds = {"forth": [4, 6, 8, 10], "back": [10, 8, 6, 4], "frozen": [5, 5, 5, 5]}
    expected = {"forth": [2 * X, 2 * Y], "back": [-2 * X, -2 * Y], "frozen": [0, 0]}
    for reader in (saved, computed):
        found = reader.read(0, [np.array(indices) for indices in kinds.values()])
        for one, motion in zip(found, expected.values(), strict=True):
            assert one.shape == (3, 64, 96, 2)
            assert middle(one) == pytest.approx(motion, abs=0.5)


@needs_flow
def test_saved_flow_shrinks_with_its_picture(moving: VideoList, tmp_path: Path) -> None:
    frames(FramesConfig(tmp_path / "list.txt", tmp_path / "flow", flow=True, workers=1, quality=95))
    clip = ClipConfig(frames=3, stride=1, resize=48, size=48, modality="flow")
    found = Reader(read_list(tmp_path / "flow" / "list.txt"), clip).read(0, [np.arange(4)])[0]
    assert found.shape == (3, 48, 72, 2)
    assert middle(found) == pytest.approx([X * 0.75, Y * 0.75], abs=0.2)


def test_flow_rotates_with_its_picture() -> None:
    angle = np.pi / 2
    affine = torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]).float()[None]
    flow = torch.zeros(1, 2, 8, 8, 2)
    flow[..., 0] = 3.0  # to the right
    turned = disturb_view(View("a"), {"a": flow}, {"affine": affine})
    # Sampling at R p turns the picture by the inverse: right becomes up.
    assert torch.allclose(turned[0, :, 0, 4, 4], torch.tensor([0.0, -3.0]), atol=1e-5)


def test_networks_get_differences_and_clipped_flow() -> None:
    clip = torch.rand(2, 3, 5, 4, 4)
    assert torch.allclose(to_network(clip, "rgbdiff"), (clip[:, :, 1:] - clip[:, :, :-1]) / STD)
    assert to_network(clip, "rgb").shape == clip.shape
    flow = to_network(torch.full((1, 2, 3, 4, 4), 50.0), "flow")
    assert (flow == 1).all()


@pytest.mark.parametrize("method", ["be", "dsm"])
def test_mixing_pictures_into_flow_is_refused(scenes: Path, tmp_path: Path, method: str) -> None:
    mixed = MethodSettings(dsm=DsmConfig(sld=SpatialMix(smooth=0, background=1)))
    settings = config(scenes, tmp_path / "run", method=method, settings=mixed)
    with pytest.raises(UserError, match="optical flow does not allow"):
        pretrain(replace(settings, clip=replace(settings.clip, modality="flow")))
    assert not (tmp_path / "run").exists()


@needs_flow
def test_weights_of_flow_need_no_clip_settings(scenes: Path, tmp_path: Path) -> None:
    settings = config(scenes, tmp_path / "run", method="dsm")
    flow = pretrain(replace(settings, clip=replace(settings.clip, modality="flow")))
    again = replace(settings, out=tmp_path / "again", weights=str(flow), clip=ClipConfig())
    assert load_weights(pretrain(again)).config["clip"]["modality"] == "flow"


@needs_flow
@pytest.mark.parametrize("modality", ["rgbdiff", "flow"])
def test_a_run_trains_on_it_and_its_weights_record_it(scenes: Path, tmp_path: Path, modality: str) -> None:
    settings = config(scenes, tmp_path / "run", method="dsm")
    clip = replace(settings.clip, modality=modality)  # type: ignore[arg-type]
    out = pretrain(replace(settings, clip=clip))
    loaded = load_weights(out)
    assert loaded.config["clip"]["modality"] == modality
    features = extract_features(loaded.module, read_list(scenes / "test.txt"), clip, workers=0)
    assert features.features.shape == (10, 128)
    assert np.isfinite(features.features).all()
