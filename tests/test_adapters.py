"""Video models of other libraries as encoders, in tiny random configurations; nothing is downloaded."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import small_run

from dsm.data.settings import ClipChanges, ClipConfig
from dsm.errors import UserError
from dsm.models.families import FAMILIES
from dsm.models.foreign import find_encoder
from dsm.models.precision import channels_last, encode
from dsm.models.zoo import create_model
from dsm.train.pretrain import pretrain
from dsm.verbs.extract import ExtractConfig, extract

SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
PICTURE = {**SMALL, "image_size": 32, "patch_size": 16}
TINY: dict[str, dict[str, Any]] = {
    "clip": {**PICTURE, "intermediate_size": 32},
    "dinov2": PICTURE,
    "dinov2_with_registers": PICTURE,
    "dinov3_vit": {**PICTURE, "intermediate_size": 32, "num_register_tokens": 2},
    "siglip": {**PICTURE, "intermediate_size": 32},
    "vit": {**PICTURE, "intermediate_size": 32},
    "xclip": {**PICTURE, "intermediate_size": 32, "num_frames": 4, "mit_hidden_size": 32,
              "mit_intermediate_size": 32, "mit_num_attention_heads": 2},
    "timesformer": {**SMALL, "image_size": 32, "num_frames": 4, "intermediate_size": 32},
    "videomae": {**SMALL, "image_size": 32, "num_frames": 4, "intermediate_size": 32},
    "vivit": {**SMALL, "image_size": 32, "num_frames": 4, "tubelet_size": [2, 16, 16],
              "intermediate_size": 32},
    "vjepa2": {
        **SMALL, "crop_size": 32, "frames_per_clip": 4, "pred_hidden_size": 32,
        "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1,
    },
}  # fmt: skip


def save_small_transformer(path: Path) -> None:
    """A checkpoint of the smallest VideoMAE with random weights, as a pretraining run writes it."""
    encoder = create_model("hf:videomae", **TINY["videomae"])
    config = {
        "method": "moco", "backbone": "hf:videomae", "model": TINY["videomae"],
        "clip": {"frames": 4, "stride": 2, "resize": 32, "size": 32},
    }  # fmt: skip
    state = {f"query.encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    torch.save({"format": 1, "config": json.dumps(config), "method": state}, path)


@pytest.mark.parametrize("name", sorted(FAMILIES))
@pytest.mark.parametrize("channels", [3, 2])
def test_transformers_models_work_as_encoders(name: str, channels: int) -> None:
    pytest.importorskip("transformers")
    encoder: Any = create_model(f"hf:{name}", in_channels=channels, **TINY[name])
    clip = torch.rand(2, channels, 4, 32, 32)
    features = encoder(clip)
    assert features.shape == (2, encoder.feature_dim) == (2, 32)
    features.square().sum().backward()
    trained = {name: p for name, p in encoder.named_parameters() if p.requires_grad}
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in trained.values())
    # With several processes, every trained weight must get a gradient.
    assert [name for name, p in trained.items() if p.grad is None] == []


def needs_torchvision() -> Any:
    try:
        import torchvision
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchvision cannot be imported here ({error})")
    return torchvision


@pytest.mark.parametrize("name", ["r3d_18", "mc3_18", "s3d"])
def test_torchvision_models_work_as_encoders(name: str) -> None:
    needs_torchvision()
    encoder: Any = create_model(f"tv:{name}", in_channels=3)
    with pytest.raises(UserError, match="takes clips of 3 channels"):
        create_model(f"tv:{name}", in_channels=2)
    with torch.no_grad():
        assert encoder.eval()(torch.rand(1, 3, 16, 224, 224)).shape == (1, encoder.feature_dim)


@pytest.mark.parametrize(
    ("theirs", "ours", "settings"),
    [
        ("r3d_18", "r3d18", {"stem": "3x7x7"}),
        ("mc3_18", "r3d18", {"stem": "3x7x7", "flat_from": 2}),
        ("r2plus1d_18", "r2plus1d18", {}),
        ("s3d", "s3d", {}),
    ],
)
def test_torchvision_weights_give_the_features_of_torchvision(
    theirs: str, ours: str, settings: dict[str, Any]
) -> None:
    needs_torchvision()
    their: Any = create_model(f"tv:{theirs}").eval()
    generator = torch.Generator().manual_seed(0)
    for name, buffer in their.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith("running_mean"):
            buffer.normal_(0, 0.1, generator=generator)
    found = find_encoder({"": their.model.state_dict()})
    assert found is not None
    assert (found.source.name, found.source.backbone, found.report.share) == ("torchvision", ours, 1.0)
    our = create_model(ours, **settings).eval()
    our.load_state_dict(found.tensors)
    clip = torch.rand(1, 3, 16, 224, 224, generator=generator)
    with torch.no_grad():
        expected = their(clip)
        assert (our(clip) - expected).abs().max() < 1e-5 * expected.abs().max()


def test_a_setting_that_downloads_code_is_refused() -> None:
    pytest.importorskip("transformers")
    with pytest.raises(UserError, match="hf:videomae has no setting 'attn_implementation'"):
        create_model("hf:videomae", attn_implementation="somebody/kernel")


def test_unsupported_clips_are_refused_before_anything_is_written(scenes: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    save_small_transformer(tmp_path / "videomae.pt")
    kept = tmp_path / "out" / "checkpoints" / "kept.txt"
    kept.parent.mkdir(parents=True)
    kept.touch()
    wrong = ClipConfig(frames=4, stride=1, resize=56, size=48)
    message = "does not take clips of 3x4x48x48"
    with pytest.raises(UserError, match=message):
        pretrain(small_run(scenes, tmp_path / "out", weights=str(tmp_path / "videomae.pt"), clip=wrong,
                           overwrite=True))  # fmt: skip
    with pytest.raises(UserError, match=message):
        extract(ExtractConfig(str(tmp_path / "videomae.pt"), scenes / "train.txt", tmp_path / "f.npz",
                              clip=ClipChanges(frames=4, resize=56, size=48)))  # fmt: skip
    assert kept.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"videomae.pt", "out"}


def test_missing_models_and_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="model 'videomea'; did you mean 'videomae'"):
        create_model("hf:videomea")
    with pytest.raises(UserError, match="unknown backbone 'xy:videomae'"):
        create_model("xy:videomae")
    for package in ("transformers", "torchvision.models"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        UserError, match=r"needs transformers, which is not installed: .*dsm-video\[transformers\]"
    ):
        create_model("hf:videomae")
    with pytest.raises(UserError, match=r"torchvision, which cannot be used here.*dsm-video\[torchvision\]"):
        create_model("tv:r3d_18")


def test_a_transformer_with_2d_convolutions_computes_in_bf16() -> None:
    pytest.importorskip("transformers")
    settings = {**TINY["timesformer"], "in_channels": 3}
    encoder: Any = create_model("hf:timesformer", **settings)
    assert channels_last(encoder) is encoder  # it has a 2-D convolution
    clip = torch.rand(2, 3, 4, 32, 32)
    assert encode(encoder, clip, "bf16").dtype == torch.float32
