"""Clips for training and for evaluation, decoded on the fly."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler, default_collate, get_worker_info

from dsm.augment import Augment
from dsm.datasets.lists import UNKNOWN, VideoList
from dsm.disturb.views import View, draw_views
from dsm.errors import UserError
from dsm.video.cache import FrameCache
from dsm.video.decode import frame_times, probe, read_frames
from dsm.video.sampling import Indices, random_window, resample, uniform_windows
from dsm.video.source import VerdictName, VideoError

IDLE = -1.0
ATTEMPTS = 10
"""Videos tried for one sample before the data set is given up."""


@dataclass(frozen=True)
class ClipConfig:
    """The shape of a clip."""

    frames: int = 16
    """Frames a clip."""
    stride: int = 4
    """Every so manieth frame of the video."""
    fps: float = 0.0
    """Frames a second that a video is taken to have, by the times of its frames; 0 takes all frames."""
    resize: int = 128
    """Pixels of the video's shorter side when it is read."""
    size: int = 112
    """Side of the square crop that the network sees."""

    def __post_init__(self) -> None:
        if min(self.frames, self.stride, self.size) < 1:
            raise UserError("frames, stride and size of a clip must be at least 1.")
        if not 0 <= self.fps < float("inf"):
            raise UserError(f"fps of a clip must be above 0, or 0 for the video's own, not {self.fps}.")
        if self.resize < self.size:
            raise UserError(f"resize ({self.resize}) must not be smaller than size ({self.size}).")


def crop(frames: NDArray[np.uint8], size: int, corner: tuple[float, float]) -> NDArray[np.uint8]:
    """Cut a square out of (T, H, W, C); ``corner`` in [0, 1] says where: (0.5, 0.5) is the middle."""
    x = round(corner[0] * (frames.shape[2] - size))
    y = round(corner[1] * (frames.shape[1] - size))
    return frames[:, y : y + size, x : x + size]


def collate(samples: list[Any]) -> Any:
    """Stack samples to a batch, join their lists of ``bad`` videos; an error makes the batch that error.

    An exception that leaves a worker process arrives as a page of traceback. Handed over as a value it
    arrives as it is, and :func:`raise_errors` raises it where the batch is wanted.
    """
    for sample in samples:
        if isinstance(sample, UserError):
            return sample
    if not isinstance(samples[0], dict):
        return default_collate(samples)
    bad = [video for sample in samples for video in sample.pop("bad")]
    return {**default_collate(samples), "bad": bad}


def raise_errors(batches: Iterable[Any]) -> Iterator[Any]:
    """Pass batches on; raise one that is an error."""
    for batch in batches:
        if isinstance(batch, UserError):
            raise batch
        yield batch


@dataclass(frozen=True)
class BadVideo:
    """A video of a list that cannot be read."""

    index: int
    verdict: VerdictName
    reason: str


class Timing:
    """How many frames each video of a list has, and where they are at a wanted rate."""

    def __init__(self, videos: VideoList, fps: float = 0.0) -> None:
        self._videos, self._fps = videos, fps
        self._counts: dict[int, int] = {}

    def total(self, index: int) -> int:
        """Frames of a video: from the list, or by looking, once; at the wanted rate, where there is one."""
        if self._fps:
            return len(self._places(index))
        count = int(self._videos.frames[index])
        if count != UNKNOWN:
            return count
        if index not in self._counts:
            self._counts[index] = max(probe(self._videos.file(index)).frames, 1)
        return self._counts[index]

    def total_in_file(self, index: int) -> int:
        """Frames of a video up to the last that can be wanted."""
        return int(self._places(index)[-1]) + 1 if self._fps else self.total(index)

    def frames(self, index: int, wanted: Indices) -> Indices:
        """Numbers of frames in the file, for numbers at the wanted rate."""
        return self._places(index)[wanted] if self._fps else wanted

    def _places(self, index: int) -> Indices:
        return _at_rate(self._videos.file(index), self._fps)


@lru_cache(maxsize=1024)
def _at_rate(path: Path, fps: float) -> Indices:
    return resample(frame_times(path), fps)


class TrainingClips(Dataset[dict[str, Any] | UserError]):
    """For each (epoch, index): the views of a video that a method asks for, not yet rendered.

    Everything random comes from a generator seeded by (seed, epoch, index), so that a sample is
    the same whatever the number of workers, the batch, or the run it is part of.

    A sample is a dict: ``clips`` (view name -> uint8 (T, S, S, 3)), ``parameters`` (view name -> the
    draws that ``disturb.views.render_view`` applies on the device) and ``bad`` (a list of
    :class:`BadVideo`). In place of a video that cannot be read comes another, drawn by the sample.
    """

    def __init__(
        self,
        videos: VideoList,
        clip: ClipConfig,
        augment: Augment,
        views: Sequence[View],
        seed: int,
        cache_mb: int = 0,
        seconds: float | None = None,
        workers: int = 0,
    ) -> None:
        self.videos, self.clip, self.augment, self.views, self.seed = videos, clip, augment, views, seed
        self.bad: dict[int, BadVideo] = {}
        """Videos known to be bad: they are not tried again."""
        self.reading = torch.full((workers, 2), IDLE, dtype=torch.float64)
        """(workers, 2), seen from all processes: which video a worker is at, and since when."""
        self.reading.share_memory_()  # type: ignore[no-untyped-call]
        self._seconds = seconds
        self._cache = FrameCache(cache_mb)
        self._timing = Timing(videos, clip.fps)

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any] | UserError:
        epoch, index = key
        bad: list[BadVideo] = []
        for attempt in range(ATTEMPTS):
            # Each attempt has its own: what comes must not hang on how far the one before got.
            rng = self.generator(epoch, key[1], attempt)
            if attempt:
                index = int(rng.integers(len(self.videos)))
            if index not in self.bad:
                try:
                    with self._noted(index):
                        return {**self.sample(index, rng), "bad": bad}
                except VideoError as error:
                    self.bad[index] = BadVideo(index, error.verdict, str(error))
            bad.append(self.bad[index])
        return UserError(f"{ATTEMPTS} videos in a row cannot be read, the first: {bad[0].reason}")

    def generator(self, epoch: int, index: int, attempt: int = 0) -> np.random.Generator:
        """What draws everything random about a sample, or about a replacement for it."""
        return np.random.default_rng([self.seed, epoch, index, *([attempt] if attempt else [])])

    @contextmanager
    def _noted(self, index: int) -> Iterator[None]:
        """Within, other processes can see which video is being read: the decoder may never come back."""
        worker = get_worker_info()
        if worker is None:
            yield
            return
        self.reading[worker.id] = torch.tensor([index, time.monotonic()], dtype=torch.float64)
        try:
            yield
        finally:
            self.reading[worker.id, 0] = IDLE

    def sample(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """One video's clips and parameters.

        Raises:
            VideoError: it cannot be read.
        """
        total = self._timing.total(index)
        window = random_window(total, self.clip.frames, self.clip.stride, rng)
        draws = draw_views(self.views, self.augment, window, total, rng)
        # One pass through the file serves all views.
        wanted, places = np.unique(np.concatenate([draw.indices for draw in draws]), return_inverse=True)
        frames = self._cache.read(
            self.videos.file(index),
            self._timing.frames(index, wanted),
            self.clip.resize,
            self._timing.total_in_file(index),
            self._seconds,
        )
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
        self._timing = Timing(videos, clip.fps)

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> Tensor | UserError:
        try:
            return self._windows(index)
        except UserError as error:
            return error

    def _windows(self, index: int) -> Tensor:
        windows = uniform_windows(self._timing.total(index), self.clip.frames, self.clip.stride, self.windows)
        wanted, places = np.unique(windows, return_inverse=True)
        frames = read_frames(self.videos.file(index), self._timing.frames(index, wanted), self.clip.resize)
        clips = crop(frames, self.clip.size, (0.5, 0.5))[places.reshape(windows.shape)]
        return torch.from_numpy(clips)
