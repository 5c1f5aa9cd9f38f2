"""The disturbances in other pipelines."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dsm.disturb import LocalWarp, SmoothWarp, SpatialMix, TemporalMix
from dsm.disturb.transforms import Disturb


def videos(*lead: int) -> torch.Tensor:
    """(…, T, C, H, W), uint8."""
    return torch.randint(
        0, 256, (*lead, 6, 3, 32, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


@pytest.mark.parametrize("lead", [(), (3,), (2, 2)])
def test_videos_may_have_any_leading_dimensions(lead: tuple[int, ...]) -> None:
    video = videos(*lead)
    for kind in (SmoothWarp(), LocalWarp(), SpatialMix(), TemporalMix(shift=0, freeze=0, speed=0)):
        found = Disturb(kind)(video)
        assert found.shape == video.shape
        assert found.dtype == torch.uint8
        assert not torch.equal(found, video)


def test_a_tv_video_is_disturbed_like_a_tensor() -> None:
    torch.manual_seed(4)
    found = Disturb(SmoothWarp())(videos())
    torch.manual_seed(4)
    seed = int(torch.randint(2**62, ()))
    expected = SmoothWarp()(videos().transpose(0, 1)[None], seed)
    assert torch.equal(found, expected[0].transpose(0, 1))


def test_torchs_seed_determines_the_transform() -> None:
    transform = nn.Sequential(Disturb(SmoothWarp()), Disturb(TemporalMix()))
    results = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        results.append(transform(videos(2)))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert "SmoothWarp(strength=1.0" in repr(transform)


def test_it_works_in_a_torchvision_pipeline() -> None:
    try:
        from torchvision import tv_tensors
        from torchvision.transforms import v2
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchvision cannot be imported here ({error})")
    video = tv_tensors.Video(videos())
    transform = v2.Compose([v2.RandomCrop(24), Disturb(SmoothWarp()), v2.ToDtype(torch.float32, scale=True)])
    found = transform(video)
    assert isinstance(found, tv_tensors.Video)
    assert found.shape == (6, 3, 24, 24)
    assert found.dtype == torch.float32
    assert 0 <= found.min() < found.max() <= 1
