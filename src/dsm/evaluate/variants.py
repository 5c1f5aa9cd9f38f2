"""Variants of videos that keep only the scene or only the motion.

A variant is a function of one video (:data:`VARIANTS`). Some show its motion in front of other videos'
scenes. :mod:`dsm.evaluate.variant_features` makes them for a list, and runs encoders over them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dsm.disturb import temporal
from dsm.disturb.scene import box_mean, stripes, swap_scene
from dsm.disturb.spatial_mix import SpatialMix
from dsm.disturb.temporal import TemporalMix
from dsm.render import MEAN
from dsm.video.flow import compute_flow
from dsm.video.sampling import evenly

ALONE = 4
"""Number of a clip's frames that ``static`` shows, one by one."""
SCENES = 3
"""Number of scenes of other labels in front of which each video's motion is shown."""


@dataclass(frozen=True)
class Seen:
    """A video and the inputs of its variants. Colours are in [0, 1]."""

    clips: Tensor
    """(W, C, T, H, W): its windows."""
    scene: Tensor
    """(1, C, 1, H, W): what is still in all windows."""
    moving: Tensor
    """(W, 1, T, H, W): the mask of what moves in front of the scene."""
    others: Tensor
    """(SCENES, C, 1, H, W): the scenes of videos of other labels."""
    same: Tensor
    """(1, C, 1, H, W): the scene of another video of the same label."""
    near: Tensor
    """(1, C, 1, H, W): the most similar of many scenes of other labels."""
    far: Tensor
    """(1, C, 1, H, W): the least similar of them."""
    actor: Tensor
    """(1, C + 1, 1, H, W): a frame of a video of another label; last channel: the mask of what moves."""


Variant = Callable[[Seen, np.random.Generator], Tensor]
"""A video -> (parts, views, C, T, H, W), the same numbers for every video; an encoder's features are averaged
over the views of a part. All variants have one part, except those with the scenes of ``others``."""


def unchanged(seen: Seen, rng: np.random.Generator) -> Tensor:
    """The unchanged clips."""
    return seen.clips[None]


def static(seen: Seen, rng: np.random.Generator) -> Tensor:
    """Single frames, each repeated for a whole clip: :data:`ALONE` of each clip, evenly spread."""
    chosen = evenly(seen.clips.shape[2], ALONE)
    frames = [seen.clips[:, :, place, None].expand_as(seen.clips) for place in chosen]
    return torch.cat(frames)[None]


def shuffled(seen: Seen, rng: np.random.Generator) -> Tensor:
    """Each clip's frames in another order."""
    length = seen.clips.shape[2]
    rows = [temporal.shuffle(np.arange(length), length, rng) for _ in seen.clips]
    # Fewer than three frames have no other order except backwards.
    views = torch.stack([
        clip if row is None else clip[:, torch.from_numpy(row).to(clip.device)]
        for clip, row in zip(seen.clips, rows, strict=True)
    ])  # fmt: skip
    return views[None]


def backwards(seen: Seen, rng: np.random.Generator) -> Tensor:
    """Backwards."""
    return seen.clips.flip(2)[None]


def background(seen: Seen, rng: np.random.Generator) -> Tensor:
    """What moves, in front of the scenes of videos of other labels."""
    return torch.stack([swap_scene(seen.clips, seen.moving, other[None]) for other in seen.others])


def striped(seen: Seen, rng: np.random.Generator) -> Tensor:
    """What moves, in front of stripes."""
    channels, _, height, width = seen.clips.shape[1:]
    made = stripes(channels, height, width, rng).to(seen.clips)
    return swap_scene(seen.clips, seen.moving, made)[None]


def no_foreground(seen: Seen, rng: np.random.Generator) -> Tensor:
    """The scene alone, as one still clip."""
    return seen.scene.expand(-1, -1, seen.clips.shape[2], -1, -1)[None]


def sld(seen: Seen, rng: np.random.Generator) -> Tensor:
    """The clips with the scene disturbed by the defaults of `dsm pretrain`."""
    return SpatialMix()(seen.clips, rng)[None]


def tld(seen: Seen, rng: np.random.Generator) -> Tensor:
    """The clips with the motion disturbed by the defaults of `dsm pretrain`, from their own frames only."""
    return TemporalMix()(seen.clips, rng)[None]


def frozen(views: Tensor, rng: np.random.Generator) -> Tensor:
    """One frame of each view, drawn at random, repeated: (..., C, T, H, W)."""
    flat = views.flatten(0, -5)
    chosen = rng.integers(0, views.shape[-3], len(flat))
    still = torch.stack([
        view[:, int(place), None].expand_as(view) for view, place in zip(flat, chosen, strict=True)
    ])  # fmt: skip
    return still.reshape(views.shape)


def background_frozen(seen: Seen, rng: np.random.Generator) -> Tensor:
    """One frame of each clip of ``background``, repeated: the same without motion."""
    return frozen(background(seen, rng), rng)


def stripes_frozen(seen: Seen, rng: np.random.Generator) -> Tensor:
    """One frame of each clip of ``stripes``, repeated; the stripes are the same."""
    return frozen(striped(seen, rng), rng)


def stripes_actor(seen: Seen, rng: np.random.Generator) -> Tensor:
    """``stripes`` with a still actor of another class, shifted at random; what moves passes before it."""
    channels, _, height, width = seen.clips.shape[1:]
    behind = stripes(channels, height, width, rng).to(seen.clips)
    shift = [int(rng.integers(-side // 3, side // 3 + 1)) for side in (height, width)]
    actor = _shifted(seen.actor, *shift)
    behind = torch.lerp(behind, actor[:, :-1], actor[:, -1:].expand(-1, channels, -1, -1, -1))
    return swap_scene(seen.clips, seen.moving, behind)[None]


def _shifted(picture: Tensor, down: int, right: int) -> Tensor:
    """A picture (..., H, W) moved by whole pixels, filled with zeros."""
    moved = torch.zeros_like(picture)
    height, width = picture.shape[-2:]
    rows, columns = height - abs(down), width - abs(right)
    moved[..., max(down, 0) :, max(right, 0) :][..., :rows, :columns] = picture[
        ..., max(-down, 0) :, max(-right, 0) :
    ][..., :rows, :columns]
    return moved


def flat(seen: Seen, rng: np.random.Generator) -> Tensor:
    """What moves, in front of one colour: the mean of natural video, which is zero after normalisation."""
    return swap_scene(seen.clips, seen.moving, torch.full_like(seen.scene, MEAN))[None]


def same_scene(seen: Seen, rng: np.random.Generator) -> Tensor:
    """What moves, in front of the scene of another video of the same class."""
    return swap_scene(seen.clips, seen.moving, seen.same)[None]


def near_scene(seen: Seen, rng: np.random.Generator) -> Tensor:
    """What moves, in front of a similar scene of another class."""
    return swap_scene(seen.clips, seen.moving, seen.near)[None]


def far_scene(seen: Seen, rng: np.random.Generator) -> Tensor:
    """What moves, in front of a dissimilar scene of another class."""
    return swap_scene(seen.clips, seen.moving, seen.far)[None]


GOLDEN = (5**0.5 - 1) / 2


def carried_noise(flow: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Noise that is carried along a flow, so that one frame shows nothing.

    After Ilic et al., Is Appearance Free Action Recognition Possible? (ECCV 2022). It needs no masks, and the
    camera may move. In the published data, every frame is the same initial noise, moved by the flow of that
    frame alone; here the noise of a frame is carried on to the next.

    Each pixel of a frame shows the grain that the flow brings there, in whole pixels: fractions are rounded
    at another height in each frame, so they add up over frames. A grain is shown once per frame: where the
    flow would stretch the noise, all pixels but one get new grains. So a single frame is independent noise,
    whatever moves; stretched noise would show the outlines of moving things.

    Args:
        flow: (T-1, 2, H, W) in pixels, x first: from each frame but the first *back* to the frame before.

    Returns:
        (T, H, W, 3) in [0, 1].
    """
    height, width = flow.shape[2:]
    y, x = np.mgrid[:height, :width]
    frames = np.empty((len(flow) + 1, height, width, 3), np.float32)
    frames[0] = rng.random((height, width, 3), dtype=np.float32)
    # Multiples of the golden ratio spread evenly, however many there are.
    heights = (rng.random((1, 2)) + GOLDEN * np.arange(len(flow))[:, None]) % 1
    for number, (field, (up_x, up_y)) in enumerate(zip(flow, heights, strict=True), 1):
        column = x + np.floor(field[0] + up_x).astype(np.int64)
        row = y + np.floor(field[1] + up_y).astype(np.int64)
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        source = np.where(inside, row * width + column, 0)
        kept = _once(source, inside)
        fresh = rng.random((height, width, 3), dtype=np.float32)
        frames[number] = np.where(kept[..., None], frames[number - 1].reshape(-1, 3)[source], fresh)
    return frames


def _once(source: NDArray[np.int64], allowed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(H, W): of the allowed pixels with one source, one."""
    places = np.arange(source.size).reshape(source.shape)
    user = np.full(source.size, -1)
    user[source[allowed]] = places[allowed]
    return np.asarray((user[source] == places) & allowed)


def appearance_free(seen: Seen, rng: np.random.Generator) -> Tensor:
    """Noise that moves like the clips (:func:`carried_noise`); needs OpenCV.

    The noise is blurred to a grain size that networks do not average away, so each frame is a sample of the
    same kind of noise.
    """
    shown = (seen.clips * 255).round().byte().permute(0, 2, 3, 4, 1).cpu().numpy()
    # From each frame back to the one before: the flow of the clip played backwards, last pair first.
    flows = [compute_flow(frames[::-1])[::-1] for frames in shown]
    views = [torch.from_numpy(carried_noise(flow, rng)).permute(3, 0, 1, 2) for flow in flows]
    noise = torch.stack(views).to(seen.clips)
    side = 2 * round(min(noise.shape[-2:]) * GRAIN / 2) + 1
    blurred = box_mean(noise.flatten(0, 1), side).reshape(noise.shape)
    # The standard deviation of a mean of n is smaller by the root of n.
    return ((blurred - 0.5) * side + 0.5).clamp(0, 1)[None]


GRAIN = 1 / 12
"""Size of the noise's grains, as a share of the picture's side."""


def recoloured(seen: Seen, rng: np.random.Generator) -> Tensor:
    """The clips in other colours, the same for the whole video: the RGB cube rotated at random."""
    turn, triangle = np.linalg.qr(rng.normal(size=(3, 3)))
    turn *= np.sign(np.diag(triangle))  # all rotations are equally likely (Mezzadri 2007)
    turn[:, 0] *= np.sign(np.linalg.det(turn))  # and none is a reflection
    matrix = torch.from_numpy(turn.astype(np.float32)).to(seen.clips)
    return (torch.einsum("oc,nctyx->notyx", matrix, seen.clips - 0.5) + 0.5).clamp(0, 1)[None]


FOUR_NUMBERS: dict[str, Variant] = {
    "clip": unchanged,
    "static": static,
    "shuffled": shuffled,
    "reversed": backwards,
    "background": background,
    "stripes": striped,
    "no_foreground": no_foreground,
    "sld": sld,
    "tld": tld,
}
"""The variants of the four numbers, by name."""

VARIANTS: dict[str, Variant] = {
    **FOUR_NUMBERS,
    "background_frozen": background_frozen,
    "stripes_frozen": stripes_frozen,
    "stripes_actor": stripes_actor,
    "flat": flat,
    "same_scene": same_scene,
    "near_scene": near_scene,
    "far_scene": far_scene,
    "appearance_free": appearance_free,
    "recoloured": recoloured,
}
"""Each variant, by name."""
DRAWS_LIKE = {
    "background_frozen": "background",
    "stripes_frozen": "stripes",
    "stripes_actor": "stripes",
    "appearance_free": "appearance",
}
"""Variants whose random draws are not named after them: what is compared must show the same scene. (The draws
of clips without appearance are called `appearance` so that numbers of earlier reports stay the same.)"""


def draws_of(name: str, video: int, seed: int) -> np.random.Generator:
    """The generator for a variant of a video; a variant of the same draws gets the same."""
    return np.random.default_rng([seed, *DRAWS_LIKE.get(name, name).encode(), video])
