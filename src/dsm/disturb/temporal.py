"""Temporal Local Disturbance (TLD): keep the scene, break the motion (DSM, section 3.3).

Most kinds take the frame indices of an anchor clip and return the indices of another clip of the same video
and length, in which the scene is the same and the movement is not. Working on indices means that only the
frames that are needed get decoded.

:class:`MotionScale` works on pixels, because it makes frames that are not in the video: over a random
interval everything moves at another pace. The paper scales the flow between neighbouring frames by a
random factor and warps the frames along it. Warping each frame by its own scaled flow, as the published
code does, leaves a steady motion unchanged apart from an offset. Here the flow is added up from the first
frame of the interval, and that frame is moved along the scaled sum: each frame is a plausible picture of
the same scene, and what moves is soon somewhere else. After the interval the video continues unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dsm.disturb.warp import identity_grid, working_dtype
from dsm.errors import UserError
from dsm.video.flow import compute_flow

FACTORS = (0.01, 10.0)
"""Least and greatest factor, as in the paper's code; drawn evenly on a logarithmic scale."""
NEAR_ONE = 1.6
"""Factors from 1/1.6 to 1.6 are not drawn: the motion would hardly be another."""
FARTHEST = 0.25
"""Nothing is moved farther than this share of the picture's side; where it would, all is moved less."""
SMOOTH = 1 / 8
"""Ways are made smooth over this share of the picture's side at most."""
# Times that the way back is looked for, each time half the way on: where what moves covers what stands there
# are two ways back, and a full step jumps between them, which looks torn.
ROUNDS = 8


@dataclass(frozen=True)
class MotionScale:
    """The pace of a clip from frame ``start`` to frame ``stop``, which is the last that is changed."""

    factor: float
    start: int
    stop: int


def draw_motion_scale(frames: int, rng: np.random.Generator) -> MotionScale:
    """A factor and an interval of half the clip at least.

    Args:
        frames: of the clip, 3 at least.
    """
    while True:
        factor = float(np.exp(rng.uniform(*np.log(FACTORS))))
        if not 1 / NEAR_ONE < factor < NEAR_ONE:
            break
    steps = int(rng.integers(frames // 2, frames))
    start = int(rng.integers(0, frames - steps))
    return MotionScale(factor, start, start + steps)


def scale_motion(clip: Tensor, flow: Tensor, scale: MotionScale) -> Tensor:
    """Let what a clip shows move at another pace for a while.

    Args:
        clip: (C, T, H, W), of any type.
        flow: (T-1, 2, H, W), pixels, x first: from each frame to the next.

    Returns:
        (C, T, H, W), of the clip's type; frames outside the interval are as they were.
    """
    height, width = clip.shape[-2:]
    first = clip[None, :, scale.start].to(working_dtype(clip))
    identity = identity_grid(height, width, first)
    way = first.new_zeros(1, 2, height, width)  # pixels
    out = clip.clone()
    for frame in range(scale.start + 1, scale.stop + 1):
        # Where the content of each pixel of the first frame has come to, and goes from there.
        way = way + _sample(flow[frame - 1, None].to(first), identity + _units(way))
        scaled = _bounded(way * scale.factor)
        # A pixel shows what has come to it: its place less the way of what comes there.
        back = scaled
        for _ in range(ROUNDS):
            back = torch.lerp(back, _sample(scaled, identity - _units(back)), 0.5)
        moved = _sample(first, identity - _units(back))[0]
        out[:, frame] = (moved if clip.dtype.is_floating_point else moved.round()).to(clip.dtype)
    return out


def _bounded(way: Tensor) -> Tensor:
    """Ways (1, 2, H, W) in pixels, none too long, and the smoother the longer they are."""
    side = min(way.shape[-2:])
    longest = float(way.norm(dim=1).max())
    way = way * min(1.0, FARTHEST * side / max(longest, 1e-6))
    window = int(min(longest, SMOOTH * side)) // 2 * 2 + 1
    for kernel in ((window, 1), (1, window)):
        padding = (kernel[0] // 2, kernel[1] // 2)
        way = F.avg_pool2d(way, kernel, 1, padding, count_include_pad=False)
    return way


def _units(way: Tensor) -> Tensor:
    """(1, 2, H, W) in pixels to a field (1, H, W, 2) in normalised units."""
    height, width = way.shape[-2:]
    return way.permute(0, 2, 3, 1) * way.new_tensor([2 / width, 2 / height])


def _sample(picture: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(picture, grid, mode="bilinear", padding_mode="border", align_corners=False)


def at_pace(clip: Tensor, scale: MotionScale | None) -> Tensor:
    """A clip as it is read, uint8 (T, H, W, 3) or flow (T-1, H, W, 2), with its motion scaled; or as it is.

    Raises:
        UserError: OpenCV, which computes the flow of colours, is not installed.
    """
    if scale is None:
        return clip
    if clip.dtype != torch.uint8:
        clip = clip.clone()
        clip[scale.start : scale.stop] *= scale.factor
        return clip
    flow = torch.from_numpy(compute_flow(clip.numpy()))
    return scale_motion(clip.permute(3, 0, 1, 2), flow, scale).permute(1, 2, 3, 0).contiguous()


Indices = NDArray[np.int64]


def _looped(indices: Indices) -> bool:
    """Does the clip begin anew in the middle, the video being too short for it?"""
    return bool((np.diff(indices) < 0).any())


def shift(indices: Indices, total: int, rng: np.random.Generator) -> Indices | None:
    """Another window of the video, at least a quarter of the clip's span away."""
    if _looped(indices):
        return None
    span = int(indices[-1] - indices[0])
    start, last = int(indices[0]), total - 1 - span
    away = max(span // 4, 2)
    starts = [*range(0, start - away + 1), *range(start + away, last + 1)]
    return indices - start + int(rng.choice(starts)) if starts else None


def shuffle(indices: Indices, total: int, rng: np.random.Generator) -> Indices | None:
    """The same frames in another order."""
    if len(indices) < 3:
        return None
    while True:
        order = rng.permutation(len(indices))
        steps = np.diff(order)
        if not ((steps == 1).all() or (steps == -1).all()):  # neither as it was nor reversed
            return indices[order]


def reverse(indices: Indices, total: int, rng: np.random.Generator) -> Indices | None:
    """The same frames backwards."""
    return indices[::-1].copy() if len(indices) > 1 else None


def freeze(indices: Indices, total: int, rng: np.random.Generator) -> Indices | None:
    """One of the frames throughout."""
    return np.full_like(indices, rng.choice(indices)) if len(indices) > 1 else None


def speed(indices: Indices, total: int, rng: np.random.Generator) -> Indices | None:
    """About the same place at another pace: from three times slower to three times faster."""
    length = len(indices)
    if length < 3 or indices[-1] == indices[0] or _looped(indices):
        return None
    stride = (indices[-1] - indices[0]) / (length - 1)
    slow, fast = stride * rng.uniform(1 / 3, 0.6), stride * rng.uniform(1.6, 3)
    paces = [pace for pace in (slow, fast) if pace * (length - 1) <= total - 1]
    if not paces:
        return None
    half = float(rng.choice(paces)) * (length - 1) / 2
    centre = float(np.clip(indices.mean(), half, total - 1 - half))
    return np.rint(np.linspace(centre - half, centre + half, length)).astype(np.int64)


EDITS = 0.2
"""Share of a clip's frames that the local edits touch: one in ten, in two rounds, in the paper's code."""


def _edits(indices: Indices) -> int:
    return max(round(EDITS * len(indices)), 1)


def swap(indices: Indices, total: int, rng: np.random.Generator) -> Indices | None:
    """A few pairs of frames change places."""
    places = np.arange(len(indices))
    if len(places) < 2:
        return None
    while True:
        order = places.copy()
        for _ in range(_edits(indices)):
            one, two = rng.choice(len(order), 2, replace=False)
            order[[one, two]] = order[[two, one]]
        if (order != places).any():  # one pair may undo the other
            return indices[order]


def insert(indices: Indices, total: int, rng: np.random.Generator) -> Indices | None:
    """A few frames of the clip come in once more where they do not belong; as many fall off its end."""
    places = np.arange(len(indices))
    if len(places) < 2:
        return None
    while True:
        order = places
        for _ in range(_edits(indices)):
            order = np.insert(order, rng.integers(len(places)), rng.choice(places))
        order = order[: len(places)]
        if (order != places).any():  # the last frame once more falls off again
            return indices[order]


def delete(indices: Indices, total: int, rng: np.random.Generator) -> Indices | None:
    """A few frames are left out, and what follows the clip moves up; its last frame, where the video ends."""
    length = len(indices)
    if length < 2:
        return None
    gone = rng.choice(length - 1, min(_edits(indices), length - 1), replace=False)
    stride = max(int(indices[-1] - indices[-2]), 1)
    after = np.minimum(indices[-1] + stride * np.arange(1, len(gone) + 1), max(total - 1, int(indices[-1])))
    return np.concatenate([np.delete(indices, gone), after])


KINDS: dict[str, Callable[[Indices, int, np.random.Generator], Indices | None]] = {
    "shift": shift,
    "shuffle": shuffle,
    "reverse": reverse,
    "freeze": freeze,
    "speed": speed,
    "swap": swap,
    "insert": insert,
    "delete": delete,
}


@dataclass(frozen=True)
class Broken:
    """A clip whose motion is to be broken: which frames to read, and what to do with them."""

    indices: Indices
    """(T,)."""
    scale: MotionScale | None = None


@dataclass(frozen=True)
class TemporalMix:
    """How often each kind of TLD is drawn, as weights; they need not sum to one."""

    shift: float = 1.0
    shuffle: float = 1.0
    reverse: float = 1.0
    freeze: float = 1.0
    speed: float = 1.0
    swap: float = 0.0
    insert: float = 0.0
    delete: float = 0.0
    flow: float = 0.0
    """Motion along the optical flow, slowed or hastened for a while: frames are computed (needs OpenCV)."""

    def __post_init__(self) -> None:
        weights = [getattr(self, kind.name) for kind in fields(self)]
        if min(weights) < 0 or not 0 < sum(weights) < float("inf"):
            raise UserError("the weights of tld must be 0 or more, and one of them above 0.")

    @classmethod
    def only(cls, kind: str) -> TemporalMix:
        """A mix of this one kind."""
        return cls(**{field.name: float(field.name == kind) for field in fields(cls)})

    def draw(self, indices: Indices, total: int, rng: np.random.Generator) -> Broken:
        """Break the motion by a kind drawn by weight; one that this video allows not, or that changes nothing
        in it, is drawn anew.

        Args:
            indices: (T,) frames of the anchor. total: frames of the video.

        Returns:
            The frames of the negative; where no kind with a weight is possible, reversed, or, where that is
            the same, turned by one place. Only of a single frame throughout there is no other clip.
        """
        names = [kind.name for kind in fields(self)]
        weights = np.array([getattr(self, name) for name in names], float)
        while weights.sum() > 0:
            choice = int(rng.choice(len(names), p=weights / weights.sum()))
            if names[choice] == "flow":
                if len(indices) > 2 and not _looped(indices):
                    return Broken(indices, draw_motion_scale(len(indices), rng))
            else:
                broken = KINDS[names[choice]](indices, total, rng)
                # Of a short video that plays in a loop, other places may hold the same frames.
                if broken is not None and not np.array_equal(broken, indices):
                    return Broken(broken)
            weights[choice] = 0
        backwards = indices[::-1].copy()
        return Broken(np.roll(indices, 1) if np.array_equal(backwards, indices) else backwards)

    def __call__(self, clip: Tensor, seed: np.random.Generator | int | None = None) -> Tensor:
        """Break the motion of clips (B, C, T, H, W), each in its own way, by their own frames.

        Of the same shape, type and range (uint8, or floating point in [0, 1]). What lies beyond a clip is not
        there to be shifted to; `dsm pretrain` draws from the whole video.
        """
        rng = np.random.default_rng(seed)
        length = clip.shape[2]
        rows = []
        for one in clip:
            broken = self.draw(np.arange(length), length, rng)
            if broken.scale:
                seen = one if one.dtype == torch.uint8 else (one * 255).round().byte()
                flow = compute_flow(seen.permute(1, 2, 3, 0).cpu().numpy())
                rows.append(scale_motion(one, torch.from_numpy(flow), broken.scale))
            else:
                rows.append(one[:, torch.from_numpy(broken.indices).to(one.device)])
        return torch.stack(rows)
