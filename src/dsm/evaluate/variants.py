"""Variants of videos that keep only the scene or only the motion, and their features.

Every video is decoded once; all its variants are made from its clips, on the encoders' device. A variant is
a function of one video (:data:`VARIANTS`); some show its motion in front of other videos' scenes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dsm.data.clips import EvaluationClips
from dsm.data.lists import VideoList
from dsm.data.loading import load_clips
from dsm.data.settings import ClipConfig
from dsm.disturb import temporal
from dsm.disturb.scene import moving_mask, still_scene, stripes, swap_scene
from dsm.disturb.spatial_mix import SpatialMix
from dsm.disturb.temporal import TemporalMix
from dsm.errors import UserError
from dsm.models.precision import channels_last
from dsm.render import to_network
from dsm.video.source import BadVideo

SCENES = 3
"""Number of other scenes that each video's motion is shown before."""


def draw_order(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """An order to process videos (n,) in, such that scenes of other labels come before each.

    Returns:
        (n + 1,): a random order, preceded by one extra video that provides a scene for the next one.

    Raises:
        UserError: all videos have one label.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    unlike = np.flatnonzero(labels[order] != labels[order[0]])
    if not len(unlike):
        raise UserError("swapping backgrounds needs videos of at least two classes.")
    return np.concatenate([order[unlike[:1]], order])


class OtherScenes:
    """The scenes of the last videos, as few as give every label :data:`SCENES` scenes of other labels."""

    def __init__(self) -> None:
        self._kept: list[tuple[int, int, Tensor]] = []  # video, label, scene; the last first

    def __len__(self) -> int:
        return len(self._kept)

    def behind(self, label: int) -> tuple[list[int], list[Tensor]] | None:
        """The last :data:`SCENES` videos of other labels and their scenes, the last first.

        If there are fewer, they repeat; None where there is none.
        """
        other = [(video, scene) for video, its, scene in self._kept if its != label][:SCENES]
        if not other:
            return None
        other = [other[place % len(other)] for place in range(SCENES)]
        return [video for video, _ in other], [scene for _, scene in other]

    def add(self, video: int, label: int, scene: Tensor) -> None:
        """Add the scene of a video, and drop older scenes that no label needs any more."""
        kept: list[tuple[int, int, Tensor]] = []
        of_label: Counter[int] = Counter()
        for each in [(video, label, scene), *self._kept]:
            others = (count for its, count in of_label.items() if its != each[1])
            # Among the newer scenes, the most frequent label has the fewest scenes of other labels.
            if len(kept) - max(others, default=0) < SCENES:
                kept.append(each)
                of_label[each[1]] += 1
        self._kept = kept


ALONE = 4
"""Number of a clip's frames that ``static`` shows, each alone."""
SCENE_FRAMES = 16
"""Least number of a video's frames that its scene is computed from."""


@dataclass(frozen=True)
class Seen:
    """One video and the inputs of its variants. Colours are in [0, 1]."""

    clips: Tensor
    """(W, C, T, H, W): its windows."""
    scene: Tensor
    """(1, C, 1, H, W): what is still in all windows."""
    moving: Tensor
    """(W, 1, T, H, W): the mask of what moves before the scene."""
    others: Tensor
    """(SCENES, C, 1, H, W): the scenes of videos of other labels."""


Variant = Callable[[Seen, np.random.Generator], Tensor]
"""A video -> (parts, views, C, T, H, W), the same numbers for every video; an encoder's features are averaged
over the views of a part. All variants have one part, except ``background``, which has one per scene."""


def unchanged(seen: Seen, rng: np.random.Generator) -> Tensor:
    """The unchanged clips."""
    return seen.clips[None]


def static(seen: Seen, rng: np.random.Generator) -> Tensor:
    """Single frames, each repeated for a whole clip: :data:`ALONE` of each clip, evenly spread."""
    length = seen.clips.shape[2]
    chosen = np.unique(np.rint(np.linspace(0, length - 1, min(ALONE, length))).astype(int))
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
    """What moves, shown before the scenes of videos of other labels."""
    return torch.stack([swap_scene(seen.clips, seen.moving, other[None]) for other in seen.others])


def striped(seen: Seen, rng: np.random.Generator) -> Tensor:
    """What moves, shown before stripes."""
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
    """Encoders' features of every variant of a list's n readable videos, in the list's order."""

    features: list[dict[str, NDArray[np.float32]]]
    """For each encoder, by variant: (n, parts, D), each the mean over a part's views."""
    places: NDArray[np.int64]
    """(n,): the videos' places in the list."""
    others: NDArray[np.int64]
    """(n, SCENES): the videos whose scenes replaced each video's own, as rows of these arrays."""
    swapped: NDArray[np.float64]
    """(n,): the share of the picture that was replaced: 1 - the mean of the moving mask."""
    pictures: Pictures
    """One clip of one video in all variants, for display."""


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
    on_bad: Callable[[BadVideo], None] | None = None,
) -> VariantFeatures:
    """Run encoders over variants of videos; a video's feature in a variant is the mean over its windows.

    Randomness in a video's variant depends only on the seed, the variant's name and the video's place in the
    list, not on the batch.

    Args:
        encoders: normalised clips (B, C, T, H, W) -> (B, D); used in evaluation mode, on their own device.
        videos: labelled.
        windows: clips per video, evenly spread over its length.
        batch_size: videos per batch.
        on_progress: called with the number of videos done.
        on_bad: called with each unreadable video, which is left out; without it the first unreadable video
            raises an error.

    Raises:
        VideoError: a video cannot be read, without ``on_bad``. UserError: all readable videos have one label,
            or the clips are optical flow.
    """
    if clip.modality == "flow":
        raise UserError("variants need pictures; weights that take optical flow cannot be tested with them.")
    device = next(encoders[0].parameters()).device
    encoders = [channels_last(one.eval()) for one in encoders]
    # A scene needs more frames than one or two short clips have, so more clips are read than encoded.
    read = max(windows, -(-SCENE_FRAMES // clip.frames_to_read))
    read += windows == 1 and read % 2 == 0  # an odd number, so that one clip is in the middle
    shown_windows = np.rint(np.linspace(0, read - 1, windows)).astype(int) if windows > 1 else [read // 2]
    clips_of = EvaluationClips(videos, clip, read, workers=workers)
    rows: list[dict[str, list[NDArray[np.float32]]]] = [{name: [] for name in variants} for _ in encoders]
    pictures: Pictures = {}
    scenes, bad = OtherScenes(), set[int]()
    judged: list[int] = []
    behind: list[list[int]] = []
    swapped: list[float] = []
    waiting = draw_order(videos.labels, seed).tolist()
    # Videos that come before any scene of another label wait for a second pass: the extra first video, which
    # still gets its own turn, and those after it if it cannot be read.
    for _ in range(2):
        batches = load_clips(
            clips_of, batch_size, workers=workers, order=waiting, pin_memory=device.type == "cuda",
            past_bad=on_bad is not None,
        )  # fmt: skip
        waiting = []
        for batch in batches:
            for one in batch["bad"]:
                if on_bad is not None and one.index not in bad:
                    bad.add(one.index)
                    on_bad(one)
            if not batch["index"]:
                continue
            decoded = batch["clips"].unflatten(0, (len(batch["index"]), -1))  # (B, W, T, S, S, C) uint8
            colours: Tensor = decoded.to(device).permute(0, 1, 5, 2, 3, 4).float() / 255
            shown: list[tuple[int, Seen]] = []
            for video, clips in zip(batch["index"], colours, strict=True):
                scene = still_scene(clips.transpose(0, 1).flatten(1, 2)[None])
                label = int(videos.labels[video])
                others = scenes.behind(label)
                scenes.add(video, label, scene)
                if others is None:
                    waiting.append(video)
                    continue
                clips = clips[shown_windows]
                moving = moving_mask(clips, scene)
                judged.append(video)
                behind.append(others[0])
                swapped.append(1 - float(moving.mean()))
                shown.append((video, Seen(clips, scene, moving, torch.cat(others[1]))))
            if not shown:
                continue
            for name, variant in variants.items():
                views = [
                    variant(seen, np.random.default_rng([seed, *name.encode(), video]))
                    for video, seen in shown
                ]
                for encoder, row in zip(encoders, rows, strict=True):
                    row[name].append(_encode(encoder, views, clip, windows))
                pictures.setdefault(name, _to_look_at(views[0][0, 0]))
            on_progress(len(judged) + len(bad))
        waiting = [video for video in dict.fromkeys(waiting) if video not in set(judged)]
        if not waiting:
            break
    if not judged:
        raise UserError(f"{videos.source}: its readable videos have only one class; two are needed.")
    places, back = np.sort(judged), np.argsort(judged)
    return VariantFeatures(
        [{name: np.concatenate(parts)[back] for name, parts in row.items()} for row in rows],
        places=places,
        others=np.searchsorted(places, behind)[back],
        swapped=np.array(swapped)[back],
        pictures=pictures,
    )


def _encode(
    encoder: nn.Module, views: Sequence[Tensor], clip: ClipConfig, windows: int
) -> NDArray[np.float32]:
    """Features (videos, parts, D) of one variant of some videos, each (parts, views, C, T, H, W)."""
    parts, each = views[0].shape[:2]
    pieces = torch.chunk(torch.cat(list(views)).flatten(0, 1), max(parts * each // windows, 1))
    features = torch.cat([encoder(_to_network(piece, clip)).float() for piece in pieces])
    return features.reshape(len(views), parts, each, features.shape[-1]).mean(2).cpu().numpy()


def _to_look_at(clip: Tensor) -> NDArray[np.uint8]:
    frames: NDArray[np.uint8] = (clip.clamp(0, 1) * 255).round().byte().permute(1, 2, 3, 0).cpu().numpy()
    return frames


def _to_network(clips: Tensor, clip: ClipConfig) -> Tensor:
    return to_network(clips, clip.modality).contiguous(memory_format=torch.channels_last_3d)
