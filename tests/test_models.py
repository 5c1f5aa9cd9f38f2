"""Encoders: shapes, gradients, and I3D against the outputs of the paper's code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dsm.errors import UserError
from dsm.models.backbone import Triple, pool
from dsm.models.i3d import MaxPool, pad_same
from dsm.models.precision import Precision, encode
from dsm.models.weights import load_encoder, load_weights
from dsm.models.zoo import MODELS, create_model

# Deeper ones of the same blocks are slow.
DEEPER = ("r2plus1d18", "r2plus1d34", "r3d34", "s3dg")
NAMES = [pytest.param(name, marks=[pytest.mark.slow] * (name in DEEPER)) for name in sorted(MODELS)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("channels", "clips"),
    [(3, [(8, 64), (1, 16), (5, 33)]), pytest.param(2, [(16, 48)], marks=pytest.mark.slow)],
)
def test_any_clip_gives_features(name: str, channels: int, clips: list[tuple[int, int]]) -> None:
    model = create_model(name, in_channels=channels).eval()
    for frames, size in clips:
        clip = torch.randn(1, channels, frames, size, size)
        with torch.no_grad():
            assert model(clip).shape == (1, model.feature_dim), clip.shape
            assert model.feature_map(clip).ndim == 5, clip.shape


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_gets_a_finite_gradient(name: str) -> None:
    torch.manual_seed(0)
    model = create_model(name)
    model(torch.randn(2, 3, 8, 32, 32)).square().mean().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("frames", "size"), [(8, 64), (16, 112)])
@pytest.mark.parametrize("channels", [3, 2])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_backbone_trains_a_step(
    name: str, channels: int, frames: int, size: int, precision: Precision
) -> None:
    torch.manual_seed(0)
    model: Any = create_model(name, in_channels=channels).to(memory_format=torch.channels_last_3d)
    head = torch.nn.Linear(model.feature_dim, 4)
    optimiser = torch.optim.SGD([*model.parameters(), *head.parameters()], lr=1e-3)
    before = [parameter.clone() for parameter in model.parameters()]
    clip = torch.randn(2, channels, frames, size, size).contiguous(memory_format=torch.channels_last_3d)
    loss = F.cross_entropy(head(encode(model, clip, precision)), torch.tensor([0, 3]))
    loss.backward()
    assert loss.isfinite()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
    optimiser.step()
    moved = [not torch.equal(one, two) for one, two in zip(before, model.parameters(), strict=True)]
    assert sum(moved) > 0.9 * len(moved)
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_xavier_initialisation_is_optional() -> None:
    torch.manual_seed(0)
    module: Any = load_weights("none", backbone="r3d18", init="xavier").module
    weight = module.stages.layer2[0].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (2 * 128 * 27)) ** 0.5, rel=0.02)


@pytest.mark.parametrize("pooling", ["avg", "max", "avgmax", "gem"])
def test_pooling_equals_its_definition(pooling: str) -> None:
    feature_map = torch.randn(2, 3, 2, 4, 4)
    flat = feature_map.flatten(2)
    expected = {
        "avg": flat.mean(2),
        "max": flat.max(2).values,
        "avgmax": torch.cat([flat.mean(2), flat.max(2).values], 1),
        "gem": flat.clamp(min=1e-6).pow(3).mean(2).pow(1 / 3),
    }  # fmt: skip
    assert torch.allclose(pool(feature_map, pooling), expected[pooling], atol=1e-6)
    assert create_model("tiny", pooling=pooling).feature_dim == 128 * (2 if pooling == "avgmax" else 1)


def test_the_stem_of_tiny3d_sees_motion_and_that_of_tiny_does_not() -> None:
    clip = torch.randn(1, 3, 8, 32, 32)
    for name, sees in (("tiny", False), ("tiny3d", True)):
        stem = create_model(name).eval().stages.stem  # type: ignore[union-attr]
        backwards = stem(clip.flip(2)).flip(2)
        assert torch.allclose(stem(clip), backwards, atol=1e-5) != sees


@pytest.mark.parametrize("pooling", ["max", "avgmax"])
def test_tiny2d_is_the_mean_of_its_frames_features(pooling: str) -> None:
    """So frames in another order, or each frame twice, give the same features."""
    torch.manual_seed(1)
    model = create_model("tiny2d", pooling=pooling).eval()
    clip = torch.randn(2, 3, 6, 40, 32)
    with torch.no_grad():
        whole, alone = model(clip), [model(clip[:, :, at : at + 1]) for at in range(6)]
        assert torch.allclose(whole, torch.stack(alone).mean(0), atol=1e-5)
        assert torch.allclose(whole, model(clip[:, :, torch.randperm(6)]), atol=1e-5)
    assert (alone[0] - alone[1]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("length", "kernel", "stride", "expected"),
    # TensorFlow's documentation: ceil(n / stride) outputs, with the odd zero at the end.
    [(112, 7, 2, (2, 3)), (113, 7, 2, (3, 3)), (7, 2, 2, (0, 1)), (8, 3, 1, (1, 1)), (4, 1, 2, (0, 0))],
)
def test_same_padding_equals_its_definition(
    length: int, kernel: int, stride: int, expected: tuple[int, int]
) -> None:
    x = torch.ones(1, 1, 1, 1, length)
    padded = pad_same(x, (1, 1, kernel), (1, 1, stride))
    before, after = expected
    assert padded.shape[-1] == length + before + after
    assert padded[..., :before].sum() == 0
    assert F.max_pool3d(padded, (1, 1, kernel), (1, 1, stride)).shape[-1] == -(-length // stride)


I3D_POOLS = [((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (1, 1, 1)), ((3, 3, 3), (2, 2, 2)), ((2, 2, 2), (2, 2, 2))]


@pytest.mark.parametrize(("kernel", "stride"), I3D_POOLS)
@pytest.mark.parametrize("size", [(1, 1, 2), (2, 3, 7), (4, 8, 5)])
def test_max_pooling_pads_with_zeros(kernel: Triple, stride: Triple, size: Triple) -> None:
    x = torch.rand(2, 3, *size, requires_grad=True)
    ours, padded = MaxPool(kernel, stride)(x), F.max_pool3d(pad_same(x, kernel, stride), kernel, stride)
    assert torch.equal(ours, padded)
    assert torch.equal(*(torch.autograd.grad(y.square().sum(), x)[0] for y in (ours, padded)))


def filled(index: int, name: str, shape: list[int]) -> torch.Tensor:
    """The golden files' weights: a formula of the tensor's index and kind, in float64."""
    b = np.sin(0.7391 * np.arange(int(np.prod(shape))) + 1.37 * index)
    if name.endswith("num_batches_tracked"):
        b = b * 0
    elif name.endswith("running_var"):
        b = 1 + 0.25 * b
    elif name.endswith("running_mean"):
        b = 0.05 * b
    elif len(shape) == 1:
        b = 1 + 0.1 * b if name.endswith("weight") else 0.02 * b
    else:
        b = b * np.sqrt(2 / np.prod(shape[1:]))
    return torch.from_numpy(b.reshape(shape))


def test_i3d_gives_the_outputs_of_the_papers_code(shared: Path) -> None:
    golden = np.load(shared / "golden" / "model_i3d.npz")
    names = json.loads((shared / "golden" / "original_state_dicts.json").read_text())["i3d"]["keys"]
    model = create_model("i3d").double().eval()
    state = model.state_dict()
    theirs = [filled(i, name, shape) for i, (name, shape) in enumerate(names.items())]
    assert len(theirs) == len(state) + 2  # and a projection: weight and bias
    for mine, value in zip(state, theirs, strict=False):
        state[mine] = value.reshape(state[mine].shape).to(state[mine].dtype)
    model.load_state_dict(state)
    x = torch.from_numpy(np.sin(0.0137 * np.arange(2 * 3 * 16 * 112 * 112)).reshape(2, 3, 16, 112, 112))
    with torch.no_grad():
        features = model(x)
    assert np.allclose(features, golden["map_mean"], atol=1e-6)
    embedding = F.normalize(features @ theirs[-2].T + theirs[-1], dim=1)
    assert np.allclose(embedding, golden["embedding"], atol=1e-6)


def test_an_unknown_model_is_refused_with_similar_names() -> None:
    with pytest.raises(UserError, match=r"unknown backbone 'i3'; did you mean 'i3d'"):
        create_model("i3")


def test_random_weights_come_from_the_seed() -> None:
    models = []
    for _ in range(2):
        torch.manual_seed(5)
        models.append(load_weights("none", backbone="tiny").module)
    clip = torch.randn(1, 3, 8, 32, 32)
    assert torch.equal(models[0](clip), models[1](clip))


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut short"])
def test_a_file_that_is_not_a_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"w.pt is not a checkpoint"):
        load_encoder(tmp_path / "w.pt")


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(UserError, match="no encoder known to dsm"):
        load_encoder(tmp_path / "other.pt")
    with pytest.raises(UserError, match="has no checkpoint"):
        load_encoder(tmp_path)
