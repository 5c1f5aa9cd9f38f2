"""Views: the versions of one video that a method compares, drawn and rendered.

A method asks for views by :class:`View`. For each, what is random is drawn in the loader from
the sample's own generator (which frames, which crop, the parameters of augmentation and
disturbance); the pixels are worked on a whole batch at a time, wherever the batch lies.
Turn, zoom and SLD are joined into one sampling of the picture, so that it blurs but once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dsm.augment import Augment, change_light, jitter_colour
from dsm.disturb.motion_scale import MotionScale
from dsm.disturb.spatial_mix import SpatialMix
from dsm.disturb.temporal import Broken, Indices, TemporalMix
from dsm.disturb.warp import identity_grid, warp
from dsm.modality import ModalityName, to_network

Clips = Mapping[str, Tensor]
# Before the names of the draws of SLD, among the parameters of a view.
SLD = "sld_"


@dataclass(frozen=True)
class View:
    """One view of a video that a method wants."""

    name: str
    spatial: SpatialMix | None = None
    """SLD: the scene is broken, the motion kept."""
    temporal: TemporalMix | None = None
    """TLD: the scene is kept, the motion broken."""
    look_of: str | None = None
    """An earlier view whose crop, turn, colours and SLD this one shares, to the pixel."""


NegativeLook = Literal["anchor", "own", "redrawn"]
"""Whose crop, colours and SLD a motion-broken negative has: the anchor's to the pixel; its own crop and
colours, and no SLD; or all of them its own, SLD included."""


def broken_motion(name: str, anchor: View, tld: TemporalMix, look: NegativeLook) -> View:
    """The negative of an anchor.

    With the anchor's look it is nearer to the anchor than the positive is in all but the motion, so an
    encoder that relies on looks is wrong every time. With a look of its own it is as far as the positive.
    Where anchor and positive both have SLD, a negative without it is told by that alone: ``redrawn`` gives it
    one.
    """
    if look == "anchor":
        return View(name, spatial=anchor.spatial, temporal=tld, look_of=anchor.name)
    return View(name, spatial=anchor.spatial if look == "redrawn" else None, temporal=tld)


@dataclass(frozen=True)
class ViewDraw:
    """The random choices for one view of one sample."""

    indices: Indices
    """(T,) frames of the video."""
    corner: tuple[float, float]
    """Where the crop lies, as shares (x, y) of the room there is."""
    scale: MotionScale | None
    """At another pace for a while, to be made of these frames; None as they are."""
    parameters: dict[str, NDArray[np.float32]]
    """``affine``, ``colour``, ``light`` where it wanders and, with SLD, ``sld_…`` for each of its kinds;
    to be stacked over a batch."""


def draw_views(
    views: Sequence[View], augment: Augment, window: Indices, total: int, rng: np.random.Generator
) -> list[ViewDraw]:
    """Choose everything random about the views of one sample.

    Args:
        window: (T,) frame indices of the anchor.
        total: frames of the video.
        rng: the sample's generator.
    """
    draws: dict[str, ViewDraw] = {}
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
            parameters |= {SLD + name: draw for name, draw in view.spatial.draw(rng).items()}
        draws[view.name] = ViewDraw(broken.indices, corner, broken.scale, parameters)
    return list(draws.values())


def render_view(
    view: View, clips: Clips, parameters: dict[str, Tensor], modality: ModalityName = "rgb"
) -> Tensor:
    """Make a view of a batch of cropped clips.

    Args:
        clips: of all views by name: uint8 (B, T, H, W, 3), or flow in pixels, float (B, T, H, W, 2).
        parameters: what :func:`draw_views` drew for this view, stacked, on the clips' device.

    Returns:
        float32 (B, C, T, H, W), as a network takes it.
    """
    return to_network(disturb_view(view, clips, parameters), modality)


def disturb_view(view: View, clips: Clips, parameters: dict[str, Tensor]) -> Tensor:
    """As :func:`render_view`, but RGB in [0, 1] or flow in pixels: what a person would look at."""
    clip = clips[view.name]
    affine = parameters["affine"]
    if clip.dtype == torch.uint8:
        x = _coloured(clip, parameters)
    else:
        # The picture is sampled at `affine @ p`, so what moves in it moves by the inverse.
        x = torch.einsum("bij,bthwj->bithw", affine.inverse(), clip.float())
    grid = identity_grid(x.shape[-2], x.shape[-1], x).expand(len(x), -1, -1, -1)
    if view.spatial:
        draws = {name.removeprefix(SLD): p for name, p in parameters.items() if name.startswith(SLD)}
        if clip.dtype == torch.uint8:
            # A picture that is mixed in, and where, is part of a look: both are those of the look's own clip.
            other = view.look_of if view.spatial.mixes else None
            x = view.spatial.mix(x, draws, _coloured(clips[other], parameters) if other else None)
        grid = view.spatial.field(draws, grid)
    grid = torch.einsum("bij,bhwj->bhwi", affine, grid)
    return warp(x, grid, view.spatial.padding if view.spatial else "reflection")


def _coloured(clip: Tensor, parameters: dict[str, Tensor]) -> Tensor:
    """RGB (B, 3, T, H, W) in [0, 1] of uint8 (B, T, H, W, 3), in the view's colours and light."""
    x = jitter_colour(clip.permute(0, 4, 1, 2, 3).float() / 255, parameters["colour"])
    return change_light(x, parameters["light"]) if "light" in parameters else x
