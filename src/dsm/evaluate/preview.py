"""Clips before and after a disturbance, their optical flow, and how much of scene and motion changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from dsm.data.lists import VideoList
from dsm.data.reading import Reader, crop
from dsm.data.settings import ClipConfig
from dsm.disturb.grid import identity_grid, inside, warp
from dsm.disturb.motion_scale import at_pace
from dsm.disturb.spatial_mix import SpatialMix
from dsm.disturb.temporal import Broken, TemporalMix
from dsm.evaluate.settings import LEAST_SIDE
from dsm.methods.settings import DsmConfig
from dsm.render import from_frames, to_frames
from dsm.video.flow import compute_flow
from dsm.video.sampling import random_part, random_window
from dsm.video.source import VideoError
from dsm.views import LUMA

Frames = NDArray[np.uint8]
Flow = NDArray[np.float32]

# Constants of SSIM, for pictures in [0, 1] (Wang et al. 2004): the Gaussian's spread and where it is cut off.
_C1, _C2 = 0.01**2, 0.03**2
_SIGMA, _REACH = 1.5, LEAST_SIDE // 2


def scene_change(clip: Frames, other: Frames) -> float:
    """1 - SSIM of the mean frames: 0 for the same scene, about 1 for unrelated scenes.

    Args:
        clip, other: (T, H, W, 3) of one size, more than 10 pixels a side.
    """
    one, two = (np.asarray(frames.mean(0) / 255 @ np.array(LUMA)) for frames in (clip, other))
    return 1 - similarity(one, two)


def similarity(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    """The mean structural similarity (SSIM, Wang et al. 2004) of grey pictures (H, W) in [0, 1]."""

    def local(x: NDArray[np.float64]) -> NDArray[np.float64]:
        mean: NDArray[np.float64] = gaussian_filter(x, _SIGMA, truncate=_REACH / _SIGMA)
        return mean

    mean1, mean2 = local(one), local(two)
    spread1, spread2 = local(one * one) - mean1**2, local(two * two) - mean2**2
    shared = local(one * two) - mean1 * mean2
    index = (2 * mean1 * mean2 + _C1) * (2 * shared + _C2)
    index /= (mean1**2 + mean2**2 + _C1) * (spread1 + spread2 + _C2)
    within = slice(_REACH, -_REACH)  # where the whole window is inside the picture
    return float(index[within, within].mean())


def motion_change(flow: Flow, expected: Flow, valid: NDArray[np.bool_] | None = None) -> float:
    """Mean end-point error between flows, as a share of the mean expected motion: 0 for the same motion.

    No motion where motion was expected gives 1, the opposite motion 2.

    Args:
        flow, expected: (T-1, 2, H, W), pixels. valid: (H, W), the pixels to compare; None for all.
    """
    error = np.linalg.norm(flow - expected, axis=1).mean(0)
    motion = np.linalg.norm(expected, axis=1).mean(0)
    if valid is not None and valid.any():
        error, motion = error[valid], motion[valid]
    return float(error.mean() / max(float(motion.mean()), 1e-3))


def seen_through(flow: Flow, grid: Tensor) -> tuple[Flow, NDArray[np.bool_]]:
    """The flow of a clip after all its frames are warped by one grid g, to first order.

    A pixel p shows g(p), which moves by f(g(p)); the moved point is shown at p + J⁻¹ f(g(p)), with J the
    Jacobian of g.

    Args:
        flow: (T-1, 2, H, W), pixels. grid: (1, H, W, 2), in the format of ``disturb.grid``.

    Returns:
        (T-1, 2, H, W), and a mask (H, W) of where it is valid: inside the picture, where g does not fold.
    """
    height, width = flow.shape[-2:]
    units = grid.new_tensor([width / 2, height / 2])
    places = grid[0] * units  # pixels
    along_y, along_x = torch.gradient(places, dim=(0, 1))
    jacobian = torch.stack([along_x, along_y], dim=-1)  # (H, W, 2, 2): column by direction of p
    size = torch.linalg.det(jacobian)
    moved = F.grid_sample(
        torch.from_numpy(flow).to(grid), grid.expand(len(flow), -1, -1, -1), align_corners=False
    )
    valid = inside(grid)[0] & (size > 0.1)
    safe = torch.where(valid[..., None, None], jacobian, torch.eye(2).to(grid))
    flows = torch.linalg.solve(safe, moved.permute(0, 2, 3, 1)[..., None])[..., 0]
    return flows.permute(0, 3, 1, 2).numpy(), valid.numpy()


def identity(frames: Frames) -> Tensor:
    """The grid that changes nothing in clips of this size: (1, H, W, 2)."""
    return identity_grid(frames.shape[1], frames.shape[2], torch.empty(0))


def flow_picture(flow: Flow, longest: float) -> Frames:
    """Flow in the usual colours: direction as hue, length as saturation; white is no motion.

    The wheel is that of Baker et al., A Database and Evaluation Methodology for Optical Flow (2011).

    Args:
        flow: (T, 2, H, W). longest: the motion with full saturation, in pixels.

    Returns:
        uint8 (T, H, W, 3).
    """
    wheel = _colour_wheel()
    x, y = flow[:, 0] / max(longest, 1e-3), flow[:, 1] / max(longest, 1e-3)
    length = np.minimum(np.hypot(x, y), 1)[..., None]
    at = (np.arctan2(-y, -x) / np.pi + 1) / 2 * len(wheel)
    low = at.astype(int) % len(wheel)
    share = (at - np.floor(at))[..., None]
    hue = wheel[low] * (1 - share) + wheel[(low + 1) % len(wheel)] * share
    picture: Frames = np.rint(255 * (1 - length * (1 - hue))).astype(np.uint8)
    return picture


def _colour_wheel() -> NDArray[np.float64]:
    """Hues (55, 3) in [0, 1], with more steps where the eye distinguishes more hues."""
    corners = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1], [1, 0, 0]], float)
    steps = (15, 6, 4, 11, 13, 6)
    parts = [
        one + (two - one) * np.arange(count)[:, None] / count
        for one, two, count in zip(corners[:-1], corners[1:], steps, strict=True)
    ]
    return np.concatenate(parts)


@dataclass(frozen=True)
class Version:
    """A way to disturb every clip, or to leave it unchanged."""

    name: str
    sld: SpatialMix | None = None
    tld: TemporalMix | None = None
    draw: int = 1
    """Versions with the same draw have the same broken scene."""
    against: int = 0
    """Index of the version that it is compared with; the first is the unchanged clip."""


@dataclass(frozen=True)
class Shown:
    """A version of one clip."""

    name: str
    frames: Frames
    """(T, S, S, 3)."""
    flow: Flow
    """(T-1, 2, S, S), pixels."""
    scene: float
    """How much its scene differs from the version that it is compared with: see :func:`scene_change`."""
    motion: float
    """How much its motion differs: see :func:`motion_change`."""

    def flow_frames(self, longest: float) -> Frames:
        """(T, S, S, 3): the flow as colours; the last frame is repeated."""
        pictures = flow_picture(self.flow, longest)
        return np.concatenate([pictures, pictures[-1:]])


def as_trained(config: DsmConfig) -> list[Version]:
    """The views that `dsm` compares, without crops and colour changes; first, the undisturbed clip."""
    anchor = Version("anchor", config.sld if config.sld_on != "positive" else None, draw=1)
    positive = Version("positive", config.sld if config.sld_on != "anchor" else None, draw=2)
    versions = sorted((anchor, positive), key=lambda version: version.sld is not None)
    if versions[0].sld:
        versions.insert(0, Version("clip"))
    negative = Version("negative", config.sld, config.tld, draw=3)
    if config.look == "own":
        negative = replace(negative, sld=None)
    elif config.look in ("anchor", "positive"):
        copied = anchor if config.look == "anchor" else positive
        negative = replace(negative, sld=copied.sld, draw=copied.draw, against=versions.index(copied))
    return [*versions, negative]


def each_kind(spatial: Sequence[str], temporal: Sequence[str], sld: SpatialMix) -> list[Version]:
    """The unchanged clip, and one version for each kind of disturbance.

    Args:
        sld: its strengths and other settings are those of each kind; its weights do not count.
    """
    return [
        Version("clip"),
        *(Version(name, sld=sld.alone(name)) for name in spatial),
        *(Version(name, tld=TemporalMix.only(name)) for name in temporal),
    ]


class Previewer:
    """Makes the versions of a list's clips."""

    def __init__(self, videos: VideoList, clip: ClipConfig, versions: Sequence[Version], seed: int) -> None:
        self.clip, self.versions, self.seed = clip, versions, seed
        self._videos, self._reader = videos, Reader(videos, clip)

    def show(self, index: int, others: Sequence[int]) -> list[Shown]:
        """All versions of a clip of video ``index``.

        Args:
            others: videos whose frames or scenes may be mixed in; each draw takes the next one.

        Raises:
            VideoError: it cannot be read. UserError: OpenCV is not installed.
        """
        shown: list[Shown] = []
        for version in self.versions:
            # The same clip for all versions, so that they differ only in the disturbance.
            rng = np.random.default_rng([self.seed, index])
            frames = self._read(index, version.tld, rng)
            grid = identity(frames)
            if version.sld:
                rng = np.random.default_rng([self.seed, index, version.draw])
                other = others[version.draw % len(others)]
                mixed_in = self._partner(index, other) if version.sld.mixes else frames
                frames, grid = _disturbed(version.sld, frames, mixed_in, rng)
            flow = compute_flow(frames)
            scene = motion = 0.0
            if shown:
                base = shown[version.against]
                bends = version.sld is not None and self.versions[version.against].sld is None
                expected, valid = seen_through(base.flow, grid) if bends else (base.flow, None)
                scene, motion = scene_change(frames, base.frames), motion_change(flow, expected, valid)
            shown.append(Shown(version.name, frames, flow, scene, motion))
        return shown

    def clips(self, count: int, *, on_bad: Callable[[VideoError], None]) -> Iterator[tuple[str, list[Shown]]]:
        """Paths of up to ``count`` videos in random order, with all versions of a clip of each.

        Args:
            on_bad: called with the reason for each video that cannot be read.
        """
        order = np.random.default_rng(self.seed).permutation(len(self._videos))
        shown = 0
        for place, index in enumerate(order):
            if shown == count:
                return
            try:
                versions = self.show(int(index), [int(order[(place + n) % len(order)]) for n in (1, 2, 3)])
            except VideoError as error:
                on_bad(error)
                continue
            shown += 1
            yield self._videos.paths[index], versions

    def _partner(self, index: int, other: int) -> Frames:
        """The other video's clip; the same video's if the other is unreadable."""
        try:
            return self._read(other, None, np.random.default_rng([self.seed, other]))
        except VideoError:
            return self._read(index, None, np.random.default_rng([self.seed, other]))

    def _read(self, index: int, tld: TemporalMix | None, rng: np.random.Generator) -> Frames:
        begin, stop = random_part(self._reader.video(index), self.clip.frames, self.clip.stride, rng)
        window = random_window(stop - begin, self.clip.frames, self.clip.stride, rng)
        broken = tld.draw(window, stop - begin, rng) if tld else Broken(window)
        (frames,) = self._reader.read(index, [begin + broken.indices])
        square = torch.from_numpy(crop(frames, self.clip.size, (0.5, 0.5)))
        return np.ascontiguousarray(at_pace(square, broken.scale).numpy())


def _disturbed(
    sld: SpatialMix, frames: Frames, other: Frames, rng: np.random.Generator
) -> tuple[Frames, Tensor]:
    """A clip with its scene broken, and the grid that warped it."""
    clips = np.stack([frames, other])
    pair = from_frames(torch.from_numpy(clips))
    draws = sld.draw_batch(2, rng, pair)
    mixed = sld.mix(pair, draws)[:1]
    grid = sld.field(draws, identity(frames).expand(2, -1, -1, -1))[:1]
    return to_frames(warp(mixed, grid, sld.padding)[0]), grid
