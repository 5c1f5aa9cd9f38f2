"""SLD breaks the scene and keeps the motion; TLD keeps the scene and breaks the motion."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dsm.disturb.appearance import ExchangeScene
from dsm.disturb.grid import identity_grid, warp
from dsm.disturb.spatial import SmoothWarp
from dsm.disturb.spatial_mix import SpatialMix
from dsm.disturb.temporal import KINDS, TemporalMix
from dsm.errors import UserError
from dsm.render import disturb_view, jitter_colour
from dsm.video.sampling import random_window
from dsm.views import Augment, View, ViewDraw, broken_motion, draw_views


def random_clip(batch: int = 2, size: int = 20) -> torch.Tensor:
    return torch.rand(batch, 3, 4, size, size, generator=torch.Generator().manual_seed(0))


def control_of(kind: SmoothWarp, count: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(np.stack([kind.draw(rng) for _ in range(count)]))


def warp_slowly(clip: torch.Tensor, field: torch.Tensor) -> torch.Tensor:
    """The slow, obvious reference: each output pixel separately, bilinear, mirrored at the border."""
    _, frames, height, width = clip.shape

    def mirrored(position: float, length: int) -> float:
        position = (position + 0.5) % (2 * length)  # from the outer edge of the first pixel
        position = min(position, 2 * length - position)
        return min(max(position - 0.5, 0.0), length - 1.0)

    out = torch.zeros_like(clip)
    for row in range(height):
        for column in range(width):
            x = mirrored(column + field[row, column, 0].item() * width / 2, width)
            y = mirrored(row + field[row, column, 1].item() * height / 2, height)
            left, top = int(x), int(y)
            right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
            fx, fy = x - left, y - top
            for frame in range(frames):
                picture = clip[:, frame]
                above = picture[:, top, left] * (1 - fx) + picture[:, top, right] * fx
                below = picture[:, bottom, left] * (1 - fx) + picture[:, bottom, right] * fx
                out[:, frame, row, column] = above * (1 - fy) + below * fy
    return out


def test_a_warp_equals_the_slow_reference() -> None:
    clip = random_clip(1, 12)
    kind = SmoothWarp(strength=1.5)
    field = kind.field(control_of(kind, 1), 12, 12)
    found = warp(clip, identity_grid(12, 12, clip) + field)
    assert torch.allclose(found[0], warp_slowly(clip[0], field[0]), atol=1e-4)


@given(
    st.sampled_from(sorted(KINDS)),
    st.integers(1, 60),
    st.integers(1, 12),
    st.integers(1, 5),
    st.integers(0, 99),
)
def test_every_kind_keeps_the_length_and_the_video(
    kind: str, total: int, frames: int, stride: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    window = random_window(total, frames, stride, rng)
    broken = KINDS[kind](window, total, rng)
    if broken is not None:
        assert len(broken) == len(window)
        assert broken.min() >= 0
        assert broken.max() < total


WINDOW = 5 + 3 * np.arange(8)  # of a video of 60 frames


def test_reverse_shuffle_and_freeze_use_the_clips_own_frames() -> None:
    rng = np.random.default_rng(0)
    assert KINDS["reverse"](WINDOW, 60, rng).tolist() == WINDOW[::-1].tolist()
    for _ in range(50):
        shuffled = KINDS["shuffle"](WINDOW, 60, rng)
        assert sorted(shuffled) == WINDOW.tolist()
        assert shuffled.tolist() not in (WINDOW.tolist(), WINDOW[::-1].tolist())
        frozen = KINDS["freeze"](WINDOW, 60, rng)
        assert len(set(frozen)) == 1
        assert frozen[0] in WINDOW


def test_shift_moves_the_window_far_enough_and_keeps_its_pace() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        shifted = KINDS["shift"](WINDOW, 60, rng)
        assert abs(shifted[0] - WINDOW[0]) >= 21 // 4
        assert np.diff(shifted).tolist() == [3] * 7


def test_speed_changes_the_pace_around_the_same_position() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        paced = KINDS["speed"](WINDOW, 60, rng)
        pace = (paced[-1] - paced[0]) / 7
        assert pace < 3 * 0.7 or pace > 3 * 1.5
        assert (np.diff(paced) >= 0).all()


def test_kinds_are_drawn_in_proportion_to_their_weights() -> None:
    rng = np.random.default_rng(0)
    spatial = SpatialMix(smooth=3, affine=1)
    assert np.mean([np.any(spatial.draw(rng)["smooth"]) for _ in range(800)]) == pytest.approx(0.75, abs=0.05)
    temporal = TemporalMix(shift=0, shuffle=0, reverse=3, freeze=1, speed=0)
    moving = [len(set(temporal.draw(WINDOW, 60, rng).indices)) > 1 for _ in range(800)]
    assert np.mean(moving) == pytest.approx(0.75, abs=0.05)


def test_rotations_and_zooms_cover_their_range() -> None:
    rng = np.random.default_rng(0)
    drawn = [Augment(rotate=10, zoom=0.5).draw_affine(rng) for _ in range(400)]
    angles = np.degrees([np.arctan2(one[1, 0], one[0, 0]) for one in drawn])
    sizes = np.array([np.linalg.det(one) ** -0.5 for one in drawn])
    assert -10 <= angles.min() < -9
    assert 9 < angles.max() <= 10
    assert 1 / 1.5 <= sizes.min() < 0.7
    assert 1.4 < sizes.max() <= 1.5


def test_two_views_have_independent_crops() -> None:
    rng = np.random.default_rng(0)
    one, two = draw_views([View("one"), View("two")], Augment(), np.arange(4), 10, rng)
    assert len({*one.corner, *two.corner}) == 4


def test_an_inapplicable_kind_is_replaced_by_another() -> None:
    only = TemporalMix(shift=0, shuffle=0, reverse=1, freeze=0, speed=0)
    rng = np.random.default_rng(0)
    assert only.draw(WINDOW, 60, rng).indices.tolist() == WINDOW[::-1].tolist()
    nowhere_to_shift = TemporalMix(shift=1, shuffle=0, reverse=0, freeze=0, speed=0)
    window = WINDOW - 3  # from frame 2 to 23 of 27: no start is 5 frames away
    assert nowhere_to_shift.draw(window, 27, rng).indices.tolist() == window[::-1].tolist()


def test_colour_jitter_equals_its_four_steps_in_sequence() -> None:
    """Saturation and hue after brightness and contrast, each written out, without clamping between."""
    augment = Augment(jitter=1, light=0, brightness=0.3, contrast=0.4, saturation=0.5, hue=0.0)
    rng = np.random.default_rng(3)
    colour = torch.from_numpy(augment.draw_colour(rng))[None]
    again = np.random.default_rng(3)
    brightness, contrast, saturation = (again.uniform(1 - s, 1 + s) for s in (0.3, 0.4, 0.5))
    clip = 0.4 + 0.2 * random_clip(1)  # far from the clamps
    luma = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)[:, None, None, None]
    x = clip[0].double() * brightness
    mean = (x * luma).sum(0).mean()
    x = contrast * x + (1 - contrast) * mean
    x = saturation * x + (1 - saturation) * (x * luma).sum(0)
    assert torch.allclose(jitter_colour(clip, colour)[0].double(), x.clamp(0, 1), atol=1e-5)


def test_hue_changes_neither_lightness_nor_greys() -> None:
    augment = Augment(jitter=1, light=0, brightness=0, contrast=0, saturation=0, hue=0.5)
    colour = torch.from_numpy(augment.draw_colour(np.random.default_rng(1)))[None]
    grey = torch.full((1, 3, 1, 2, 2), 0.4)
    assert torch.allclose(jitter_colour(grey, colour), grey, atol=1e-3)
    red = torch.tensor([0.6, 0.4, 0.4]).reshape(1, 3, 1, 1, 1)
    assert (jitter_colour(red, colour) - red).abs().max() > 0.02


def test_without_augmentation_and_disturbance_the_clip_is_unchanged() -> None:
    plain = Augment(rotate=0, zoom=0, light=0, brightness=0, contrast=0, saturation=0, hue=0)
    (draw,) = draw_views([View("anchor")], plain, np.arange(4), 10, np.random.default_rng(0))
    clip = torch.randint(0, 256, (1, 4, 16, 16, 3), dtype=torch.uint8)
    parameters = {name: torch.from_numpy(value)[None] for name, value in draw.parameters.items()}
    found = disturb_view(View("anchor"), {"anchor": clip}, parameters)
    assert torch.allclose(found, clip.permute(0, 4, 1, 2, 3) / 255, atol=1e-4)


def test_the_share_of_jittered_clips_is_as_set() -> None:
    rng = np.random.default_rng(0)
    colours = [Augment(jitter=0.8).draw_colour(rng) for _ in range(500)]
    plain = np.mean([np.array_equal(colour, np.eye(3, 4)) for colour in colours])
    assert 0.15 < plain < 0.25
    with pytest.raises(UserError, match="is a share of clips"):
        Augment(jitter=1.5)


def test_drifting_light_differs_between_views_and_draws_nothing_when_off() -> None:
    anchor, positive = View("anchor"), View("positive")
    negative = View("negative", temporal=TemporalMix.only("freeze"), look_of="anchor")

    def draws(light: float) -> list[dict[str, np.ndarray]]:
        augment, rng = Augment(rotate=0, jitter=0, light=light), np.random.default_rng(0)
        views = draw_views([anchor, positive, negative], augment, np.arange(6), 20, rng)
        return [view.parameters for view in views]

    of_anchor, of_positive, of_negative = (view["light"] for view in draws(0.4))
    assert of_anchor.shape == (6,)
    assert np.array_equal(
        of_anchor, of_negative
    )  # light that differs from the anchor's would be taken for motion
    assert not np.allclose(of_anchor, of_positive)
    assert all(light.min() >= 0.6 and light.max() <= 1.4 for light in (of_anchor, of_positive))
    assert "light" not in draws(0)[0]

    clip = torch.randint(0, 256, (1, 6, 16, 16, 3), dtype=torch.uint8)
    parameters = {name: torch.from_numpy(value)[None] for name, value in draws(0.4)[0].items()}
    found = disturb_view(anchor, {"anchor": clip}, parameters)[0]
    for frame in range(6):
        expected = (clip[0, frame].permute(2, 0, 1) / 255 * float(of_anchor[frame])).clamp(0, 1)
        assert torch.allclose(found[:, frame], expected, atol=1e-4)
    with pytest.raises(UserError, match=r"augment\.light must be"):
        Augment(light=1)
    for name, value in {"zoom": -1.5, "rotate": -5, "brightness": -1, "hue": float("nan")}.items():
        with pytest.raises(UserError, match=rf"augment\.{name} must be 0 or more"):
            Augment(**{name: value})


@pytest.mark.parametrize("seed", [0, 1])
def test_a_view_depends_only_on_its_generator(seed: int) -> None:
    view = View("negative", spatial=SpatialMix(), temporal=TemporalMix())
    (one,), (two,) = (
        draw_views([view], Augment(), WINDOW, 60, np.random.default_rng(seed)) for _ in range(2)
    )
    assert one.indices.tolist() == two.indices.tolist()
    assert one.corner == two.corner
    assert all(np.array_equal(one.parameters[name], two.parameters[name]) for name in one.parameters)


def stacked(draws: Sequence[ViewDraw]) -> dict[str, torch.Tensor]:
    names = draws[0].parameters
    return {name: torch.from_numpy(np.stack([draw.parameters[name] for draw in draws])) for name in names}


@pytest.mark.parametrize("count", [2, 3, 5])
def test_two_views_of_a_clip_get_the_scenes_of_different_clips(count: int) -> None:
    """Clip i is grey of level 20 i, so that its level tells whose scene a view has."""
    mix = SpatialMix(smooth=0, exchange=1, background=1)
    anchor, positive = (View(name, spatial=mix) for name in ("anchor", "positive"))
    negative = broken_motion("negative", anchor, TemporalMix.only("reverse"), "positive", positive)
    plain, grey = Augment(jitter=0, light=0, rotate=0), torch.arange(count, dtype=torch.uint8) * 20
    clips = dict.fromkeys(
        ("anchor", "positive", "negative"), grey[:, None, None, None, None].expand(count, 4, 8, 8, 3)
    )
    lenders: list[tuple[int, ...]] = []
    for seed in range(60):
        drawn = [
            draw_views(
                [anchor, positive, negative], plain, np.arange(4), 10, np.random.default_rng([seed, n])
            )
            for n in range(count)
        ]
        before: list[list[bool]] = []
        found = []
        for view, draws in zip((anchor, positive, negative), zip(*drawn, strict=True), strict=True):
            parameters = stacked(draws)
            exchanged = parameters["sld_exchange"][:, 0] > 0
            before.append(exchanged.tolist())
            shown = disturb_view(view, clips, parameters)[:, 0, 0, 0, 0] * 255 / 20
            found.append(shown.round().int().tolist())
            own = ExchangeScene().partners(parameters["sld_exchange"])
            if view is not anchor:
                firsts = ExchangeScene().partners(stacked([one[0] for one in drawn])["sld_exchange"])
                for n in range(count):
                    if before[0][n] and exchanged[n] and own[n] != firsts[n]:
                        assert found[-1][n] == own[n]  # no draw has changed
        assert found[1] == found[2]
        lenders += [(n, found[0][n], found[1][n]) for n in range(count) if before[0][n] and before[1][n]]
    assert all(n not in (one, other) for n, one, other in lenders)
    same = sum(one == other for _, one, other in lenders)
    assert same == (len(lenders) if count == 2 else 0)
    if count == 5:  # each of the clips that are left, equally often
        steps = [(other - n) % 5 for n, _, other in lenders]
        assert min(steps.count(step) for step in (1, 2, 3, 4)) > len(steps) / 4 * 0.6


@pytest.mark.parametrize("kind", ["smooth", "background", "replace", "exchange"])
@pytest.mark.parametrize("tld", ["reverse", "freeze"])
@pytest.mark.parametrize("look", ["anchor", "positive"])
def test_a_negative_with_another_views_look_differs_in_nothing_but_its_frames(
    kind: str, tld: str, look: Literal["anchor", "positive"]
) -> None:
    anchor, positive = (View(name, spatial=SpatialMix.only(kind, 1.5)) for name in ("anchor", "positive"))
    negative = broken_motion("negative", anchor, TemporalMix.only(tld), look, positive)
    views = {view.name: view for view in (anchor, positive, negative)}
    drawn = [
        draw_views(
            list(views.values()), Augment(jitter=0, light=0), np.arange(4), 10, np.random.default_rng(seed)
        )
        for seed in range(3)
    ]
    draws = dict(zip(views, zip(*drawn, strict=True), strict=True))
    assert [draw.corner for draw in draws["negative"]] == [draw.corner for draw in draws[look]]
    frames = np.stack([draw.indices for draw in draws["negative"]])
    clip = torch.randint(0, 256, (3, 4, 16, 16, 3), dtype=torch.uint8)
    broken = torch.stack([one[i] for one, i in zip(clip, frames, strict=True)])
    clips = {"anchor": clip, "positive": clip, "negative": broken}
    shown = {name: disturb_view(view, clips, stacked(draws[name])) for name, view in views.items()}
    expected = torch.stack([one[:, i] for one, i in zip(shown[look], frames, strict=True)])
    assert torch.allclose(expected, shown["negative"], atol=1e-6)
    assert not torch.allclose(shown[look], shown["negative"], atol=1e-2)
    assert not torch.allclose(shown["anchor"], shown["positive"], atol=1e-2)


def test_mixed_in_pictures_grow_over_the_ramp() -> None:
    mix = SpatialMix(smooth=0, exchange=1, ramp=0.5)
    view = View("anchor", spatial=mix)
    clip = torch.randint(100, 150, (3, 4, 16, 16, 3), dtype=torch.uint8)  # none is cut off at black or white
    (draws,) = zip(
        *(
            draw_views([view], Augment(jitter=0, light=0), np.arange(4), 10, np.random.default_rng(n))
            for n in range(3)
        ),
        strict=True,
    )
    assert all(draw.parameters["sld_exchange"][0] == 1 for draw in draws)
    at = {part: disturb_view(view, {"anchor": clip}, stacked(draws), part) for part in (0, 0.25, 0.5, 1)}
    plain = disturb_view(View("anchor"), {"anchor": clip}, stacked(draws))
    assert torch.allclose(at[0], plain, atol=1e-6)
    assert torch.equal(at[0.5], at[1])
    assert torch.allclose(at[0.25], (at[0] + at[1]) / 2, atol=1e-5)
    with pytest.raises(UserError, match="the ramp of sld is a share of the training"):
        SpatialMix(ramp=2)


def test_a_negative_may_have_its_own_look() -> None:
    anchor = View("anchor", spatial=SpatialMix())
    reverse = TemporalMix.only("reverse")
    own = broken_motion("negative", anchor, reverse, "own")
    assert own.look_of is None
    assert own.spatial is None
    redrawn = broken_motion("negative", anchor, reverse, "redrawn")
    assert redrawn.look_of is None
    assert redrawn.spatial == anchor.spatial
    one, two = draw_views([anchor, redrawn], Augment(), WINDOW, 60, np.random.default_rng(0))
    assert not np.allclose(one.parameters["sld_smooth"], two.parameters["sld_smooth"])


def test_disturbances_are_importable_from_dsm() -> None:
    code = "import dsm; dsm.disturb.spatial.SmoothWarp; dsm.disturb.temporal.KINDS"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("look", ["anchor", "positive"])
def test_a_frozen_negative_has_the_very_colours_of_the_clip_whose_look_it_shares(
    look: Literal["anchor", "positive"],
) -> None:
    """Its frames are as light as one moment of the clip; contrast pivots at the mean of the whole clip."""
    anchor, positive = View("anchor"), View("positive")
    negative = broken_motion("negative", anchor, TemporalMix.only("freeze"), look, positive)
    augment = Augment(rotate=0, jitter=1, contrast=0.9, brightness=0, saturation=0, hue=0, light=0)
    views = [anchor, positive, negative]
    drawn = dict(
        zip(views, draw_views(views, augment, np.arange(4), 10, np.random.default_rng(1)), strict=True)
    )
    clip = (
        torch.randint(0, 60, (1, 4, 8, 8, 3), dtype=torch.uint8)
        + torch.tensor([0, 40, 80, 120])[:, None, None, None]
    )
    clip = clip.to(torch.uint8)
    frozen = int(drawn[negative].indices[0])
    clips = {"anchor": clip, "positive": clip, "negative": clip[:, [frozen] * 4]}
    shown = {view.name: disturb_view(view, clips, stacked([draw]))[0] for view, draw in drawn.items()}
    for frame in range(4):
        assert torch.equal(shown["negative"][:, frame], shown[look][:, frozen])
