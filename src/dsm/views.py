"""Views: the versions of one video that a method compares, and how they are drawn.

A method describes its views as :class:`View`. For each view, everything random (frames, crop, parameters of
augmentation and disturbance) is drawn in the data loader from the sample's own generator; ``render.py``
computes the pixels. A :class:`Modality` defines what the network sees: RGB, its change over time, or
optical flow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dsm.disturb.spatial_mix import SpatialMix
from dsm.disturb.temporal import Broken, Indices, MotionScale, TemporalMix
from dsm.errors import UserError

ModalityName = Literal["rgb", "rgbdiff", "flow"]


@dataclass(frozen=True)
class Modality:
    """The channels of a clip, and the frames to read for it."""

    channels: int
    more_frames: int
    """Frames to read beyond those of the clip: a change needs a frame after the last."""


MODALITIES: dict[ModalityName, Modality] = {
    "rgb": Modality(channels=3, more_frames=0),
    "rgbdiff": Modality(channels=3, more_frames=1),
    "flow": Modality(channels=2, more_frames=1),
}


# ITU-R BT.601 weights of red, green and blue in lightness.
LUMA = (0.299, 0.587, 0.114)
TO_YIQ = np.array([LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
FROM_YIQ = np.linalg.inv(TO_YIQ)


@dataclass(frozen=True)
class Augment:
    """The strengths of the standard augmentation."""

    rotate: float = 10.0
    """Largest rotation, in degrees."""
    zoom: float = 0.0
    """Largest zoom: factors from 1/(1+zoom) to 1+zoom."""
    brightness: float = 0.5
    """Largest change of the brightness, as a share of it."""
    contrast: float = 0.5
    """Largest change of the contrast, as a share of it."""
    saturation: float = 0.25
    """Largest change of the saturation, as a share of it."""
    hue: float = 0.5
    """Largest shift of the hue, as a share of the colour circle (0.5: any hue)."""
    jitter: float = 0.4
    """Share of clips whose colours are jittered (the paper: 1; SimCLR and MoCo v2: 0.8). With a higher share,
    a short training learns little."""
    light: float = 0.3
    """Largest change of brightness over the frames of a clip, drawn for each view: 0.2 allows factors from
    0.8 to 1.2 (the paper: 0). Without it, changes of light can identify a video without its motion."""

    def __post_init__(self) -> None:
        for name in ("rotate", "zoom", "brightness", "contrast", "saturation", "hue"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"augment.{name} must be 0 or more, not {getattr(self, name):g}.")
        if not 0 <= self.light < 1:
            raise UserError(f"augment.light must be at least 0 and below 1, not {self.light:g}.")
        if not 0 <= self.jitter <= 1:
            raise UserError(f"augment.jitter is a share of clips, from 0 to 1, not {self.jitter:g}.")

    def draw_affine(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """A matrix (2, 2) that rotates and zooms the sampling grid about the centre."""
        angle = math.radians(rng.uniform(-self.rotate, self.rotate))
        factor = (1 + self.zoom) ** rng.uniform(-1, 1)
        c, s = math.cos(angle) / factor, math.sin(angle) / factor
        return np.array([[c, -s], [s, c]], np.float32)

    def draw_colour(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Brightness, contrast, saturation and hue as one affine map of RGB.

        Returns:
            (3, 4): columns 0-2 are a matrix on RGB; column 3 is the share of the clip's mean
            lightness to add, because contrast pivots there.
        """
        # With jitter 1, nothing is drawn here, so that a seed keeps its other draws.
        if self.jitter < 1 and rng.random() >= self.jitter:
            return np.eye(3, 4, dtype=np.float32)
        brightness, contrast, saturation = (
            rng.uniform(max(0.0, 1 - s), 1 + s) for s in (self.brightness, self.contrast, self.saturation)
        )
        angle = math.tau * rng.uniform(-self.hue, self.hue)
        grey = np.tile(LUMA, (3, 1))
        # Saturation blends with grey; hue rotates chroma in YIQ, which does not change lightness.
        c, s = math.cos(angle), math.sin(angle)
        turn = FROM_YIQ @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ TO_YIQ
        matrix = turn @ (saturation * np.eye(3) + (1 - saturation) * grey) * brightness * contrast
        pivot = (1 - contrast) * brightness
        return np.concatenate([matrix, np.full((3, 1), pivot)], axis=1).astype(np.float32)

    def draw_light(self, frames: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """The brightness factor of each frame of a clip, (T,): a smooth curve, the sum of three waves.

        Real light varies over time, which can identify a video without its motion. Changes drawn separately
        for anchor and positive carry no such information.
        """
        t = np.arange(frames) / frames
        # Half a wave per clip is a drift, four are a flicker.
        waves = [np.sin(math.tau * (rng.uniform(0.5, 4) * t + rng.random())) for _ in range(3)]
        curve = np.sum(waves, axis=0)
        return (1 + rng.uniform(0, self.light) * curve / np.abs(curve).max()).astype(np.float32)


# Prefix of the SLD draws among the parameters of a view.
SLD = "sld_"
TAKEN = "taken"
"""A parameter of a view that gets other clips' pictures, if an earlier view of the sample does: which clip's
that one got. If both showed the same new scene, an encoder could match them by it."""


@dataclass(frozen=True)
class View:
    """One view of a video that a method uses."""

    name: str
    spatial: SpatialMix | None = None
    """SLD: breaks the scene, keeps the motion."""
    temporal: TemporalMix | None = None
    """TLD: keeps the scene, breaks the motion."""
    look_of: str | None = None
    """An earlier view whose crop, rotation, colours and SLD this one shares exactly."""


ANCHOR, POSITIVE = View("anchor"), View("positive")
"""The views of a method without SLD."""


NegativeLook = Literal["anchor", "positive", "own", "redrawn"]
"""The look of a motion-broken negative: exactly the crop, colours and SLD of the anchor, or of the positive;
its own crop and colours without SLD; or its own crop, colours and SLD."""


def broken_motion(
    name: str, anchor: View, tld: TemporalMix, look: NegativeLook, positive: View = POSITIVE
) -> View:
    """The negative of an anchor: its scene with broken motion.

    With the anchor's look, it is closer to the anchor than the positive in everything but the motion, so an
    encoder that relies on looks is always wrong. With the positive's look, it differs from the positive only
    in motion, so no difference of looks hides the motion. With its own look, it is as far
    away as the positive. If anchor and positive both have SLD, a negative without it could be recognised by
    that alone; ``redrawn`` gives it SLD too.
    """
    if look == "anchor":
        return View(name, spatial=anchor.spatial, temporal=tld, look_of=anchor.name)
    if look == "positive":
        return View(name, spatial=positive.spatial, temporal=tld, look_of=positive.name)
    return View(name, spatial=anchor.spatial if look == "redrawn" else None, temporal=tld)


@dataclass(frozen=True)
class ViewDraw:
    """The random choices for one view of one sample."""

    indices: Indices
    """(T,) frames of the video."""
    corner: tuple[float, float]
    """The position of the crop, as shares (x, y) of the free space."""
    scale: MotionScale | None
    """A change of pace to apply to these frames, or None."""
    parameters: dict[str, NDArray[np.float32]]
    """``affine``, ``colour``, ``light`` if it varies and, with SLD, ``sld_…`` for each of its kinds, and
    :data:`TAKEN`; stacked later over a batch."""


def draw_views(
    views: Sequence[View], augment: Augment, window: Indices, total: int, rng: np.random.Generator
) -> list[ViewDraw]:
    """Draw everything random about the views of one sample.

    Args:
        window: (T,) frame indices of the anchor.
        total: frames of the video.
        rng: the sample's generator.
    """
    draws: dict[str, ViewDraw] = {}
    taken: NDArray[np.float32] | None = None
    for view in views:
        broken = view.temporal.draw(window, total, rng) if view.temporal else Broken(window)
        if view.look_of:
            draws[view.name] = replace(draws[view.look_of], indices=broken.indices, scale=broken.scale)
            continue
        corner = (float(rng.random()), float(rng.random()))
        parameters = {"affine": augment.draw_affine(rng), "colour": augment.draw_colour(rng)}
        if augment.light:
            parameters["light"] = augment.draw_light(len(window), rng)
        if view.spatial:
            drawn = view.spatial.draw(rng)
            parameters |= {SLD + name: draw for name, draw in drawn.items()}
            if view.spatial.lends and taken is not None:
                parameters[TAKEN] = taken
            elif view.spatial.lends:
                taken = np.array(view.spatial.partner(drawn), np.float32)
        draws[view.name] = ViewDraw(broken.indices, corner, broken.scale, parameters)
    return list(draws.values())
