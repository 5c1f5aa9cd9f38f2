"""How much of a map is on motion; the probes and the overlay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import moving_square, numbered_frames

from dsm.evaluate.altered_clips import ACTOR, alter, frozen, mixed, pasted
from dsm.evaluate.motion_mass import (
    MassMeter,
    mass_on,
    moving_area,
    preference,
    speed_of,
)
from dsm.pages.film import overlay


@pytest.mark.parametrize("kind", ["difference", "flow"])
def test_the_moving_area_follows_the_square(kind: Any) -> None:
    if kind == "flow":
        pytest.importorskip("cv2")
    clip = moving_square()
    area = moving_area(clip, kind)
    assert area.shape == clip.shape[:3]
    assert area[:, :20].sum() > 0.85 * area.sum()
    assert all(area[t, 6:14, 4 + 3 * t : 12 + 3 * t].mean() > 0.6 for t in range(1, 7))
    assert 0.02 < area.mean() < 0.3
    assert not moving_area(frozen(clip), kind).any()


def test_difference_is_to_the_previous_or_next_frame() -> None:
    clip = numbered_frames(3, 32, 32)  # brighter by 6 of 255 each
    assert np.allclose(speed_of(clip), 6 / 255, atol=1e-5)


def test_a_constant_map_scores_exactly_chance() -> None:
    rng = np.random.default_rng(0)
    area = rng.random((4, 8, 8)) < 0.3
    assert mass_on(np.full((4, 8, 8), 0.7, np.float32), area) == pytest.approx(area.mean(), abs=1e-12)
    assert mass_on(area.astype(np.float32), area) == 1
    assert mass_on((~area).astype(np.float32), area) == 0
    assert np.isnan(mass_on(np.zeros((4, 8, 8), np.float32), area))
    meter = MassMeter()
    meter.add("a", [np.ones((4, 8, 8), np.float32)], [area])
    meter.add("b", [np.ones((4, 8, 8), np.float32)], [~area])
    one, two = meter.finish()
    assert (one.mass, one.area, one.other) == pytest.approx((area.mean(),) * 3)
    assert two.mass == pytest.approx(two.area) == pytest.approx(two.other)


def test_preference_compares_means_independently_of_area() -> None:
    moving, still = np.zeros((2, 8, 8), bool), np.zeros((2, 8, 8), bool)
    moving[:, :2], still[:, 3:] = True, True
    even = np.ones((2, 8, 8), np.float32)
    assert preference(even, moving, still) == 0.5
    assert preference(moving.astype(np.float32), moving, still) == 1
    assert preference(still.astype(np.float32), moving, still) == 0
    assert preference(even + 2 * moving.astype(np.float32), moving, still) == pytest.approx(0.75)
    assert np.isnan(preference(even, moving, np.zeros_like(still)))


def test_every_videos_motion_is_compared_with_another_videos_map() -> None:
    shape = (2, 4, 4)
    areas = [np.zeros(shape, bool) for _ in range(3)]
    for place, area in enumerate(areas):
        area[:, place] = True
    meter = MassMeter()
    for name, area in zip("abc", areas, strict=True):
        meter.add(name, [area.astype(np.float32)], [area])
        meter.leave_out(f"{name} broken", "no such file")
    found = {one.path: one for one in meter.finish()}
    assert [(found[name].mass, found[name].other) for name in "abc"] == [(1, 0)] * 3
    alone = MassMeter()
    alone.add("a", [areas[0].astype(np.float32)], [areas[0]])
    assert np.isnan(alone.finish()[0].other)  # there is no other video


def test_probes_do_what_they_document() -> None:
    clip = moving_square()
    still = frozen(clip)
    assert (still == clip[4]).all()

    other = np.full_like(clip, 10)
    other[:, 30:42, 20:32] = 240
    other[::2, 30:42, 20:32] = 200  # the part that changes
    result = pasted(clip, other, at=(0.25, 0.75))
    changed = (result != clip).any(3)
    assert (changed == changed[0]).all()
    rows, columns = np.nonzero(changed[0])
    side = round(ACTOR * 48)
    assert max(np.ptp(rows), np.ptp(columns)) < side
    assert abs(rows.mean() - 36) < 2.5  # its centre, at three quarters of the height
    assert abs(columns.mean() - 12) < 2.5
    assert result[:, rows, columns].max() == 200  # the middle frame's actor, in every frame
    assert not (pasted(clip, other) != clip).any(3)[:, :16].any()  # by default, away from what moves

    blend = mixed(clip, other, 0.25)
    expected = 0.75 * clip + 0.25 * other[4]
    assert np.abs(blend - expected).max() <= 1
    assert alter("clip", clip, other) is clip


def test_the_overlay_is_lighter_where_the_map_is_higher_on_a_grey_video() -> None:
    clip = np.full((1, 4, 11, 3), (90, 120, 60), np.uint8)
    ramp = np.broadcast_to(np.linspace(0, 1, 11, dtype=np.float32), (1, 4, 11))
    for colours in ("inferno", "magma", "viridis", "cividis"):
        light = overlay(clip, ramp, colours)[0, 0] @ np.array([0.299, 0.587, 0.114])
        assert light[-1] > light[0] + 50
        assert (np.diff(light[3:]) > 0).all()
