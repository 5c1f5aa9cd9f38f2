"""Published models of other sizes, files and preprocessors than usual: features are still the library's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from published import FRAMES, RESIZE, SAVED, SIZE, expected_feature, save_published
from test_adapters import TINY

from dsm.data.reading import crop
from dsm.data.settings import clip_of
from dsm.evaluate.extract import to_input
from dsm.models.weights import load_weights

CPU = torch.device("cpu")
OTHERS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "tubelets of one frame": ("videomae", {"tubelet_size": 1}, {}),
    "tubelets of four": ("videomae", {"tubelet_size": 4, "num_frames": 8}, {}),
    "tubelets of ViViT": ("vivit", {"tubelet_size": [4, 8, 8], "num_frames": 8}, {}),
    "small patches": ("timesformer", {"patch_size": 8}, {}),
    "attention over all places": ("timesformer", {"attention_type": "joint_space_time"}, {}),
    "a side as a list": ("videomae", {"image_size": [32, 32]}, {}),
    "a side as a number": ("videomae", {}, {"size": RESIZE, "crop_size": SIZE}),
    "a side as a square": ("dinov2", {}, {"size": {"height": RESIZE, "width": RESIZE}}),
    "no crop": ("videomae", {}, {"size": {"shortest_edge": SIZE}, "do_center_crop": False}),
    "no resize": ("videomae", {}, {"do_resize": False}),
    "pixels of 255": ("videomae", {}, {"do_rescale": False}),
    "no mean and std": ("vivit", {}, {"do_normalize": False}),
    "no offset": ("vivit", {}, {"offset": False, "rescale_factor": 1 / 255}),
    "another resampling": ("videomae", {}, {"resample": 3}),
    "positions of larger pictures": ("dinov2", {"image_size": 64}, {}),
}


@pytest.mark.parametrize("name", list(OTHERS))
def test_features_are_the_librarys_for_other_settings(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family, settings, pictures = OTHERS[name]
    saved = SAVED[family]
    changed = {**saved.settings(family), **settings}
    monkeypatch.setitem(
        SAVED,
        family,
        replace(saved, settings=lambda _: changed, pictures={**saved.pictures, **pictures}),
    )
    model = save_published(family, tmp_path)
    loaded = load_weights(f"hf:{tmp_path}")
    clip = clip_of(loaded.config["clip"])
    frames = np.random.default_rng(0).integers(0, 256, (clip.frames, clip.resize, clip.resize, 3), np.uint8)
    expected = expected_feature(family, model, frames)
    cut = torch.from_numpy(crop(frames, clip.size, (0.5, 0.5)))[None]
    with torch.no_grad():
        features = loaded.module(to_input(cut, "rgb", CPU))
    assert (features - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_half_weights_in_shards_are_those_of_the_library(precision: torch.dtype, tmp_path: Path) -> None:
    model = save_published("videomae", tmp_path / "whole").to(precision)
    save_published("videomae", tmp_path / "shards")
    (tmp_path / "shards" / "model.safetensors").unlink()
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("model-*-of-*.safetensors"))) > 1
    clip = torch.randn(1, 3, FRAMES, SIZE, SIZE)
    module: Any = load_weights(f"hf:{tmp_path / 'shards'}").module
    assert next(module.parameters()).dtype == torch.float32
    with torch.no_grad():
        inner = module.converted(clip)
        expected = model.float().fc_norm(model.videomae(inner.transpose(1, 2)).last_hidden_state.mean(1))
        assert torch.allclose(module(clip), expected, atol=1e-5)


def test_siglip_without_its_pooling_gives_the_mean_of_its_tokens(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.SiglipVisionConfig(**TINY["siglip"], vision_use_head=False)
    model = transformers.SiglipVisionModel(config).eval()
    model.save_pretrained(tmp_path)
    module: Any = load_weights(f"hf:{tmp_path}").module
    clip = torch.randn(1, 3, 2, SIZE, SIZE)
    with torch.no_grad():
        expected = model(module.converted(clip)[0].transpose(0, 1)).last_hidden_state.mean(1).mean(0)
        assert torch.allclose(module(clip)[0], expected, atol=1e-5)
