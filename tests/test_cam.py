"""Maps of where a network looks: their places, their sum, and their layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_adapters import TINY, needs_torchvision
from torch import Tensor, nn

from dsm.errors import UserError
from dsm.evaluate.cam import (
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
from dsm.models.families import FAMILIES
from dsm.models.foreign import Renormalized
from dsm.models.heads import Classifier
from dsm.models.sources import Normalization
from dsm.models.zoo import MODELS, create_model


class Corner(nn.Module):
    """Sees only the upper left eighth of each side of the picture, and the first half of the time."""

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


def test_the_map_of_an_encoder_that_sees_one_corner_is_there() -> None:
    clip = torch.rand(2, 3, 8, 64, 64)
    kinds: tuple[MapKind, ...] = ("cam", "grad-cam")
    for kind in kinds:
        maps = activation_map(Corner(), clip, similarity_score(), kind=kind)
        assert maps.shape == (2, 8, 64, 64)
        # Resizing 8x8 places to 64x64 pixels smears a place into half of each neighbour.
        assert maps[:, :4, :12, :12].sum() == pytest.approx(float(maps.sum()), rel=1e-5)
        assert maps[:, :4, :8, :8].sum() > 0.6 * maps.sum()
        unit = to_unit(maps)
        assert unit.min() >= 0
        assert unit.amax((1, 2, 3)).tolist() == [1, 1]


def tiny_classifier(pooling: str, classes: int = 5) -> Classifier:
    torch.manual_seed(1)
    model = Classifier(create_model("tiny", widths=(4, 6, 8, 10), pooling=pooling), classes, dropout=0.5)
    return model.eval()


def test_cam_with_average_pooling_is_the_classic_class_activation_map() -> None:
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
def test_contributions_of_places_sum_to_the_score_for_any_pooling(pooling: str) -> None:
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
def test_grad_cam_equals_slow_finite_differences(pooling: str) -> None:
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


def test_computing_a_map_leaves_weights_and_statistics_unchanged() -> None:
    model = create_model("tiny")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    activation_map(model, torch.rand(2, 3, 4, 32, 32), similarity_score())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(one.requires_grad and one.grad is None for one in model.parameters())


def test_the_map_for_a_target_is_high_where_the_clip_resembles_it() -> None:
    class Colours(nn.Module):
        """The mean of red, green and blue."""

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
def test_the_last_feature_map_of_every_backbone_is_found(name: str) -> None:
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


def test_a_layer_with_a_single_place_is_skipped() -> None:
    encoder = create_model("i3d").eval()
    layer = find_layer(encoder, torch.rand(1, 3, 8, 32, 32))
    assert layer.name.startswith("stages.mixed4")
    assert layer.sides[1:] == (2, 2)


def test_with_channels_last_the_input_of_the_pooling_is_used() -> None:
    class Last(nn.Module):
        """Ends like torchvision's video transformers: a norm over the last axis, then a permutation."""

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


def test_tokens_without_known_places_give_no_map() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.see, self.mix = nn.Conv3d(3, 6, (2, 8, 8), (2, 8, 8)), nn.Linear(6, 6)

        def forward(self, clip: Tensor) -> Tensor:
            return self.mix(self.see(clip).flatten(2).transpose(1, 2)).mean(1)

    clip = torch.rand(2, 3, 4, 32, 32)
    with pytest.raises(UserError, match=r"continues with tokens.*; known names: see"):
        find_layer(Tokens(), clip)
    assert activation_map(Tokens(), clip, similarity_score(), named_layer(Tokens(), "see", clip)).max() > 0


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_transformer_tokens_are_placed_at_their_patches(name: str) -> None:
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    encoder: Any = create_model(f"hf:{name}", **TINY[name]).eval()
    clip = torch.rand(1, 3, 4, 32, 32)
    tokens: list[Tensor] = []
    encoder.token_map.register_forward_hook(lambda m, i, o: tokens.append(o.detach()))
    with torch.no_grad():
        encoder(clip)
        rows = encoder.tokens(clip)
    assert rows.shape[0] == 1
    assert rows.shape[-1] == 32
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


def test_maps_work_for_torchvision_models() -> None:
    needs_torchvision()
    encoder = create_model("tv:r3d_18").eval()
    assert find_layer(encoder, torch.rand(1, 3, 4, 32, 32)).sides == (1, 2, 2)
