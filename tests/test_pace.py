"""The pace of a curriculum: when it rises and falls, and what it needs to continue."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from dsm.methods import create_method
from dsm.methods.pace import FALL, RISE, Pace
from dsm.methods.settings import DsmConfig, MethodSettings
from dsm.models.zoo import create_model

KEYS = F.normalize(torch.randn(32, 8, generator=torch.Generator().manual_seed(0)))
LOST = KEYS.roll(1, 0)
"""Each is nearest to the key of another clip."""


def test_the_level_rises_with_positives_found_and_falls_faster_without() -> None:
    pace = Pace(ramp=0.5)
    for step in range(1, 11):
        pace.see(KEYS, KEYS)
        pace.after_step(step / 100)
    assert float(pace.level) == pytest.approx(10 * RISE / 50)
    levels = []
    for step in range(11, 61):
        pace.see(LOST, KEYS)
        pace.after_step(step / 100)
        levels.append(float(pace.level))
    falls = [one - two for one, two in pairwise(levels) if one > two > 0]
    assert falls
    assert falls == pytest.approx([FALL / 50] * len(falls), abs=1e-6)
    assert levels[-1] == 0


def test_parts_of_a_batch_count_as_one_step() -> None:
    whole, parts = Pace(ramp=0.5), Pace(ramp=0.5)
    whole.see(KEYS, KEYS)
    parts.see(KEYS, KEYS)
    parts.see(KEYS, KEYS)
    for pace in (whole, parts):
        pace.after_step(0.1)
    assert torch.equal(whole.level, parts.level)
    assert torch.equal(whole.found, parts.found)


def test_it_works_in_double_precision() -> None:
    pace = Pace(ramp=0.5).double()
    pace.see(KEYS.double(), KEYS.double())
    pace.after_step(0.1)
    assert float(pace.level) == pytest.approx(0.4)


def test_it_is_part_of_the_checkpoint() -> None:
    settings = MethodSettings(dsm=DsmConfig())
    one, two = (create_method("dsm", create_model("tiny"), settings) for _ in range(2))
    assert float(one.level) == 0
    one.pace.see(KEYS, KEYS)
    one.after_step(None, 0.125)
    assert float(one.level) == 0.5
    two.load_state_dict(one.state_dict())
    assert float(two.level) == 0.5


def test_other_methods_break_scenes_in_full() -> None:
    assert create_method("moco", create_model("tiny"), MethodSettings()).level == 1.0
