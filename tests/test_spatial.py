"""Every kind of SLD: compared with exact answers where they exist, and by common properties."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from dsm.disturb import (
    AddBackground,
    Affine,
    ExchangeScene,
    LocalWarp,
    ReplaceBackground,
    SmoothWarp,
    SpatialMix,
    TemporalMix,
    ThinPlate,
    identity_grid,
    inside,
    local_warp_exact,
    thin_plate_spline,
    warp,
)
from dsm.disturb.appearance import moving_part
from dsm.disturb.spatial_kinds import KINDS
from dsm.errors import UserError
from dsm.evaluate.preview import motion_change, seen_through
from dsm.video.flow import compute_flow

EVERY = sorted(KINDS)
BENDING = ["affine", "local", "smooth", "tps"]


def clips(batch: int = 3, frames: int = 4, height: int = 24, width: int = 32, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, 3, frames, height, width, generator=torch.Generator().manual_seed(seed))


def local_warp_slowly(clip: np.ndarray, point: np.ndarray) -> np.ndarray:
    """The published formula, pixel by pixel."""
    height, width = clip.shape[-2:]
    p, s = point[:2].astype(float), point[2:].astype(float)
    out = clip.copy()
    for row in range(height):
        for column in range(width):
            x = np.array([row, column])
            if (x >= p - 3 * s).all() and (x < p + 3 * s).all():
                h = 0.5 / (3 * (np.linalg.norm(x - p - s) / np.linalg.norm(s)) ** 4 + 1)
                y = (x + np.trunc(-h * s)).astype(int).clip(0, [height - 1, width - 1])
                out[..., row, column] = clip[..., y[0], y[1]]
    return out


def test_the_exact_local_warp_equals_the_published_one(shared: Path) -> None:
    golden = np.load(shared / "golden" / "local_warp.npz")
    clip = torch.from_numpy(golden["clip"])
    for point, expected in zip(golden["points"], golden["warped"], strict=True):
        assert np.array_equal(local_warp_exact(clip, torch.from_numpy(point)[None]).numpy(), expected)


def test_the_exact_local_warp_equals_the_formula_pixel_by_pixel() -> None:
    clip = np.random.default_rng(0).integers(0, 256, (1, 3, 2, 70, 60), np.uint8)
    points = np.array([[20, 30, 6, 4], [40, 10, 5, 9]])
    slow = local_warp_slowly(local_warp_slowly(clip, points[0]), points[1])
    assert np.array_equal(local_warp_exact(torch.from_numpy(clip), torch.from_numpy(points)).numpy(), slow)


def test_the_smooth_local_warp_follows_the_exact_one() -> None:
    """On a ramp of one per pixel, values show where each pixel came from, up to rounding to a pixel."""
    side, point = 224, np.array([100, 80, 20, 15])
    ramp = torch.arange(side, dtype=torch.float64).expand(1, 1, 1, side, side)
    exact = local_warp_exact(ramp, torch.from_numpy(point)[None])
    draw = torch.tensor([[[*point / side, 1.0]]], dtype=torch.float64)
    grid = identity_grid(side, side, ramp) + LocalWarp(most=1).field(draw, side, side)
    found = warp(ramp, grid, "border")
    cut = (found - exact).abs()[..., :125]  # at 125, the window's edge, rounding decides
    assert cut.max() < 1
    assert (found - ramp).abs().max().item() == pytest.approx(7.5)  # half of the shift, along the columns


def test_the_thin_plate_spline_equals_the_golden_file(shared: Path) -> None:
    golden = np.load(shared / "golden" / "tps_warp.npz")
    target, source = (
        torch.from_numpy(golden[f"{name}_control_points"]).double() for name in ("target", "source")
    )
    height, width = golden["grid"].shape[1:3]
    x, y = (torch.linspace(-1, 1, size, dtype=torch.float64) for size in (width, height))
    places = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(-1, 2)
    grid = thin_plate_spline(target, source, places).float().reshape(1, height, width, 2)
    # The golden grid was computed in float32 with an inverse; it differs by 5e-6 from double precision.
    bound = 1e-5
    assert np.abs(grid.numpy() - golden["grid"]).max() < bound
    video = torch.from_numpy(golden["video"])
    found = F.grid_sample(video.flatten(1, 2), grid, align_corners=True).reshape(video.shape)
    # Its pixels are noise: a shift of one pixel may change a value by the whole range.
    pixels = bound * (width - 1) / 2 + bound * (height - 1) / 2
    assert np.abs(found.numpy() - golden["warped_align_corners_true"]).max() < pixels


def test_a_thin_plate_passes_through_its_points_and_keeps_affine_maps() -> None:
    rng = np.random.default_rng(0)
    control = torch.from_numpy(rng.uniform(-1, 1, (9, 2)))
    values = torch.from_numpy(rng.uniform(-1, 1, (9, 2)))
    assert torch.allclose(thin_plate_spline(control, values, control), values)
    places = torch.from_numpy(rng.uniform(-2, 2, (50, 2)))
    matrix = torch.tensor([[0.9, 0.2], [-0.3, 1.1]], dtype=torch.float64)
    assert torch.allclose(thin_plate_spline(control, control @ matrix + 0.1, places), places @ matrix + 0.1)


def test_an_affine_field_equals_its_matrix() -> None:
    kind = Affine(rotate=90, scale=0, shear=0, shift=0)
    draw = torch.tensor([[[-1.0, -1.0, 0.0], [1.0, -1.0, 0.0]]])  # a quarter turn minus the identity
    clip = clips(1, height=20, width=20)
    turned = warp(clip, identity_grid(20, 20, clip) + kind.field(draw, 20, 20))
    assert torch.allclose(turned, clip.rot90(1, (3, 4)), atol=1e-5)
    mirrored = Affine(scale=0, rotate=0, shear=0, shift=0, reflect=1)(clip, seed=0)
    assert torch.allclose(mirrored, clip.flip(-1), atol=1e-5)


def test_an_affine_shift_moves_the_picture_by_its_share_of_half_the_side() -> None:
    clip = clips(height=8, width=8)
    draw = torch.tensor([[0.0, 0.0, 0.5], [0.0, 0.0, -0.25]]).expand(3, 2, 3)  # x by 2 pixels, y by -1
    field = Affine().field(draw, 8, 8)
    shifted = warp(clip, identity_grid(8, 8, clip) + field)
    torch.testing.assert_close(shifted[..., 1:, :6], clip[..., :7, 2:])


@pytest.mark.parametrize("name", EVERY)
def test_strength_zero_is_the_identity_exactly(name: str) -> None:
    for clip in (clips(), clips().bfloat16(), (clips() * 255).byte()):
        assert torch.equal(KINDS[name](strength=0)(clip, seed=1), clip)
        assert torch.equal(SpatialMix.only(name, 0)(clip, seed=1), clip)


@pytest.mark.parametrize("name", EVERY)
def test_a_still_clip_stays_still_and_changes(name: str) -> None:
    clip = clips(frames=1, height=64, width=64).expand(-1, -1, 4, -1, -1)
    found = KINDS[name]()(clip, seed=0)
    assert torch.equal(found, found[:, :, :1].expand_as(found))
    assert (found - clip).abs().mean() > 1e-3


@pytest.mark.parametrize("name", EVERY)
def test_more_strength_changes_more(name: str) -> None:
    clip = F.avg_pool3d(clips(4, height=96, width=96), (1, 9, 9), 1, (0, 4, 4))
    changes = [(KINDS[name](strength=s)(clip, seed=3) - clip).abs().mean() for s in (0.25, 0.5, 1)]
    assert changes[0] < changes[1] < changes[2]


@pytest.mark.parametrize("name", BENDING)
def test_a_batch_of_one_equals_a_row_of_a_batch(name: str) -> None:
    clip = clips(3)
    kind = KINDS[name]()
    draws = kind.draw_batch(3, 0, clip)
    identity = identity_grid(24, 32, clip)
    whole = warp(clip, identity + kind.field(draws, 24, 32))
    for row in range(3):
        alone = warp(clip[row, None], identity + kind.field(draws[row, None], 24, 32))
        assert torch.allclose(alone[0], whole[row], atol=1e-6)


@pytest.mark.parametrize("name", ["background", "replace", "exchange"])
def test_source_clip_does_not_depend_on_the_batch(name: str) -> None:
    kind = KINDS[name](source="clip")
    draws = kind.draw_batch(3, 0, clips(3))
    whole = kind.mix(clips(3), draws, clips(3))
    assert torch.equal(kind.mix(clips(3)[1:2], draws[1:2], clips(3)[1:2])[0], whole[1])


@pytest.mark.parametrize("name", EVERY)
def test_types_and_ranges_are_kept(name: str) -> None:
    kind, clip = KINDS[name](), clips(height=32)
    exact = kind(clip.double(), seed=5)
    assert exact.dtype == torch.float64
    assert (kind(clip, seed=5) - exact).abs().max() < 1e-4
    for low in (torch.bfloat16, torch.float16):
        found = kind(clip.to(low), seed=5)
        assert found.dtype == low
        assert (found.double() - exact).abs().mean() < 0.01
    whole = kind((clip * 255).byte(), seed=5)
    assert whole.dtype == torch.uint8
    assert ((whole.double() / 255) - exact).abs().mean() < 0.01


@pytest.mark.parametrize("name", EVERY)
def test_results_depend_on_the_seed(name: str) -> None:
    kind, clip = KINDS[name](), clips()
    assert torch.equal(kind(clip, seed=1), kind(clip, seed=1))
    assert not torch.equal(kind(clip, seed=1), kind(clip, seed=2))


@pytest.mark.parametrize("name", EVERY)
def test_gradients_flow_to_the_clip_and_to_the_draws(name: str) -> None:
    clip = clips(2, height=32).requires_grad_()
    kind = KINDS[name]()
    kind(clip, seed=0).square().sum().backward()
    assert clip.grad is not None
    assert clip.grad.isfinite().all()
    assert clip.grad.abs().sum() > 0
    draws = kind.draw_batch(2, 0, clip).requires_grad_()
    if name in BENDING:
        grid = identity_grid(32, 32, clip) + kind.field(draws, 32, 32)
        warp(clip.detach(), grid).square().sum().backward()
        assert draws.grad is not None
        assert draws.grad.isfinite().all()
        assert draws.grad.abs().sum() > 0


def test_padding_and_the_mask_of_the_inside() -> None:
    clip = torch.ones(1, 1, 1, 10, 10)
    grid = identity_grid(10, 10, clip) + torch.tensor([0.6, 0.0])  # reads three pixels further right
    mask = inside(grid)
    assert mask.shape == (1, 10, 10)
    assert mask[0, :, :7].all()
    assert not mask[0, :, 7:].any()
    assert warp(clip, grid, "zeros")[0, 0, 0, :, 8:].abs().max() == 0
    for padding in ("reflection", "border"):
        assert torch.equal(warp(clip, grid, padding), clip)


def moving_square(size: int = 96, frames: int = 6) -> np.ndarray:
    """A textured square that moves over a texture: (T, H, W, 3)."""
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 255, (size // 4, size // 4, 3)).repeat(4, 0).repeat(4, 1)
    patch = rng.integers(0, 255, (10, 10, 3)).repeat(4, 0).repeat(4, 1)
    shown = np.stack([ground] * frames).astype(float)
    for t in range(frames):
        shown[t, 25 : 25 + 40, 15 + 3 * t : 55 + 3 * t] = patch
    soft = torch.from_numpy(shown).permute(0, 3, 1, 2)
    soft = F.avg_pool2d(soft, 3, 1, 1, count_include_pad=False)
    return soft.permute(0, 2, 3, 1).round().byte().numpy()


@pytest.mark.parametrize("name", BENDING)
def test_the_flow_of_a_bent_clip_is_the_bent_flow(name: str) -> None:
    frames = moving_square()
    clip = torch.from_numpy(frames).permute(3, 0, 1, 2)[None]
    kind = KINDS[name](strength=0.5)
    grid = identity_grid(96, 96, clip.float()) + kind.field(kind.draw_batch(1, 4, clip), 96, 96)
    bent = warp(clip, grid)[0].permute(1, 2, 3, 0).contiguous().numpy()
    flow = compute_flow(frames)
    expected, valid = seen_through(flow, grid)
    found = compute_flow(bent)
    assert valid.mean() > 0.5
    assert motion_change(found, expected, valid) < 0.3
    assert motion_change(compute_flow(bent[::-1].copy()), expected, valid) > 1.5  # the test can fail


def test_a_background_is_mixed_in_with_its_share() -> None:
    clip = clips(2)
    kind = AddBackground(share=(0.2, 0.2))
    draws = kind.draw_batch(2, 0, clip)
    frame = clip[[1, 0], :, (draws[:, 1] * 4).long()]
    assert torch.allclose(kind.mix(clip, draws, clip), clip * 0.8 + frame[:, :, None] * 0.2, atol=1e-6)


def test_replace_keeps_what_moves_on_another_clips_scene() -> None:
    clip = torch.full((2, 3, 6, 96, 96), 0.5)
    clip[0] = torch.from_numpy(moving_square()).permute(3, 0, 1, 2) / 255
    moving = moving_part(clip, 0.5)
    assert moving[0, 35:55, 25:60].mean() > 0.9
    assert moving[0, 75:, :].mean() < 0.1
    assert moving[1].max() == 0  # nothing moves there
    found = ReplaceBackground()(clip, seed=0)
    assert torch.allclose(found[0, :, :, 45, 40], clip[0, :, :, 45, 40], atol=0.02)
    assert (found[0, :, :, 85:, 5:30] - 0.5).abs().mean() < 0.05


def test_exchange_takes_the_other_clips_scene_and_keeps_the_motion() -> None:
    clip = 0.4 + 0.2 * clips(3)  # far from black and white, to avoid clamping
    kind = ExchangeScene()
    draws = kind.draw_batch(3, 0, clip)
    found = kind.mix(clip, draws, clip)
    for place in range(3):
        partner = (place + 1 + int(draws[place, 2] * 2)) % 3
        assert torch.allclose(found[place].mean(1), clip[partner].mean(1), atol=1e-6)
    assert torch.allclose(found.diff(dim=2), clip.diff(dim=2), atol=1e-6)


@pytest.mark.parametrize("name", ["background", "replace", "exchange"])
def test_two_views_take_pictures_from_different_clips(name: str) -> None:
    """If it were always the next clip, anchor and positive would share the new scene."""
    kind = KINDS[name]()
    one, two = (kind.partners(kind.draw_batch(32, seed, clips())) for seed in (0, 1))
    places = torch.arange(32)
    assert not (one == places).any()
    assert not (two == places).any()
    assert (one != two).float().mean() > 0.8
    assert len(one.unique()) > 12  # drawn for each clip, not once for the batch


def test_a_scene_is_exchanged_by_its_share() -> None:
    clip = 0.4 + 0.2 * clips(2)
    kind = ExchangeScene(strength=0.5)
    scene = clip.mean(2, keepdim=True)
    expected = clip + 0.5 * (scene.flip(0) - scene)
    assert torch.allclose(kind(clip, seed=0), expected, atol=1e-6)


@given(
    st.lists(st.sampled_from([0.0, 0.5, 2.0]), min_size=len(KINDS), max_size=len(KINDS)), st.integers(0, 1000)
)
@settings(max_examples=40, deadline=None)
def test_a_mix_applies_one_of_its_kinds_to_each_sample(weights: list[float], seed: int) -> None:
    chosen = dict(zip(KINDS, weights, strict=True))
    if not any(weights):
        with pytest.raises(UserError, match="at least one above 0"):
            SpatialMix(**chosen)
        return
    mix = SpatialMix(**chosen)
    draws = mix.draw(np.random.default_rng(seed))
    assert set(draws) == {name for name, weight in chosen.items() if weight}
    assert sum(bool(np.any(draw)) for draw in draws.values()) == 1


def test_together_applies_a_warp_and_a_picture() -> None:
    mix = SpatialMix(smooth=1, tps=2, background=1, exchange=1, together=True)
    rng = np.random.default_rng(0)
    counts = dict.fromkeys(("smooth", "tps", "background", "exchange"), 0)
    for _ in range(300):
        draws = mix.draw(rng)
        assert draws["smooth"].any() != draws["tps"].any()
        assert draws["background"].any() != draws["exchange"].any()
        for name, draw in draws.items():
            counts[name] += bool(draw.any())
    assert counts["tps"] == pytest.approx(200, abs=30)
    assert counts["exchange"] == pytest.approx(150, abs=30)


def test_pictures_have_their_own_mixing_strength() -> None:
    clip = 0.4 + 0.2 * clips(3, height=32)
    both = SpatialMix(smooth=1, exchange=1, strength=0.5, mixing_strength=1.0, together=True)
    draws = both.draw_batch(3, 5, clip)
    grid = identity_grid(clip.shape[-2], clip.shape[-1], clip)
    mixed = ExchangeScene().mix(clip, draws["exchange"], clip)
    expected = warp(mixed, grid + SmoothWarp(strength=0.5).field(draws["smooth"], *clip.shape[-2:]))
    assert torch.allclose(both(clip, seed=5), expected, atol=1e-5)
    assert torch.equal(SpatialMix(strength=0)(clip, seed=5), clip)
    assert not torch.equal(
        SpatialMix(exchange=1, strength=0, mixing_strength=1, together=True)(clip, 5), clip
    )
    with pytest.raises(UserError, match="0 or more"):
        SpatialMix(mixing_strength=-1)


def test_a_mix_of_one_kind_is_that_kind() -> None:
    clip = clips()
    for name in EVERY:
        assert torch.allclose(SpatialMix.only(name)(clip, seed=7), KINDS[name]()(clip, seed=7), atol=1e-5)


@pytest.mark.parametrize("kind", [SmoothWarp, LocalWarp, ThinPlate, Affine, AddBackground, SpatialMix])
def test_a_negative_strength_is_refused(kind: type) -> None:
    with pytest.raises(UserError, match="0 or more"):
        kind(strength=-1)


@pytest.mark.parametrize("kind", SpatialMix.kind_names())
def test_an_empty_batch_stays_empty(kind: str) -> None:
    empty = torch.zeros(0, 3, 4, 16, 16)
    assert SpatialMix.only(kind)(empty).shape == KINDS[kind]()(empty).shape == empty.shape  # type: ignore[operator]
    assert TemporalMix()(empty).shape == empty.shape
