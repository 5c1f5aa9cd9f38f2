"""The scene of a clip and what moves before it, told apart without masks: to ask what a network goes by.

The scene is the temporal median: what is seen at a pixel most of the time (background subtraction by the
median; McFarlane & Schofield 1995). Who stays in place, turning on the spot, would be in it, so
:func:`still_scene` fills what the median is not sure of from around it. What differs from the scene moves.
All this wants a camera that stands still or nearly so; :func:`moving_mask` of a moving one is 1 nearly
everywhere.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Changes of lightness below the first are taken for noise, above the second for movement, in units of
# the whole range. What half of a frame shows at the least, as by a flickering light, is none of it.
QUIET, LOUD = 0.06, 0.14
# Half the width of the box that a change is averaged over, as a share of the picture's side.
NEAR = 1 / 40
# The median is not sure of a pixel that differs from it in this share of the frames.
UNSURE = 0.25
# Radii, as shares of the picture's side: thinner strips, as edges in a trembling camera, are none; narrower
# gaps between what is unsure are closed; so far around it nothing is trusted.
THIN, GAP, AROUND = 1 / 72, 1 / 24, 1 / 36
# Where more of the picture is unsure there is too little around to fill it from.
MOST_UNSURE = 0.8
# Of the frames, so many at the least must be like the filled scene for their median to be taken.
SEEN = 0.15
# How what is filled is smoothed: so often, with a box of this share of the picture's side.
SMOOTHED, BLUR = 12, 1 / 12


def temporal_median(clip: Tensor) -> Tensor:
    """The scene: clips (B, C, T, H, W) -> (B, C, 1, H, W); of an even number of frames, the lower middle."""
    return clip.median(dim=2, keepdim=True).values


def still_scene(clip: Tensor) -> Tensor:
    """The scene without what moves, even if that stays in place: (B, C, T, H, W) -> (B, C, 1, H, W).

    It is the :func:`temporal_median` but where that is not sure, :func:`unsure`: there it is filled from
    around, and where some of the frames (15 %) are like that, their median is taken. Where nearly all of a
    picture is unsure, as with a moving camera, the median is what is left.
    """
    median = temporal_median(clip)
    unknown = unsure(clip, median)
    unknown = unknown & (unknown.float().mean((-2, -1), keepdim=True) <= MOST_UNSURE)
    if not unknown.any():
        return median
    filled = fill(median[:, :, 0], unknown)[:, :, None]
    like = moving_mask(clip, filled) < 0.5  # (B, 1, T, H, W)
    seen = clip.masked_fill(~like, torch.nan).nanmedian(dim=2, keepdim=True).values
    enough = like.float().mean(2, keepdim=True) >= SEEN
    return torch.where(unknown[:, :, None], torch.where(enough, seen, filled), median)


def unsure(clip: Tensor, median: Tensor) -> Tensor:
    """Where a median may show what moves: what often differs from it, and all that is enclosed by such.

    What turns, swells or rocks in its place is its own median within, and often differs along its edge.

    Args:
        clip: (B, C, T, H, W) in [0, 1].
        median: (B, C, 1, H, W), its :func:`temporal_median`.

    Returns:
        (B, 1, H, W), bool.
    """
    often = (moving_mask(clip, median).mean(2) >= UNSURE).float()
    side = min(clip.shape[-2:])
    thin, gap, around = (round(side * share) for share in (THIN, GAP, AROUND))
    often = _grown(-_grown(-often, thin), thin)
    wide = F.pad(often, (2 * gap,) * 4)  # the picture's edge closes nothing
    often = F.pad(-_grown(-_grown(wide, gap), gap), (-2 * gap,) * 4)
    return _grown(_without_holes(often), around) > 0


def fill(picture: Tensor, unknown: Tensor) -> Tensor:
    """Fill what is unknown from around it, by blurring what is known into it again and again, then smoothly.

    Args:
        picture: (B, C, H, W). unknown: (B, 1, H, W), bool; a picture of which nothing is known stays.
    """
    filled, known = picture * ~unknown, (~unknown).float()
    while True:
        weight = F.avg_pool2d(known, 7, 1, 3)
        new = (weight > 0) & (known == 0)
        if not new.any():
            break
        filled = torch.where(new, F.avg_pool2d(filled, 7, 1, 3) / weight.clamp(min=1e-6), filled)
        known = torch.maximum(known, new.float())
    filled = torch.where(known > 0, filled, picture)
    side = round(min(picture.shape[-2:]) * BLUR / 2) * 2 + 1
    for _ in range(SMOOTHED):
        blurred = F.avg_pool2d(filled, side, 1, side // 2, count_include_pad=False)
        filled = torch.where(unknown, blurred, picture)
    return filled


def _grown(mask: Tensor, radius: int) -> Tensor:
    """The greatest value within a square around each place."""
    return F.max_pool2d(mask, 2 * radius + 1, 1, radius)


def _without_holes(mask: Tensor) -> Tensor:
    """A mask (B, 1, H, W) of 0 and 1 with all that cannot be reached from the picture's edge."""
    free = 1 - mask
    reached = torch.zeros_like(mask)
    for edge in (np.s_[..., :1, :], np.s_[..., -1:, :], np.s_[..., :1], np.s_[..., -1:]):
        reached[edge] = free[edge]
    while True:
        more = torch.minimum(_grown(reached, 1), free)
        if torch.equal(more, reached):
            return 1 - reached
        reached = more


def moving_mask(clip: Tensor, scene: Tensor) -> Tensor:
    """How surely each pixel belongs to what moves: (B, 1, T, H, W) in [0, 1].

    The largest change of a colour against the scene, averaged over a small box; 0 up to a threshold, 1 from
    a second on, linear between. What half of the pixels of a frame show at the least is taken off first.

    Args:
        clip: (B, C, T, H, W) in [0, 1].
        scene: (B or 1, C, 1, H, W), its :func:`still_scene`.
    """
    change = (clip - scene).abs().amax(1)  # (B, T, H, W)
    side = round(min(clip.shape[-2:]) * NEAR) * 2 + 1
    change = F.avg_pool2d(change, side, 1, side // 2, count_include_pad=False)
    common = change.flatten(2).median(dim=2).values[:, :, None, None]  # of each frame
    return ((change - common - QUIET) / (LOUD - QUIET)).clamp(0, 1)[:, None]


def swap_scene(clip: Tensor, moving: Tensor, other: Tensor) -> Tensor:
    """What moves in a clip, before another scene.

    Args:
        clip: (B, C, T, H, W). moving: (B, 1, T, H, W) in [0, 1]. other: (B or 1, C, 1, H, W).
    """
    return torch.lerp(other.expand_as(clip), clip, moving.expand_as(clip))


def stripes(channels: int, height: int, width: int, rng: np.random.Generator) -> Tensor:
    """A scene that no video shows: sinusoidal stripes between two random colours, (1, C, 1, H, W) in [0, 1].

    As the sinusoids of SCUBA (Li et al., Mitigating and Evaluating Static Bias of Action Representations in
    the Background and the Foreground, ICCV 2023): of random direction, two to eight across the picture.
    """
    angle, turns, phase = rng.uniform(0, np.pi), rng.uniform(2, 8), rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:height, :width] / max(height, width)
    wave = 0.5 + 0.5 * np.sin(2 * np.pi * turns * (np.cos(angle) * x + np.sin(angle) * y) + phase)
    one, two = rng.random((2, channels, 1, 1))
    return torch.from_numpy((one + (two - one) * wave).astype(np.float32))[None, :, None]
