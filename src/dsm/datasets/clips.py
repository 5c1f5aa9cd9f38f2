"""Clips for training and for evaluation, decoded on the fly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler, default_collate

from dsm.augment import Augment
from dsm.datasets.lists import UNKNOWN, VideoList
from dsm.disturb.views import View, draw_views
from dsm.errors import UserError
from dsm.video.cache import FrameCache
from dsm.video.decode import probe, read_frames
from dsm.video.sampling import random_window, uniform_windows


@dataclass(frozen=True)
class ClipConfig:
    """The shape of a clip."""

    frames: int = 16
    """Frames a clip."""
    stride: int = 4
    """Every so manieth frame of the video."""
    resize: int = 128
    """Pixels of the video's shorter side when it is read."""
    size: int = 112
    """Side of the square crop that the network sees."""

    def __post_init__(self) -> None:
        if min(self.frames, self.stride, self.size) < 1:
            raise UserError("frames, stride and size of a clip must be at least 1.")
        if self.resize < self.size:
            raise UserError(f"resize ({self.resize}) must not be smaller than size ({self.size}).")


def crop(frames: NDArray[np.uint8], size: int, corner: tuple[float, float]) -> NDArray[np.uint8]:
    """Cut a square out of (T, H, W, C); ``corner`` in [0, 1] says where: (0.5, 0.5) is the middle."""
    x = round(corner[0] * (frames.shape[2] - size))
    y = round(corner[1] * (frames.shape[1] - size))
    return frames[:, y : y + size, x : x + size]


def collate(samples: list[Any]) -> Any:
    """Stack samples to a batch; a sample that is an error makes the batch that error.

    An exception that leaves a worker process arrives as a page of traceback. Handed over as a value it
    arrives as it is, and :func:`raise_errors` raises it where the batch is wanted.
    """
    for sample in samples:
        if isinstance(sample, UserError):
            return sample
    return default_collate(samples)


def raise_errors(batches: Iterable[Any]) -> Iterator[Any]:
    """Pass batches on; raise one that is an error."""
    for batch in batches:
        if isinstance(batch, UserError):
            raise batch
        yield batch


class FrameCounts:
    """How many frames each video of a list has: from the list, or by looking, once."""

    def __init__(self, videos: VideoList) -> None:
        self._videos = videos
        self._known: dict[int, int] = {}

    def __getitem__(self, index: int) -> int:
        count = int(self._videos.frames[index])
        if count != UNKNOWN:
            return count
        if index not in self._known:
            self._known[index] = max(probe(self._videos.file(index)).frames, 1)
        return self._known[index]


class TrainingClips(Dataset[dict[str, Any] | UserError]):
    """For each (epoch, index): the views of a video that a method asks for, not yet rendered.

    Everything random comes from a generator seeded by (seed, epoch, index), so that a sample is
    the same whatever the number of workers, the batch, or the run it is part of.

    A sample is a dict: ``clips`` (view name -> uint8 (T, S, S, 3)) and ``parameters`` (view name ->
    the draws that ``disturb.views.render_view`` applies on the device).
    """

    def __init__(
        self,
        videos: VideoList,
        clip: ClipConfig,
        augment: Augment,
        views: Sequence[View],
        seed: int,
        cache_mb: int = 0,
    ) -> None:
        self.videos, self.clip, self.augment, self.views, self.seed = videos, clip, augment, views, seed
        self._cache = FrameCache(cache_mb)
        self._counts = FrameCounts(videos)

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any] | UserError:
        try:
            return self.sample(*key)
        except UserError as error:
            return error

    def sample(self, epoch: int, index: int) -> dict[str, Any]:
        """The sample itself, or the error."""
        rng = np.random.default_rng([self.seed, epoch, index])
        total = self._counts[index]
        window = random_window(total, self.clip.frames, self.clip.stride, rng)
        draws = draw_views(self.views, self.augment, window, total, rng)
        # One pass through the file serves all views.
        wanted, places = np.unique(np.concatenate([draw.indices for draw in draws]), return_inverse=True)
        frames = self._cache.read(self.videos.file(index), wanted, self.clip.resize, total)
        clips = {
            view.name: torch.from_numpy(crop(frames[place], self.clip.size, draw.corner))
            for view, draw, place in zip(self.views, draws, np.split(places, len(draws)), strict=True)
        }
        parameters = {
            view.name: {name: torch.from_numpy(value) for name, value in draw.parameters.items()}
            for view, draw in zip(self.views, draws, strict=True)
        }
        return {"clips": clips, "parameters": parameters}


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index) through all epochs, each a new order; the last short one is dropped.

    Being one long sequence, it can begin anywhere: a resumed run starts at its next batch.
    """

    def __init__(self, videos: int, batch_size: int, seed: int, start: int, stop: int) -> None:
        self.videos, self.batch_size, self.seed = videos, batch_size, seed
        self.start, self.stop = start, stop
        self.per_epoch = videos // batch_size

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order_of = -1
        for batch in range(self.start, self.stop):
            epoch, place = divmod(batch, self.per_epoch)
            if epoch != order_of:
                order = np.random.default_rng([self.seed, epoch]).permutation(self.videos)
                order_of = epoch
            chosen = order[place * self.batch_size : (place + 1) * self.batch_size]
            yield [(epoch, int(index)) for index in chosen]


class EvaluationClips(Dataset[Tensor | UserError]):
    """For each video: evenly spread clips, cropped in the middle; uint8 (windows, T, S, S, 3)."""

    def __init__(self, videos: VideoList, clip: ClipConfig, windows: int) -> None:
        self.videos, self.clip, self.windows = videos, clip, windows
        self._counts = FrameCounts(videos)

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> Tensor | UserError:
        try:
            return self._windows(index)
        except UserError as error:
            return error

    def _windows(self, index: int) -> Tensor:
        windows = uniform_windows(self._counts[index], self.clip.frames, self.clip.stride, self.windows)
        wanted, places = np.unique(windows, return_inverse=True)
        frames = read_frames(self.videos.file(index), wanted, self.clip.resize)
        clips = crop(frames, self.clip.size, (0.5, 0.5))[places.reshape(windows.shape)]
        return torch.from_numpy(clips)
