"""Variants of videos that keep the scene or the motion, and what encoders make of each.

Every video is decoded once, and all its variants are made of its clips where the encoders lie. A variant is
a function of one video: :data:`VARIANTS` lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dsm.datasets.evaluation_clips import EvaluationClips, load_clips
from dsm.datasets.lists import VideoList
from dsm.datasets.reading import ClipConfig
from dsm.disturb import temporal
from dsm.disturb.scene import moving_mask, stripes, swap_scene, temporal_median
from dsm.disturb.spatial_mix import SpatialMix
from dsm.disturb.temporal import TemporalMix
from dsm.errors import UserError
from dsm.modality import to_network
from dsm.models.precision import channels_last

ALONE = 4
"""Frames of a clip that ``static`` shows, each alone."""
SCENES = 3
"""Scenes that each video's motion is put before."""
SCENE_FRAMES = 16
"""Frames of a video, at the least, whose median is its scene."""


@dataclass(frozen=True)
class Seen:
    """One video, and what its variants are made of. Colours are in [0, 1]."""

    clips: Tensor
    """(W, C, T, H, W): its windows."""
    scene: Tensor
    """(1, C, 1, H, W): the temporal median of all windows."""
    moving: Tensor
    """(W, 1, T, H, W): what moves before it."""
    others: Tensor
    """(SCENES, C, 1, H, W): the scenes of videos of other labels."""


Variant = Callable[[Seen, np.random.Generator], Tensor]
"""A video -> (parts, views, C, T, H, W), as many for every video; an encoder's features are averaged over the
views of a part. All variants have one part but ``background``, which has one for each of the scenes."""


def unchanged(seen: Seen, rng: np.random.Generator) -> Tensor:
    """The clips as they are."""
    return seen.clips[None]


def static(seen: Seen, rng: np.random.Generator) -> Tensor:
    """Single frames, each alone and repeated: :data:`ALONE` of each clip, evenly spread."""
    length = seen.clips.shape[2]
    chosen = np.unique(np.rint(np.linspace(0, length - 1, min(ALONE, length))).astype(int))
    frames = [seen.clips[:, :, place, None].expand_as(seen.clips) for place in chosen]
    return torch.cat(frames)[None]


def shuffled(seen: Seen, rng: np.random.Generator) -> Tensor:
    """Each clip's frames in another order."""
    length = seen.clips.shape[2]
    rows = [temporal.shuffle(np.arange(length), length, rng) for _ in seen.clips]
    # Fewer than three frames have no other order but backwards.
    views = torch.stack([
        clip if row is None else clip[:, torch.from_numpy(row).to(clip.device)]
        for clip, row in zip(seen.clips, rows, strict=True)
    ])  # fmt: skip
    return views[None]


def backwards(seen: Seen, rng: np.random.Generator) -> Tensor:
    """Backwards."""
    return seen.clips.flip(2)[None]


def background(seen: Seen, rng: np.random.Generator) -> Tensor:
    """What moves, before the scenes of videos of other labels."""
    return torch.stack([swap_scene(seen.clips, seen.moving, other[None]) for other in seen.others])


def striped(seen: Seen, rng: np.random.Generator) -> Tensor:
    """What moves, before stripes."""
    channels, _, height, width = seen.clips.shape[1:]
    made = stripes(channels, height, width, rng).to(seen.clips)
    return swap_scene(seen.clips, seen.moving, made)[None]


def no_foreground(seen: Seen, rng: np.random.Generator) -> Tensor:
    """The scene alone, throughout one clip."""
    return seen.scene.expand(-1, -1, seen.clips.shape[2], -1, -1)[None]


def sld(seen: Seen, rng: np.random.Generator) -> Tensor:
    """The scene bent, as `dsm pretrain` bends it by default."""
    return SpatialMix()(seen.clips, rng)[None]


def tld(seen: Seen, rng: np.random.Generator) -> Tensor:
    """The motion broken, as `dsm pretrain` breaks it by default, by the clip's own frames."""
    return TemporalMix()(seen.clips, rng)[None]


VARIANTS: dict[str, Variant] = {
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
"""Each variant, by name."""


Pictures = dict[str, NDArray[np.uint8]]
"""By variant: (T, H, W, 3)."""


@dataclass(frozen=True)
class VariantFeatures:
    """What encoders make of every variant of a list of videos, in the list's order."""

    features: list[dict[str, NDArray[np.float32]]]
    """Of each encoder, by variant: (n, parts, D), each the mean over a part's views."""
    others: NDArray[np.int64]
    """(n, SCENES): the videos whose scenes each one was put before."""
    swapped: NDArray[np.float64]
    """(n,): the share of the picture that was exchanged: 1 - the mean of what moves."""
    pictures: Pictures
    """One clip of one video in all variants, to look at."""


def draw_others(labels: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """An order to go through videos in which each finds scenes of other labels behind it.

    Args:
        labels: (n,), of two kinds at least.

    Returns:
        The order (n + 1,), a random one behind one video that comes first only to give its scene; and for
        each place of it the nearest earlier places of another label, (n + 1, SCENES), the nearest again where
        there are fewer; -1 at the first place.

    Raises:
        UserError: all videos have one label.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    unlike = np.flatnonzero(labels[order] != labels[order[0]])
    if not len(unlike):
        raise UserError("to swap backgrounds, videos of two classes at least are needed.")
    order = np.concatenate([order[unlike[:1]], order])
    found = labels[order]
    behind = np.full((len(order), SCENES), -1)
    for place in range(1, len(order)):
        other = np.flatnonzero(found[:place] != found[place])[: -SCENES - 1 : -1]
        behind[place] = np.resize(other, SCENES)
    return order, behind


@torch.no_grad()
def features_of_variants(
    encoders: Sequence[nn.Module],
    videos: VideoList,
    clip: ClipConfig,
    variants: Mapping[str, Variant],
    *,
    windows: int = 3,
    batch_size: int = 4,
    workers: int = 1,
    seed: int = 0,
    on_progress: Callable[[int], None] = lambda done: None,
) -> VariantFeatures:
    """Run encoders over all variants of all videos, which are decoded once.

    What is random about a video in a variant comes from the seed, the variant's name and the video's
    place in the list; the batch has no say in it.

    Args:
        encoders: normalised clips (B, C, T, H, W) -> (B, D); used in evaluation mode, where they lie.
        videos: labelled.
        windows: clips a video, evenly spread over its length.
        batch_size: videos at a time.
        on_progress: called with the number of videos done.

    Raises:
        UserError: a video cannot be read, all have one label, or the clips are optical flow.
    """
    if clip.modality == "flow":
        raise UserError("variants are made of pictures; weights that look at optical flow have no such.")
    device = next(encoders[0].parameters()).device
    encoders = [channels_last(one.eval()) for one in encoders]
    order, behind = draw_others(videos.labels, seed)
    last_use = {int(place): at for at, places in enumerate(behind) for place in places}
    # A scene wants more frames than a short clip or two have: more are read than are encoded.
    read = max(windows, -(-SCENE_FRAMES // clip.frames_to_read))
    read += windows == 1 and read % 2 == 0  # so that one is in the middle
    shown_windows = np.rint(np.linspace(0, read - 1, windows)).astype(int) if windows > 1 else [read // 2]
    batches = load_clips(
        EvaluationClips(videos, clip, read, workers=workers), batch_size,
        workers=workers, order=order.tolist(), pin_memory=device.type == "cuda",
    )  # fmt: skip
    rows: list[dict[str, list[NDArray[np.float32]]]] = [{name: [] for name in variants} for _ in encoders]
    pictures: Pictures = {}
    scenes: dict[int, Tensor] = {}
    swapped = np.empty(len(videos))
    done = 0
    for batch in batches:
        decoded = batch["clips"].unflatten(0, (len(batch["index"]), -1))  # (B, W, T, S, S, C) uint8
        colours: Tensor = decoded.to(device).permute(0, 1, 5, 2, 3, 4).float() / 255
        shown: list[tuple[int, Seen]] = []
        for place, clips in enumerate(colours, start=done):
            scenes[place] = temporal_median(clips.transpose(0, 1).flatten(1, 2)[None])
            if place:
                clips = clips[shown_windows]
                moving = moving_mask(clips, scenes[place])
                others = torch.cat([scenes[other] for other in behind[place].tolist()])
                swapped[order[place]] = 1 - float(moving.mean())
                seen = Seen(clips, scenes[place], moving, others)
                shown.append((int(order[place]), seen))
        done += len(batch["index"])
        scenes = {place: scene for place, scene in scenes.items() if last_use.get(place, -1) >= done}
        if not shown:
            continue
        for name, variant in variants.items():
            views = [
                variant(seen, np.random.default_rng([seed, *name.encode(), video])) for video, seen in shown
            ]
            parts, each = views[0].shape[:2]
            pieces = torch.chunk(torch.cat(views).flatten(0, 1), max(parts * each // windows, 1))
            for encoder, row in zip(encoders, rows, strict=True):
                found = torch.cat([encoder(_to_network(piece, clip)).float() for piece in pieces])
                found = found.reshape(len(shown), parts, each, found.shape[-1]).mean(2)
                row[name].append(found.cpu().numpy())
            pictures.setdefault(name, _to_look_at(views[0][0, 0]))
        on_progress(done - 1)
    back = np.argsort(order[1:])
    return VariantFeatures(
        [{name: np.concatenate(parts)[back] for name, parts in row.items()} for row in rows],
        others=order[behind[1:]][back],
        swapped=swapped,
        pictures=pictures,
    )


def _to_look_at(clip: Tensor) -> NDArray[np.uint8]:
    frames: NDArray[np.uint8] = (clip.clamp(0, 1) * 255).round().byte().permute(1, 2, 3, 0).cpu().numpy()
    return frames


def _to_network(clips: Tensor, clip: ClipConfig) -> Tensor:
    return to_network(clips, clip.modality).contiguous(memory_format=torch.channels_last_3d)
