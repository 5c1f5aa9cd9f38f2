"""Clips for training, decoded on the fly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler, default_collate

from dsm.augment import Augment
from dsm.datasets.lists import VideoList
from dsm.datasets.reading import ClipConfig, Reader, crop
from dsm.datasets.reading_state import BadVideo, ReadingState
from dsm.disturb.motion_scale import at_pace
from dsm.disturb.views import View, draw_views
from dsm.errors import UserError
from dsm.video.decode import Decoder
from dsm.video.sampling import random_part, random_window
from dsm.video.source import VideoError

ATTEMPTS = 10
"""Videos tried for one sample before the data set is given up."""


def collate(samples: list[Any]) -> Any:
    """Stack samples to a batch, join its ``bad`` and ``damaged`` videos; an error becomes the batch.

    An exception that leaves a worker process arrives as a page of traceback. Handed over as a value it
    arrives as it is, and is raised where the batch is wanted.
    """
    for sample in samples:
        if isinstance(sample, UserError):
            return sample
    if not isinstance(samples[0], dict):
        return default_collate(samples)
    told = {name: [video for sample in samples for video in sample.pop(name)] for name in ("bad", "damaged")}
    return {**default_collate(samples), **told}


class TrainingClips(Dataset[dict[str, Any] | UserError]):
    """For each (epoch, index): the views of a video that a method asks for, not yet rendered.

    Everything random comes from a generator seeded by (seed, epoch, index), so that a sample is
    the same whatever the number of workers, the batch, or the run it is part of.

    A sample is a dict: ``clips`` (view name -> (T, S, S, C) as read), ``parameters`` (view name -> the
    draws that ``disturb.views.render_view`` applies on the device), ``label`` (-1 unlabelled), ``bad``
    (a list of :class:`~dsm.datasets.reading_state.BadVideo`) and ``damaged`` (the same, of videos that are
    read but for lost pictures; each is told once by each process). In place of a video that cannot be read
    comes another, drawn by the sample.
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
        decoder: Decoder = "pyav",
    ) -> None:
        self.videos, self.clip, self.augment, self.views, self.seed = videos, clip, augment, views, seed
        self.state = ReadingState(workers, len(videos))
        self.reader = Reader(videos, clip, cache_mb, seconds, decoder)

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
            known = self.state.find(index)
            if known is None:
                try:
                    with self.state.noted(index):
                        return {**self.sample(index, rng), "bad": bad}
                except VideoError as error:
                    known = self.state.bad[index] = BadVideo(index, error.verdict, str(error))
                except UserError as error:
                    return error
            bad.append(known)
        # Mostly the list is looked for in the wrong place.
        remedy = " Is --data.root right?" if all(one.verdict == "missing" for one in bad) else ""
        return UserError(f"{ATTEMPTS} videos in a row cannot be read, the first: {bad[0].reason}{remedy}")

    def generator(self, epoch: int, index: int, attempt: int = 0) -> np.random.Generator:
        """What draws everything random about a sample, or about a replacement for it."""
        return np.random.default_rng([self.seed, epoch, index, *([attempt] if attempt else [])])

    def sample(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """One video's clips and parameters.

        Raises:
            VideoError: it cannot be read.
        """
        frames, stride = self.clip.frames_to_read, self.clip.stride
        # Nothing reaches over a gap in time: all that is drawn is drawn of one part.
        begin, stop = random_part(self.reader.video(index), frames, stride, rng)
        window = random_window(stop - begin, frames, stride, rng)
        draws = draw_views(self.views, self.augment, window, stop - begin, rng)
        read = self.reader.read(index, [begin + draw.indices for draw in draws])
        clips = {
            view.name: at_pace(torch.from_numpy(crop(frames, self.clip.size, draw.corner)), draw.scale)
            for view, draw, frames in zip(self.views, draws, read, strict=True)
        }
        parameters = {
            view.name: {name: torch.from_numpy(value) for name, value in draw.parameters.items()}
            for view, draw in zip(self.views, draws, strict=True)
        }
        return {
            "clips": clips, "parameters": parameters, "label": int(self.videos.labels[index]),
            "damaged": self.state.damage(index, self.reader.damage(index)),
        }  # fmt: skip


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index) through all epochs, each a new order; the last short one is dropped.

    Being one long sequence, it can begin anywhere: a resumed run starts at its next batch. A batch may be
    worked on in parts, one after the other, and each part by several processes: the videos of a batch are
    the same however it is divided, and so is their order, parts and processes put together.

    Args:
        batch_size: of all parts and processes together, which divide it.
        start, stop: counted in parts.
        rank, world: which process this is, of how many.
    """

    def __init__(
        self,
        videos: int,
        batch_size: int,
        seed: int,
        start: int,
        stop: int,
        *,
        parts: int = 1,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.videos, self.batch_size, self.seed = videos, batch_size, seed
        self.start, self.stop = start, stop
        self.parts, self.rank, self.world = parts, rank, world
        self.per_epoch = videos // batch_size

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order_of = -1
        share = self.batch_size // (self.parts * self.world)
        for number in range(self.start, self.stop):
            batch, part = divmod(number, self.parts)
            epoch, place = divmod(batch, self.per_epoch)
            if epoch != order_of:
                order = np.random.default_rng([self.seed, epoch]).permutation(self.videos)
                order_of = epoch
            first = place * self.batch_size + (part * self.world + self.rank) * share
            yield [(epoch, int(index)) for index in order[first : first + share]]
