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
from dsm.data.list_format import UNLABELLED
from dsm.data.lists import VideoList
from dsm.data.loading import load_clips
from dsm.data.settings import ClipConfig
from dsm.disturb.scene import drift, moving_mask, scene_around, steadiness, still_scene, swap_scene
from dsm.errors import UserError
from dsm.evaluate.masks import Masks
from dsm.evaluate.other_scenes import LEAST, Lent, OtherScenes, draw_order
from dsm.evaluate.variants import Seen, Variant, draws_of
from dsm.models.precision import channels_last, encode
from dsm.models.settings import Precision
from dsm.render import from_frames, to_frames, to_network
from dsm.video.flow import compute_flow
from dsm.video.sampling import Indices, evenly
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
    """(n,): how far the calmest parts of the picture move over all frames that were read, from which the
    scene is taken (:func:`dsm.disturb.scene.drift`); NaN without OpenCV."""
    left: NDArray[np.float64]
    """(n,): how much of an actor would be left in scenes estimated in this way (:func:`left_of_planted`); NaN
    with given masks, or if nothing moves."""
    pictures: Pictures
    """One clip of one video in all variants, for display."""


def windows_to_read(windows: int, clip: ClipConfig) -> int:
    """Number of clips to read per video: a scene needs more frames than one or two short clips have."""
    read = max(windows, -(-SCENE_FRAMES // clip.frames_to_read))
    return read + (windows == 1 and read % 2 == 0)  # an odd number, so that one clip is in the middle


def windows_shown(windows: int, clip: ClipConfig) -> NDArray[np.int64]:
    """Which of the clips that are read, by :func:`windows_to_read`, encoders see; the middle one at half."""
    read = windows_to_read(windows, clip)
    places = np.linspace(0, read - 1, windows) if windows > 1 else np.array([read // 2])
    return np.rint(places).astype(np.int64)


LENT = ("background", "same_scene", "near_scene", "far_scene", "stripes_actor")
"""Variants that use a scene or an actor from other videos."""
NEED_OTHERS = (*LENT, "background_frozen")
"""All variants that cannot be made without other videos."""


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
        videos: labelled; without labels only variants that need no other video can be made.
        windows: clips per video, evenly spread over its length.
        batch_size: videos per batch.
        masks: masks of the actors; None separates what moves from what is still.
        precision: number format of the encoders' computation.
        on_progress: called with the number of videos done.
        on_bad: called with each unreadable video, which is left out; without it the first unreadable video
            raises an error.

    Raises:
        VideoError: a video cannot be read, without ``on_bad``. UserError: all readable videos have one label,
            none can be read, the clips are optical flow, or features are not finite numbers.
    """
    if clip.modality == "flow":
        raise UserError(
            "variants are made from RGB; weights that take optical flow cannot be tested with them."
        )
    making = _Making(encoders, videos, clip, variants, windows, seed, masks, precision)
    clips_of = EvaluationClips(videos, clip, making.read, workers=workers)
    bad = set[int]()
    waiting = draw_order(videos.labels, seed).tolist() if making.lends else list(range(len(videos)))
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
                if (seen := making.see(video, clips, clips_of.windows_of(video)[0], last=last)) is None:
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
        self.lends = bool((videos.labels != UNLABELLED).any())
        """Whether videos supply scenes and actors to others, which need labels."""
        if not self.lends and (lent := [name for name in variants if name in NEED_OTHERS]):
            raise UserError(f"{videos.source}: has no labels, which '{lent[0]}' needs; add labels to it.")
        self.judged: list[int] = []
        """The videos, in the order in which they were processed."""
        self._encoders = [channels_last(one.eval()) for one in encoders]
        self._videos, self._clip, self._variants, self._windows = videos, clip, variants, windows
        self._seed, self._masks, self._precision = seed, masks, precision
        self._shown = windows_shown(windows, clip)
        self._scenes = OtherScenes()
        self._rows: list[dict[str, list[NDArray[np.float32]]]] = [
            {name: [] for name in variants} for _ in encoders
        ]
        self._pictures: Pictures = {}
        self._partners: dict[str, list[list[int]]] = {name: [] for name in LENT}
        self._steady: list[float] = []
        self._drifts: list[float] = []
        self._left: list[float] = []

    def see(self, video: int, clips: Tensor, numbers: Indices, *, last: bool) -> Seen | None:
        """A video with what others supply; None if it must wait for more of them.

        Args:
            clips: (W, C, T, S, S), colours in [0, 1]. numbers: (W, T), their frames in the video.
            last: whether this is its last turn.
        """
        scenes, label = self._scenes, int(self._videos.labels[video])
        mask = self._masks.of(video).to(self.device) if self._masks is not None else None
        own, moving = _scene_and_actor(video, label, clips, mask)
        if not self.lends:
            self._note(video, clips, numbers, own, left=float("nan"))
            alone = own.scene, own.scene, own.scene, own.scene, own.actor
            return Seen(clips[self._shown], own.scene, moving[self._shown], *alone)
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
        planted = mask is None and "no_foreground" in self._variants
        left = left_of_planted(clips, moving, others[0].scene) if planted else float("nan")
        self._note(video, clips, numbers, own, left=left)
        before = torch.cat([one.scene for one in others])
        lent = (before, same.scene, near.scene, far.scene, others[0].actor)
        return Seen(clips[self._shown], own.scene, moving[self._shown], *lent)

    def _note(self, video: int, clips: Tensor, numbers: Indices, own: Lent, *, left: float) -> None:
        """Note a video as processed, how its camera moves, and how much of an actor is left in its scene."""
        self.judged.append(video)
        self._steady.append(steadiness(clips[self._shown], own.scene))
        # Windows may overlap; the frames are taken in the order of time.
        order = np.unique(numbers, return_index=True)[1]
        whole = clips.transpose(0, 1).flatten(1, 2)
        self._drifts.append(camera_drift(whole[:, torch.from_numpy(order).to(whole.device)]))
        self._left.append(left)

    def encode(self, shown: Sequence[tuple[int, Seen]]) -> None:
        """Make all variants of some videos, and run the encoders over them."""
        for name, variant in self._variants.items():
            views = [variant(seen, draws_of(name, video, self._seed)) for video, seen in shown]
            for encoder, row in zip(self._encoders, self._rows, strict=True):
                row[name].append(_encode(encoder, views, self._clip, self._windows, self._precision))
            self._pictures.setdefault(name, to_frames(views[0][0, 0]))

    def result(self) -> VariantFeatures:
        if not self.judged:
            source = self._videos.source
            if not self.lends:
                raise UserError(f"{source}: none of the videos can be read; `dsm data check` shows why.")
            raise UserError(f"{source}: the readable videos have only one class; at least two are needed.")
        places, back = np.sort(self.judged), np.argsort(self.judged)
        return VariantFeatures(
            [{name: np.concatenate(parts)[back] for name, parts in row.items()} for row in self._rows],
            places=places,
            partners={name: np.searchsorted(places, of)[back] for name, of in self._partners.items() if of},
            steady=np.array(self._steady)[back],
            drift=np.array(self._drifts)[back],
            left=np.array(self._left)[back],
            pictures=self._pictures,
        )


def camera_drift(frames: Tensor) -> float:
    """``drift`` over frames (C, N, H, W) in the order of time; NaN without OpenCV, or for a single frame.

    Uses the flow between a few of them, evenly spread and reduced in size.
    """
    if find_spec("cv2") is None or frames.shape[1] < 2:
        return float("nan")
    some = frames[:, torch.from_numpy(evenly(frames.shape[1], FLOWN)).to(frames.device)].transpose(0, 1)
    side = min(some.shape[-2:])
    if side > FLOWN_SIDE:
        some = F.interpolate(some, scale_factor=FLOWN_SIDE / side, mode="area")
    pixels = (some * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return drift(compute_flow(pixels))


FLOWN, FLOWN_SIDE = 9, 96
"""Frames of a video, and pixels of their shorter side, for the flow that detects a moving camera."""


def _scene_and_actor(video: int, label: int, clips: Tensor, mask: Tensor | None) -> tuple[Lent, Tensor]:
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
def clip_and_variant(
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
    """A video's middle clip, unchanged and in a variant as encoders saw it: uint8 (T, H, W, 3).

    Args:
        name: name of the variant. lender: the video that supplies the scene.

    Raises:
        VideoError: a video cannot be read.
    """
    read = windows_to_read(windows, clip)
    clips_of = EvaluationClips(videos, clip, read)
    parted = []
    for place in (video, lender):
        decoded: Tensor = clips_of.sample(place)["clips"]
        clips = from_frames(decoded)
        mask = masks.of(place) if masks is not None else None
        parted.append((clips, *_scene_and_actor(place, int(videos.labels[place]), clips, mask)))
    (clips, own, moving), (_, other, _) = parted
    # All windows are made, as each takes its share of the random draws.
    places = windows_shown(windows, clip)
    lent = (other.scene, other.scene, other.scene, other.scene, other.actor)
    seen = Seen(clips[places], own.scene, moving[places], *lent)
    changed, middle = variant(seen, draws_of(name, video, seed)), len(places) // 2
    return to_frames(clips[places[middle]]), to_frames(changed[0, middle])


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
        In [0, 1]; NaN if nothing moves.
    """
    whole, mask = (one.transpose(0, 1).flatten(1, 2)[None] for one in (clips, moving))
    covers = (mask > 0.5).float()
    area = float(covers.sum((-2, -1)).mean())
    if not area:
        return float("nan")
    found = still_scene(swap_scene(whole, mask, scene))
    actor = (whole * covers).sum(2, keepdim=True) / covers.sum(2, keepdim=True).clamp(min=1)
    nearer = (found - actor).abs().sum(1) < (found - scene).abs().sum(1)
    return min(float((nearer & (covers.sum(2) > COVERED)).sum()) / area, 1.0)


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
