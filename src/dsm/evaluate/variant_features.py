"""Encoders' features of the variants of a list's videos.

Every video is decoded once; all its variants are made from its clips, on the encoders' device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from dsm.data.clips import EvaluationClips
from dsm.data.lists import VideoList
from dsm.data.loading import load_clips
from dsm.data.settings import ClipConfig
from dsm.disturb.scene import drift, moving_mask, scene_around, steadiness, still_scene, swap_scene
from dsm.errors import UserError
from dsm.evaluate.masks import Masks
from dsm.evaluate.other_scenes import LEAST, Lent, OtherScenes, draw_order
from dsm.evaluate.variants import Seen, Variant
from dsm.models.precision import channels_last, encode
from dsm.models.settings import Precision
from dsm.render import from_frames, to_frames, to_network
from dsm.video.flow import compute_flow
from dsm.video.source import BadVideo

SCENE_FRAMES = 16
"""Fewest frames of a video to compute its scene from."""


Pictures = dict[str, NDArray[np.uint8]]
"""By variant: (T, H, W, 3)."""


@dataclass(frozen=True)
class VariantFeatures:
    """Encoders' features of every variant of a list's n readable videos, in the list's order."""

    features: list[dict[str, NDArray[np.float32]]]
    """For each encoder, by variant: (n, parts, D), each the mean over a part's views."""
    places: NDArray[np.int64]
    """(n,): the videos' positions in the list."""
    partners: dict[str, NDArray[np.int64]]
    """By variant: (n, parts), the videos that supplied each video's scene or still actor, as rows of these
    arrays."""
    steady: NDArray[np.float64]
    """(n,): the share of the picture that shows the still scene (:func:`dsm.disturb.scene.steadiness`)."""
    drift: NDArray[np.float64]
    """(n,): how fast the calmest parts of the picture move (:func:`dsm.disturb.scene.drift`); NaN without
    OpenCV."""
    left: NDArray[np.float64]
    """(n,): how much of an actor would be left in scenes estimated in this way (:func:`left_of_planted`); NaN
    with given masks, or if nothing moves."""
    pictures: Pictures
    """One clip of one video in all variants, for display."""

    @property
    def others(self) -> NDArray[np.int64]:
        """(n, SCENES): the videos whose scenes replaced each video's own."""
        return self.partners["background"]


def windows_to_read(windows: int, clip: ClipConfig) -> int:
    """Number of clips to read per video: a scene needs more frames than one or two short clips have."""
    read = max(windows, -(-SCENE_FRAMES // clip.frames_to_read))
    return read + (windows == 1 and read % 2 == 0)  # an odd number, so that one clip is in the middle


LENT = ("background", "same_scene", "near_scene", "far_scene", "stripes_actor")
"""Variants that use a scene or an actor from other videos."""


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
    masks: Masks | None = None,
    precision: Precision = "fp32",
    on_progress: Callable[[int], None] = lambda done: None,
    on_bad: Callable[[BadVideo], None] | None = None,
) -> VariantFeatures:
    """Run encoders over variants of videos; a video's feature in a variant is the mean over its windows.

    Randomness in a video's variant depends only on the seed, the variant's name and the video's position in
    the list, not on the batch.

    Args:
        encoders: normalised clips (B, C, T, H, W) -> (B, D); used in evaluation mode, on their own device.
        videos: labelled.
        windows: clips per video, evenly spread over its length.
        batch_size: videos per batch.
        masks: masks of the actors; None separates what moves from what is still.
        precision: number format of the encoders' computation.
        on_progress: called with the number of videos done.
        on_bad: called with each unreadable video, which is left out; without it the first unreadable video
            raises an error.

    Raises:
        VideoError: a video cannot be read, without ``on_bad``. UserError: all readable videos have one label,
            or the clips are optical flow.
    """
    if clip.modality == "flow":
        raise UserError(
            "variants are made from RGB; weights that take optical flow cannot be tested with them."
        )
    making = _Making(encoders, videos, clip, variants, windows, seed, masks, precision)
    clips_of = EvaluationClips(videos, clip, making.read, workers=workers)
    bad = set[int]()
    waiting = draw_order(videos.labels, seed).tolist()
    # Videos that come before there are enough scenes wait for a second pass: the extra first video, which
    # still gets its own turn, and the next ones, whose other scenes and scenes of the same label come later.
    for last in (False, True):
        batches = load_clips(
            clips_of, batch_size, workers=workers, order=waiting, pin_memory=making.device.type == "cuda",
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
            colours = decoded.to(making.device).permute(0, 1, 5, 2, 3, 4).float() / 255
            shown: list[tuple[int, Seen]] = []
            for video, clips in zip(batch["index"], colours, strict=True):
                if (seen := making.see(video, clips, last=last)) is None:
                    waiting.append(video)
                else:
                    shown.append((video, seen))
            if shown:
                making.encode(shown)
                on_progress(len(making.judged) + len(bad))
        waiting = [video for video in dict.fromkeys(waiting) if video not in set(making.judged)]
        if not waiting:
            break
    return making.result()


class _Making:
    """Makes the variants of one video after another, and their features. Arguments as above."""

    def __init__(
        self,
        encoders: Sequence[nn.Module],
        videos: VideoList,
        clip: ClipConfig,
        variants: Mapping[str, Variant],
        windows: int,
        seed: int,
        masks: Masks | None,
        precision: Precision,
    ) -> None:
        self.device = next(encoders[0].parameters()).device
        self.read = windows_to_read(windows, clip)
        self.judged: list[int] = []
        """The videos, in the order in which they were processed."""
        self._encoders = [channels_last(one.eval()) for one in encoders]
        self._videos, self._clip, self._variants, self._windows = videos, clip, variants, windows
        self._seed, self._masks, self._precision = seed, masks, precision
        places = np.linspace(0, self.read - 1, windows) if windows > 1 else [self.read // 2]
        self._shown = np.rint(places).astype(int)
        self._scenes = OtherScenes()
        self._rows: list[dict[str, list[NDArray[np.float32]]]] = [
            {name: [] for name in variants} for _ in encoders
        ]
        self._pictures: Pictures = {}
        self._partners: dict[str, list[list[int]]] = {name: [] for name in LENT}
        self._steady: list[float] = []
        self._drifts: list[float] = []
        self._left: list[float] = []

    def see(self, video: int, clips: Tensor, *, last: bool) -> Seen | None:
        """A video with what others supply; None if it must wait for more of them.

        Args:
            clips: (W, C, T, S, S), colours in [0, 1]. last: whether this is its last turn.
        """
        scenes, label = self._scenes, int(self._videos.labels[video])
        mask = self._masks.of(video).to(self.device) if self._masks is not None else None
        own, moving = _apart(video, label, clips, mask)
        same, others = scenes.same(video, label), scenes.behind(label)
        early = same is None or len(scenes.unlike(label)) < LEAST
        near, far = scenes.near_and_far(own) if others else (own, own)
        scenes.add(own)
        if not others or (early and not last):
            return None
        # A label with a single video has only that video's scene.
        same = same or own
        for name, lenders in zip(LENT, (others, [same], [near], [far], others[:1]), strict=True):
            self._partners[name].append([one.video for one in lenders])
        self.judged.append(video)
        self._steady.append(steadiness(clips[self._shown], own.scene))
        self._drifts.append(camera_drift(clips[self.read // 2]))
        planted = mask is None and "no_foreground" in self._variants
        self._left.append(left_of_planted(clips, moving, others[0].scene) if planted else float("nan"))
        before = torch.cat([one.scene for one in others])
        lent = (before, same.scene, near.scene, far.scene, others[0].actor)
        return Seen(clips[self._shown], own.scene, moving[self._shown], *lent)

    def encode(self, shown: Sequence[tuple[int, Seen]]) -> None:
        """Make all variants of some videos, and run the encoders over them."""
        for name, variant in self._variants.items():
            views = [
                variant(seen, np.random.default_rng([self._seed, *name.split("_")[0].encode(), video]))
                for video, seen in shown
            ]
            for encoder, row in zip(self._encoders, self._rows, strict=True):
                row[name].append(_encode(encoder, views, self._clip, self._windows, self._precision))
            self._pictures.setdefault(name, to_frames(views[0][0, 0]))

    def result(self) -> VariantFeatures:
        if not self.judged:
            raise UserError(
                f"{self._videos.source}: the readable videos have only one class; at least two are needed."
            )
        places, back = np.sort(self.judged), np.argsort(self.judged)
        return VariantFeatures(
            [{name: np.concatenate(parts)[back] for name, parts in row.items()} for row in self._rows],
            places=places,
            partners={name: np.searchsorted(places, of)[back] for name, of in self._partners.items()},
            steady=np.array(self._steady)[back],
            drift=np.array(self._drifts)[back],
            left=np.array(self._left)[back],
            pictures=self._pictures,
        )


def camera_drift(clip: Tensor) -> float:
    """``drift`` of the first frames of a clip (C, T, H, W), which may be reduced in size."""
    if find_spec("cv2") is None or clip.shape[1] < 2:
        return float("nan")
    frames = clip[:, :FLOWN].transpose(0, 1)
    side = min(frames.shape[-2:])
    if side > FLOWN_SIDE:
        frames = F.interpolate(frames, scale_factor=FLOWN_SIDE / side, mode="area")
    pixels = (frames * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return drift(compute_flow(pixels))


FLOWN, FLOWN_SIDE = 9, 96
"""Frames of a video, and pixels of their shorter side, for the flow that detects a moving camera."""


def _apart(video: int, label: int, clips: Tensor, mask: Tensor | None) -> tuple[Lent, Tensor]:
    """A video's scene and still actor, and the mask (W, 1, T, H, W) of what moves in its clips.

    ``mask``: the mask of the actors, if it is known.
    """
    whole = clips.transpose(0, 1).flatten(1, 2)[None]
    if mask is None:
        scene = still_scene(whole)
        moving = moving_mask(clips, scene)
    else:
        scene, moving = scene_around(whole, mask.transpose(0, 1).flatten(1, 2)[None]), mask
    window = len(clips) // 2
    frame = int(moving[window, 0].mean((-2, -1)).argmax())
    actor = torch.cat([clips[window, :, frame], moving[window, :, frame]])[None, :, None]
    return Lent(video, label, scene, actor), moving


@torch.no_grad()
def shown(
    videos: VideoList,
    clip: ClipConfig,
    name: str,
    variant: Variant,
    video: int,
    lender: int,
    *,
    windows: int = 3,
    masks: Masks | None = None,
    seed: int = 0,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A video's middle clip, unchanged and in a variant, for display: uint8 (T, H, W, 3).

    Args:
        name: name of the variant. lender: the video that supplies the scene.

    Raises:
        VideoError: a video cannot be read.
    """
    read = windows_to_read(windows, clip)
    clips_of = EvaluationClips(videos, clip, read)
    apart = []
    for place in (video, lender):
        decoded: Tensor = clips_of.sample(place)["clips"]
        clips = from_frames(decoded)
        mask = masks.of(place) if masks is not None else None
        apart.append((clips, *_apart(place, int(videos.labels[place]), clips, mask)))
    (clips, own, moving), (_, other, _) = apart
    middle = slice(read // 2, read // 2 + 1)
    lent = (other.scene, other.scene, other.scene, other.scene, other.actor)
    seen = Seen(clips[middle], own.scene, moving[middle], *lent)
    changed = variant(seen, np.random.default_rng([seed, *name.split("_")[0].encode(), video]))
    return to_frames(clips[read // 2]), to_frames(changed[0, 0])


COVERED = 2
"""A location belongs to an actor's area if the actor covers it for this many frames."""


def left_of_planted(clips: Tensor, moving: Tensor, scene: Tensor) -> float:
    """How much of an actor is left in an estimated scene, measured with an actor in front of a known scene.

    What moves in the clips is put in front of another video's still scene, and the scene of the result is
    estimated. Returns the area that looks more like the actor than like the known scene, as a share of the
    actor's area. Too low if the actor itself was not found.

    Args:
        clips: (W, C, T, H, W). moving: (W, 1, T, H, W). scene: (1, C, 1, H, W).

    Returns:
        At least 0; NaN if nothing moves.
    """
    whole, mask = (one.transpose(0, 1).flatten(1, 2)[None] for one in (clips, moving))
    covers = (mask > 0.5).float()
    area = float(covers.sum((-2, -1)).mean())
    if not area:
        return float("nan")
    found = still_scene(swap_scene(whole, mask, scene))
    actor = (whole * covers).sum(2, keepdim=True) / covers.sum(2, keepdim=True).clamp(min=1)
    nearer = (found - actor).abs().sum(1) < (found - scene).abs().sum(1)
    return float((nearer & (covers.sum(2) > COVERED)).sum()) / area


def _encode(
    encoder: nn.Module, views: Sequence[Tensor], clip: ClipConfig, windows: int, precision: Precision
) -> NDArray[np.float32]:
    """Features (videos, parts, D) of one variant of some videos, each (parts, views, C, T, H, W)."""
    parts, each = views[0].shape[:2]
    pieces = torch.chunk(torch.cat(list(views)).flatten(0, 1), max(parts * each // windows, 1))
    features = torch.cat([encode(encoder, _to_network(piece, clip), precision).float() for piece in pieces])
    return features.reshape(len(views), parts, each, features.shape[-1]).mean(2).cpu().numpy()


def _to_network(clips: Tensor, clip: ClipConfig) -> Tensor:
    return to_network(clips, clip.modality).contiguous(memory_format=torch.channels_last_3d)
