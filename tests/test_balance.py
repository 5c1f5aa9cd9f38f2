"""The balance of motion and scene: its definition, and encoders whose answer is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dsm.evaluate.balance import InOtherScenes, balance, batch_without_single, exchange_scenes
from dsm.render import normalize


def test_balance_equals_its_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    own, exchanged = torch.randn(2, 40, 6, generator=generator)
    lender, mean = own.roll(1, 0), own.mean(0)
    slowly = 0.0
    for o, e, s in zip(own - mean, exchanged - mean, lender - mean, strict=True):
        slowly += float(torch.cosine_similarity(e, o, dim=0) - torch.cosine_similarity(e, s, dim=0))
    assert balance(own, exchanged, lender) == pytest.approx(slowly / 40, abs=1e-6)
    assert balance(own, own, lender) == pytest.approx(-balance(own, lender, lender), abs=1e-6)


def test_an_exchanged_clip_has_the_others_scene_and_its_own_motion() -> None:
    clips = normalize(0.4 + 0.2 * torch.rand(3, 3, 5, 4, 4))
    exchanged = exchange_scenes(clips)
    assert torch.allclose(exchanged.mean(2), clips.mean(2).roll(1, 0), atol=1e-5)
    assert torch.allclose(exchanged.diff(dim=2), clips.diff(dim=2), atol=1e-5)


class Motion(nn.Module):
    """The difference of frames alone."""

    def forward(self, clips: Tensor) -> Tensor:
        return clips.diff(dim=2).flatten(1)


class Scene(nn.Module):
    """The mean frame alone."""

    def forward(self, clips: Tensor) -> Tensor:
        return clips.mean(2).flatten(1)


@pytest.mark.parametrize(("encoder", "expected"), [(Motion(), 1), (Scene(), -1)])
def test_an_encoder_of_motion_is_near_1_and_one_of_the_scene_near_minus_1(
    encoder: nn.Module, expected: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    scenes = torch.rand(60, 3, 1, 6, 6, generator=generator)
    motions = torch.rand(60, 3, 4, 6, 6, generator=generator)
    features = InOtherScenes(encoder)(normalize(0.4 + 0.1 * scenes + 0.1 * motions))
    assert balance(*features.chunk(3, 1)) == pytest.approx(expected, abs=0.05)


def test_a_clip_alone_in_its_batch_has_no_lender() -> None:
    scenes = InOtherScenes(Motion())
    for count in (3, 1, 2):
        scenes(torch.rand(count, 3, 4, 6, 6))
    assert scenes.lent == [True] * 3 + [False] + [True] * 2


@pytest.mark.parametrize("videos", range(2, 40))
@pytest.mark.parametrize("at_most", [1, 2, 3, 16])
def test_no_batch_has_a_single_clip(videos: int, at_most: int) -> None:
    size = batch_without_single(videos, at_most)
    assert size >= 2
    assert videos % size != 1
    if at_most > 1 and videos % at_most != 1:
        assert size == at_most
