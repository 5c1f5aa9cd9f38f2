"""Separates the scene of a clip from what moves in it, without masks, to test what a network relies on.

The scene is the temporal median: what a pixel shows most of the time (background subtraction by the
median; McFarlane & Schofield 1995). A person who turns on the spot would be part of it, so
:func:`still_scene` fills areas where the median is uncertain from their surroundings. What differs from the
scene is taken to move. The camera must stand still or nearly so; with a moving camera, :func:`moving_mask` is
1 nearly everywhere.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes
from torch import Tensor

# Changes below the first threshold count as noise, above the second as motion, in units of the whole range.
# A change common to at least half of a frame, such as flickering light, is subtracted first.
QUIET, LOUD = 0.06, 0.14
# The share of a picture that an actor leaves uncovered.
CALM = 0.2
# Half the width of the box that changes are averaged over, as a share of the picture's side.
NEAR = 1 / 40
# The median is uncertain for a pixel that differs from it in at least this share of the frames.
UNSURE = 0.25
# Radii, as shares of the picture's side. THIN: thinner uncertain strips, such as edges with a shaky camera,
# are ignored. GAP: narrower gaps between uncertain areas are closed. AROUND: uncertain areas grow by this
# much.
THIN, GAP, AROUND = 1 / 72, 1 / 24, 1 / 36
# If more of the picture is uncertain, too little is left to fill it from.
MOST_UNSURE = 0.8
# At least this share of the frames must match the filled scene for their median to be used.
SEEN = 0.15
# Smoothing of filled areas: number of passes, and box size as a share of the picture's side.
SMOOTHED, BLUR = 12, 1 / 12


def temporal_median(clip: Tensor) -> Tensor:
    """The scene: clips (B, C, T, H, W) -> (B, C, 1, H, W); for an even number of frames, the lower median."""
    if clip.device.type != "cpu":
        return clip.median(dim=2, keepdim=True).values
    middle = (clip.shape[2] - 1) // 2
    sorted_there = np.partition(clip.numpy(), middle, axis=2)  # several times as fast as PyTorch's median
    return torch.from_numpy(sorted_there[:, :, middle : middle + 1].copy())


def still_scene(clip: Tensor) -> Tensor:
    """The scene without moving things, even those that stay in place: (B, C, T, H, W) -> (B, C, 1, H, W).

    This is the :func:`temporal_median`, except where it is :func:`unsure`. There it is filled from the
    surroundings, or, if at least 15 % of the frames match that filling, it is the median of those frames. If
    nearly all of a picture is uncertain, as with a moving camera, the median is used everywhere.
    """
    median = temporal_median(clip)
    unknown = unsure(clip, median)
    unknown = unknown & (unknown.float().mean((-2, -1), keepdim=True) <= MOST_UNSURE)
    if not unknown.any():
        return median
    filled = fill(median[:, :, 0], unknown)[:, :, None]
    matches = moving_mask(clip, filled) < 0.5
    # Of the n uncertain pixels only, as medians are slow.
    pixels, matched, filling = (
        whole.permute(0, 3, 4, 1, 2)[unknown[:, 0]] for whole in (clip, matches, filled)
    )  # (n, C, T), (n, 1, T), (n, C, 1)
    visible = pixels.masked_fill(~matched, torch.nan).nanmedian(dim=2, keepdim=True).values
    enough = matched.float().mean(2, keepdim=True) >= SEEN
    scene = median.permute(0, 3, 4, 1, 2)  # a view
    scene[unknown[:, 0]] = torch.where(enough, visible, filling)
    return median


def scene_around(clip: Tensor, mask: Tensor) -> Tensor:
    """The scene around known actors: the median of the frames in which a pixel is not covered; where it
    always is, it is filled from its surroundings.

    Args:
        clip: (B, C, T, H, W). mask: (B, 1, T, H, W), 1 where an actor is.

    Returns:
        (B, C, 1, H, W).
    """
    covered = mask > 0.5
    median = clip.masked_fill(covered, torch.nan).nanmedian(dim=2).values
    unseen = covered.all(dim=2)
    return fill(torch.where(unseen, 0.0, median), unseen)[:, :, None]


def unsure(clip: Tensor, median: Tensor) -> Tensor:
    """Where a median may show moving things: pixels that often differ from it, and the areas they enclose.

    Something that turns, swells or rocks in place equals the median inside but often differs along its edge.

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
    wide = F.pad(often, (2 * gap,) * 4)  # the picture's edge must not close gaps
    often = F.pad(-_grown(-_grown(wide, gap), gap), (-2 * gap,) * 4)
    return _grown(_without_holes(often), around) > 0


def fill(picture: Tensor, unknown: Tensor) -> Tensor:
    """Fill unknown pixels by repeatedly blurring known ones into them, then smooth what was filled.

    Args:
        picture: (B, C, H, W). unknown: (B, 1, H, W), bool; a picture with no known pixel stays unchanged.
    """
    filled, known = picture * ~unknown, (~unknown).float()
    while True:
        weight = box_mean(known, 7)
        new = (weight > 0) & (known == 0)
        if not new.any():
            break
        filled = torch.where(new, box_mean(filled, 7) / weight.clamp(min=1e-6), filled)
        known = torch.maximum(known, new.float())
    filled = torch.where(known > 0, filled, picture)
    side = round(min(picture.shape[-2:]) * BLUR / 2) * 2 + 1
    for _ in range(SMOOTHED):
        filled = torch.where(unknown, box_mean(filled, side), picture)
    return filled


def box_mean(pictures: Tensor, side: int) -> Tensor:
    """The mean of the square of ``side`` pixels around each pixel, as far as it lies in the picture.

    Two products with matrices, which on a CPU take a tenth of the time of ``avg_pool2d``.

    Args:
        pictures: (B, C, H, W). side: odd.
    """
    rows, columns = (_line_mean(pictures, length, side) for length in pictures.shape[-2:])
    return rows @ pictures @ columns.T


def _line_mean(like: Tensor, length: int, side: int) -> Tensor:
    """The matrix (length, length) that replaces each entry of a line by the mean of those around it."""
    place = torch.arange(length, device=like.device)
    near = ((place[:, None] - place).abs() <= side // 2).to(like.dtype)
    return near / near.sum(1, keepdim=True)


def _grown(mask: Tensor, radius: int) -> Tensor:
    """The largest value within a square around each pixel."""
    return F.max_pool2d(mask, 2 * radius + 1, 1, radius)


def _without_holes(mask: Tensor) -> Tensor:
    """Fill the holes of a mask (B, 1, H, W) of 0 and 1: zeros not reachable from the picture's edge, not even
    diagonally."""
    whole = [binary_fill_holes(one, np.ones((3, 3))) for one in mask[:, 0].cpu().numpy() > 0]
    return torch.from_numpy(np.stack(whole))[:, None].to(mask)


def moving_mask(clip: Tensor, scene: Tensor) -> Tensor:
    """Confidence that each pixel moves: (B, 1, T, H, W) in [0, 1].

    The largest colour difference to the scene, averaged over a small box and mapped linearly from 0 at one
    threshold to 1 at another. The median difference of each frame is subtracted first.

    Args:
        clip: (B, C, T, H, W) in [0, 1].
        scene: (B or 1, C, 1, H, W), its :func:`still_scene`.
    """
    change = (clip - scene).abs().amax(1)  # (B, T, H, W)
    side = round(min(clip.shape[-2:]) * NEAR) * 2 + 1
    change = box_mean(change, side)
    common = change.flatten(2).median(dim=2).values[:, :, None, None]  # of each frame
    return ((change - common - QUIET) / (LOUD - QUIET)).clamp(0, 1)[:, None]


def steadiness(clip: Tensor, scene: Tensor) -> float:
    """The share of a clip that shows its still scene: with a still camera, about the area without actors;
    with a moving one, little.

    Changes of light, that is the median change of each frame and colour, are subtracted. (:func:`moving_mask`
    uses the median of the *size* of changes, so with a moving camera half of the picture would seem still.)

    Args:
        clip: (B, C, T, H, W) in [0, 1].
        scene: (B or 1, C, 1, H, W), its :func:`still_scene`.
    """
    change = clip - scene
    light = change.flatten(-2).median(-1).values[..., None, None]
    return float(((change - light).abs().amax(1) < (QUIET + LOUD) / 2).float().mean())


def drift(flow: NDArray[np.float32]) -> float:
    """How far even the calmest parts of a picture move over some frames, in longer sides of the picture.

    Of each pixel, the smaller of two estimates of its way: the median flow times the number of steps, in
    which an actor that passes counts for nothing; and the sum of the flow, in which shaking cancels itself
    out. Of the ways' lengths, the 20th percentile over the picture: an actor that stays in place rarely fills
    more than four fifths. A camera that moves on leaves no part at rest, even where :func:`steadiness` does
    not notice because the ground is smooth.

    Args:
        flow: (T-1, 2, H, W) in pixels, from each frame to the next.
    """
    ways = [np.hypot(*np.median(flow, axis=0)) * len(flow), np.hypot(*flow.sum(axis=0))]
    return float(np.quantile(np.minimum(*ways), CALM)) / max(flow.shape[-2:])


def swap_scene(clip: Tensor, moving: Tensor, other: Tensor) -> Tensor:
    """Put the moving part of a clip in front of another scene.

    Args:
        clip: (B, C, T, H, W). moving: (B, 1, T, H, W) in [0, 1]. other: (B or 1, C, 1, H, W).
    """
    return torch.lerp(other.expand_as(clip), clip, moving.expand_as(clip))


def stripes(channels: int, height: int, width: int, rng: np.random.Generator) -> Tensor:
    """An artificial scene: sinusoidal stripes between two random colours, (1, C, 1, H, W) in [0, 1].

    In place of the sinusoids of SCUBA (Li et al., Mitigating and Evaluating Static Bias of Action
    Representations in the Background and the Foreground, ICCV 2023), which are bands with sharp edges along
    sinusoids. These are straight, smooth waves: random direction, two to eight across the picture.
    """
    angle, turns, phase = rng.uniform(0, np.pi), rng.uniform(2, 8), rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:height, :width] / max(height, width)
    wave = 0.5 + 0.5 * np.sin(2 * np.pi * turns * (np.cos(angle) * x + np.sin(angle) * y) + phase)
    one, two = rng.random((2, channels, 1, 1))
    return torch.from_numpy((one + (two - one) * wave).astype(np.float32))[None, :, None]
