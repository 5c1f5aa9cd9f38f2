"""Standard augmentation, one draw a clip: turn and zoom, crop, colour jitter.

Draws are apart from their application: what is random comes from a sample's own generator,
what is costly runs on a whole batch, on any device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dsm.errors import UserError

# ITU-R BT.601 weights of red, green and blue in lightness.
LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Augment:
    """The strengths of the standard augmentation; the defaults are the paper's."""

    rotate: float = 10.0
    """Largest turn, degrees."""
    zoom: float = 0.0
    """Largest change of size: factors from 1/(1+zoom) to 1+zoom."""
    brightness: float = 0.5
    contrast: float = 0.5
    saturation: float = 0.25
    hue: float = 0.5
    """Largest turn of the hue, as a share of the colour circle (0.5: any hue)."""
    jitter: float = 1.0
    """Share of clips whose colour is jittered at all (0.8 in SimCLR and MoCo v2)."""
    light: float = 0.0
    """How far the light of a clip wanders over its frames, at most: 0.2 is to 0.8 or 1.2 times as bright."""

    def __post_init__(self) -> None:
        for name in ("rotate", "zoom", "brightness", "contrast", "saturation", "hue"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"augment.{name} must be 0 or more, not {getattr(self, name):g}.")
        if not 0 <= self.light < 1:
            raise UserError(f"augment.light must be from 0 to below 1, not {self.light:g}.")
        if not 0 <= self.jitter <= 1:
            raise UserError(f"augment.jitter is a share of clips, from 0 to 1, not {self.jitter:g}.")

    def draw_affine(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """A matrix (2, 2) that turns and zooms the sampling grid about the centre."""
        angle = math.radians(rng.uniform(-self.rotate, self.rotate))
        factor = (1 + self.zoom) ** rng.uniform(-1, 1)
        c, s = math.cos(angle) / factor, math.sin(angle) / factor
        return np.array([[c, -s], [s, c]], np.float32)

    def draw_colour(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Brightness, contrast, saturation and hue as one affine map of RGB.

        Returns:
            (3, 4): columns 0-2 are a matrix on RGB; column 3 is the share of the clip's mean
            lightness to add, for contrast pivots there.
        """
        # No number is drawn where none decides, so that a seed keeps its draws.
        if self.jitter < 1 and rng.random() >= self.jitter:
            return np.eye(3, 4, dtype=np.float32)
        brightness, contrast, saturation = (
            rng.uniform(max(0.0, 1 - s), 1 + s) for s in (self.brightness, self.contrast, self.saturation)
        )
        angle = math.tau * rng.uniform(-self.hue, self.hue)
        luma = np.array(LUMA)
        grey = np.tile(luma, (3, 1))
        # Saturation blends with grey; hue turns chroma in YIQ, which leaves lightness alone.
        to_yiq = np.array([luma, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
        c, s = math.cos(angle), math.sin(angle)
        turn = np.linalg.inv(to_yiq) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ to_yiq
        matrix = turn @ (saturation * np.eye(3) + (1 - saturation) * grey) * brightness * contrast
        pivot = (1 - contrast) * brightness
        return np.concatenate([matrix, np.full((3, 1), pivot)], axis=1).astype(np.float32)

    def draw_light(self, frames: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """How bright each frame of a clip is to be, as a factor (T,): a smooth curve of three waves.

        Real light wanders, and tells one video from another without a motion. What anchor and positive have
        each of their own tells nothing.
        """
        t = np.arange(frames) / frames
        # Half a wave a clip is a drift, four are a flicker.
        waves = [np.sin(math.tau * (rng.uniform(0.5, 4) * t + rng.random())) for _ in range(3)]
        curve = np.sum(waves, axis=0)
        return (1 + rng.uniform(0, self.light) * curve / np.abs(curve).max()).astype(np.float32)


def jitter_colour(clip: Tensor, colour: Tensor) -> Tensor:
    """Apply :meth:`Augment.draw_colour` to clips.

    Args:
        clip: (B, 3, T, H, W) RGB in [0, 1].
        colour: (B, 3, 4).

    Returns:
        (B, 3, T, H, W), clamped to [0, 1].
    """
    b, _, t, h, w = clip.shape
    luma = torch.tensor(LUMA, dtype=clip.dtype, device=clip.device)
    mean = torch.einsum("c,bc->b", luma, clip.mean((2, 3, 4)))
    offset = colour[:, :, 3] * mean[:, None]
    out = torch.baddbmm(offset[:, :, None], colour[:, :, :3], clip.reshape(b, 3, -1))
    return out.clamp_(0, 1).reshape(b, 3, t, h, w)


def change_light(clip: Tensor, light: Tensor) -> Tensor:
    """Apply :meth:`Augment.draw_light` to clips.

    Args:
        clip: (B, 3, T, H, W) RGB in [0, 1].
        light: (B, T).

    Returns:
        (B, 3, T, H, W), clamped to [0, 1].
    """
    return (clip * light[:, None, :, None, None]).clamp_(0, 1)
