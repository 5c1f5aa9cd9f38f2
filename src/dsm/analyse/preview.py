"""Clips before and after their disturbance, with their flow, and how much of scene and motion changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dsm.analyse.change import (
    Flow,
    Frames,
    flow_picture,
    identity,
    motion_change,
    scene_change,
    seen_through,
)
from dsm.analyse.page import to_frames
from dsm.datasets.lists import VideoList
from dsm.datasets.reading import ClipConfig, Reader, crop
from dsm.disturb.motion_scale import at_pace
from dsm.disturb.spatial_mix import SpatialMix
from dsm.disturb.temporal import Broken, TemporalMix
from dsm.disturb.warp import warp
from dsm.video.flow import compute_flow
from dsm.video.sampling import random_part, random_window
from dsm.video.source import VideoError


@dataclass(frozen=True)
class Version:
    """One way in which every clip is shown."""

    name: str
    sld: SpatialMix | None = None
    tld: TemporalMix | None = None
    against: int = 0
    """Place of the version it is compared with; the first is the clip as it is."""


@dataclass(frozen=True)
class Shown:
    """A version of one clip."""

    name: str
    frames: Frames
    """(T, S, S, 3)."""
    flow: Flow
    """(T-1, 2, S, S), pixels."""
    scene: float
    """How much of the scene is not that of what it is compared with: see :func:`scene_change`."""
    motion: float
    """The same of the motion: see :func:`motion_change`."""

    def flow_frames(self, longest: float) -> Frames:
        """(T, S, S, 3): the flow in colours; the last is shown twice."""
        pictures = flow_picture(self.flow, longest)
        return np.concatenate([pictures, pictures[-1:]])


def as_trained(sld: SpatialMix, tld: TemporalMix) -> list[Version]:
    """What `dsm` compares: the positive as it is, the anchor, and the negative with the anchor's look."""
    return [
        Version("positive"),
        Version("anchor", sld=sld),
        Version("negative", sld=sld, tld=tld, against=1),
    ]


def each_kind(spatial: Sequence[str], temporal: Sequence[str], strength: float) -> list[Version]:
    """The clip as it is, and as each of the kinds makes it."""
    return [
        Version("clip"),
        *(Version(name, sld=SpatialMix.only(name, strength)) for name in spatial),
        *(Version(name, tld=TemporalMix.only(name)) for name in temporal),
    ]


class Previewer:
    """Makes the versions of clips of a list: its ``index``-th, and for kinds that mix clips the next one."""

    def __init__(self, videos: VideoList, clip: ClipConfig, versions: Sequence[Version], seed: int) -> None:
        self.clip, self.versions, self.seed = clip, versions, seed
        self._videos, self._reader = videos, Reader(videos, clip)

    def show(self, index: int, other: int) -> list[Shown]:
        """All versions of a clip of video ``index``; a frame of ``other`` may be mixed in.

        Raises:
            VideoError: it cannot be read. UserError: OpenCV is not installed.
        """
        partner = self._partner(index, other)
        shown: list[Shown] = []
        for version in self.versions:
            # The same for all versions, that they differ in nothing but the disturbance.
            rng = np.random.default_rng([self.seed, index])
            frames = self._read(index, version.tld, rng)
            grid = identity(frames)
            if version.sld:
                rng = np.random.default_rng([self.seed, index, 1])
                frames, grid = _disturbed(version.sld, frames, partner, rng)
            flow = compute_flow(frames)
            scene = motion = 0.0
            if shown:
                base = shown[version.against]
                bends = version.sld is not None and self.versions[version.against].sld is None
                expected, valid = seen_through(base.flow, grid) if bends else (base.flow, None)
                scene, motion = scene_change(frames, base.frames), motion_change(flow, expected, valid)
            shown.append(Shown(version.name, frames, flow, scene, motion))
        return shown

    def _partner(self, index: int, other: int) -> Frames | None:
        """The clip of the other video where it is wanted; of the same, where the other cannot be read."""
        if not any(version.sld and version.sld.mixes for version in self.versions):
            return None
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
    sld: SpatialMix, frames: Frames, partner: Frames | None, rng: np.random.Generator
) -> tuple[Frames, Tensor]:
    """A clip with its scene broken, and the grid by which it was bent."""
    clips = np.stack([frames, frames if partner is None else partner])
    pair = torch.from_numpy(clips).permute(0, 4, 1, 2, 3).float() / 255
    draws = sld.draw_batch(2, rng, pair)
    mixed = sld.mix(pair, draws)[:1]
    grid = sld.field(draws, identity(frames).expand(2, -1, -1, -1))[:1]
    return to_frames(warp(mixed, grid, sld.padding)[0]), grid
