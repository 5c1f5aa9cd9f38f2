"""The scene of a clip and what moves before it, told apart without masks: to ask what a network goes by.

The scene is the temporal median: what is seen at a pixel most of the time. What differs from it moves
(background subtraction by the median; McFarlane & Schofield 1995). Both want a camera that stands still or
nearly so; :func:`moving_mask` of a moving camera is 1 nearly everywhere.
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


def temporal_median(clip: Tensor) -> Tensor:
    """The scene: clips (B, C, T, H, W) -> (B, C, 1, H, W); of an even number of frames, the lower middle."""
    return clip.median(dim=2, keepdim=True).values


def moving_mask(clip: Tensor, scene: Tensor) -> Tensor:
    """How surely each pixel belongs to what moves: (B, 1, T, H, W) in [0, 1].

    The largest change of a colour against the scene, averaged over a small box; 0 up to a threshold, 1 from
    a second on, linear between. What half of the pixels of a frame show at the least is taken off first.

    Args:
        clip: (B, C, T, H, W) in [0, 1].
        scene: (B or 1, C, 1, H, W), its :func:`temporal_median`.
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
