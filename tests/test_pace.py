"""The pace of training: when the level falls and rises, and what it needs to continue."""

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


def test_the_level_falls_without_positives_found_and_rises_more_slowly_with_them() -> None:
    pace = Pace(ramp=0.5)
    levels = [1.0]
    for step in range(1, 41):
        pace.see(LOST if step < 20 else KEYS, KEYS)
        pace.after_step(step / 100)
        levels.append(float(pace.level))
    turn = levels.index(0.0)
    falls = [one - two for one, two in pairwise(levels[:turn]) if one > two]
    rises = [two - one for one, two in pairwise(levels[turn:]) if one < two < 1]
    assert falls == pytest.approx([FALL / 50] * len(falls), abs=1e-6)
    assert rises == pytest.approx([RISE / 50] * len(rises), abs=1e-6)
    assert len(falls) > 5
    assert len(rises) > 10


def test_the_level_stays_while_positives_are_found_a_few_times_as_often_as_by_chance() -> None:
    pace = Pace(ramp=0.5)
    some = torch.where(torch.arange(32)[:, None] < 4, KEYS, LOST)  # 4 of 32: four times chance
    for step in range(1, 41):
        pace.see(some, KEYS)
        pace.after_step(step / 100)
    assert float(pace.found) == pytest.approx(4, abs=0.1)
    assert float(pace.level) == 1


def test_parts_of_a_batch_count_as_one_step() -> None:
    whole, parts = Pace(ramp=0.5), Pace(ramp=0.5)
    for step in range(1, 10):
        whole.see(LOST, KEYS)
        parts.see(LOST, KEYS)
        parts.see(LOST, KEYS)
        for pace in (whole, parts):
            pace.after_step(step / 100)
    assert 0 < float(whole.level) < 1
    assert torch.equal(whole.level, parts.level)
    assert torch.equal(whole.found, parts.found)


def test_it_works_in_double_precision() -> None:
    pace = Pace(ramp=0.5).double()
    pace.found.fill_(1)
    pace.see(LOST.double(), KEYS.double())
    pace.after_step(0.05)
    assert float(pace.level) == pytest.approx(1 - 0.05 / 0.5 * FALL)


def test_it_is_part_of_the_checkpoint() -> None:
    settings = MethodSettings(dsm=DsmConfig())
    one, two = (create_method("dsm", create_model("tiny"), settings) for _ in range(2))
    assert float(one.level) == 1
    one.pace.found.fill_(1)
    one.pace.see(LOST, KEYS)
    one.after_step(None, 0.05)
    assert float(one.level) == pytest.approx(0.4)
    two.load_state_dict(one.state_dict())
    assert torch.equal(two.level, one.level)


def test_other_methods_break_scenes_in_full() -> None:
    assert create_method("moco", create_model("tiny"), MethodSettings()).level == 1.0
