"""The pace of training: how the level follows the encoder, and what it needs to continue."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dsm.methods import create_method
from dsm.methods.pace import Pace
from dsm.methods.settings import DsmConfig, MethodSettings
from dsm.models.zoo import create_model

KEYS = F.normalize(torch.randn(32, 8, generator=torch.Generator().manual_seed(0)))
ASTRAY = KEYS.roll(1, 0)
"""Each is nearest to the key of another clip."""


def seen(pace: Pace, anchors: Tensor, steps: int) -> float:
    """The level after so many steps with these anchors."""
    for _ in range(steps):
        pace.see(anchors, KEYS)
        pace.after_step()
    return float(pace.level)


def some(count: int) -> Tensor:
    """Anchors of which so many of 32 are nearest to their own key: as many times chance."""
    return torch.where(torch.arange(32)[:, None] < count, KEYS, ASTRAY)


def test_the_level_is_proportional_to_positives_found_between_two_rates() -> None:
    assert float(Pace().level) == 1
    assert seen(Pace(), KEYS, 5) == 1
    for count, level in ((1, 0), (2, 0), (3, 1 / 3), (4, 2 / 3), (5, 1), (8, 1)):
        assert seen(Pace(), some(count), 100) == pytest.approx(level, abs=0.01)


def test_the_level_recovers_with_the_encoder() -> None:
    pace = Pace()
    assert seen(pace, ASTRAY, 50) == 0
    assert 0 < seen(pace, some(8), 6) < 1
    assert seen(pace, some(8), 20) == 1


def test_parts_of_a_batch_count_as_one_step() -> None:
    whole, parts = Pace(), Pace()
    for _ in range(12):
        whole.see(some(3), KEYS)
        parts.see(some(2), KEYS)
        parts.see(some(4), KEYS)
        for pace in (whole, parts):
            pace.after_step()
    assert 0 < float(whole.level) < 1
    assert float(whole.found) == pytest.approx(float(parts.found))


def test_it_works_in_double_precision() -> None:
    pace = Pace().double()
    pace.see(ASTRAY.double(), KEYS.double())
    pace.after_step()
    assert float(pace.found) == pytest.approx(9)


def test_it_is_part_of_the_checkpoint() -> None:
    settings = MethodSettings(dsm=DsmConfig())
    one, two = (create_method("dsm", create_model("tiny"), settings) for _ in range(2))
    assert float(one.level) == 1
    one.pace.see(some(4), KEYS)
    one.after_step(None, 0.05)
    assert float(one.pace.found) == pytest.approx(9.4)
    two.load_state_dict(one.state_dict())
    assert torch.equal(two.pace.found, one.pace.found)


def test_other_methods_break_scenes_in_full() -> None:
    assert create_method("moco", create_model("tiny"), MethodSettings()).level == 1.0
