"""Clips from a list's videos: random ones for training, fixed ones for evaluation.

Training clips are decoded when they are needed. Evaluation clips are spread evenly over each video.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler, default_collate

from dsm.data.lists import VideoList
from dsm.data.reading import Frames, Reader, crop
from dsm.data.reading_state import ReadingState
from dsm.data.settings import ClipConfig
from dsm.disturb.motion_scale import at_pace
from dsm.errors import UserError
from dsm.video.sampling import (
    Indices,
    Video,
    clips_from,
    random_part,
    random_window,
    shown_seconds,
    span,
    timed_windows,
    uniform_windows,
)
from dsm.video.settings import READING_TIME, Decoder
from dsm.video.source import BadVideo, VideoError
from dsm.views import Augment, View, draw_views

ATTEMPTS = 10
"""Most videos tried for one sample before loading fails."""


def collate(samples: list[Any]) -> Any:
    """Stack samples to a batch and join their ``bad`` and ``damaged`` videos; return an error instead if any.

    An exception raised in a worker process arrives as a page of traceback. Passed as a value, it arrives
    unchanged and is raised where the batch is used.
    """
    for sample in samples:
        if isinstance(sample, UserError):
            return sample
    joined = {name: [video for sample in samples for video in sample[name]] for name in ("bad", "damaged")}
    rest = [{name: value for name, value in sample.items() if name not in joined} for sample in samples]
    return {**default_collate(rest), **joined}


class TrainingClips(Dataset[dict[str, Any] | UserError]):
    """For each (epoch, index): the views of a video that a method needs, not yet rendered.

    Everything random comes from a generator seeded by (seed, epoch, index), so a sample does not depend
    on the number of workers, the batch or the run.

    A sample is a dict: ``clips`` (view name -> (T, S, S, C) as read), ``parameters`` (view name -> the
    draws that ``render.render_view`` applies on the device), ``label`` (-1 unlabelled), ``bad``
    (a list of :class:`~dsm.video.source.BadVideo`) and ``damaged`` (the same, for videos read with
    frames missing; each process reports each once). A video that cannot be read is replaced by another,
    drawn by the sample's generator.
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
            # Each attempt has its own generator, so the result does not depend on how far the last one got.
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
        # The usual cause is a wrong root.
        remedy = " Is --data.root right?" if all(video.verdict == "missing" for video in bad) else ""
        return UserError(f"{ATTEMPTS} videos in a row cannot be read, the first: {bad[0].reason}{remedy}")

    def generator(self, epoch: int, index: int, attempt: int = 0) -> np.random.Generator:
        """The generator for everything random in a sample, or in a replacement for it."""
        return np.random.default_rng([self.seed, epoch, index, *([attempt] if attempt else [])])

    def sample(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """One video's clips and parameters.

        Raises:
            VideoError: it cannot be read.
        """
        frames, stride = self.clip.frames_to_read, self.clip.stride
        # All clips come from one part of the video, so none crosses a gap in time.
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
    """Batches of (epoch, index) for all epochs, each in a new order; an epoch's last, short batch is dropped.

    This is one long sequence that can start anywhere: a resumed run starts at its next batch. A batch may be
    processed in parts, one after the other, and each part by several processes. The videos of a batch and
    their order over all parts and processes do not depend on how it is divided.

    Args:
        batch_size: over all parts and processes; a multiple of their product.
        start, stop: counted in parts.
        rank, world: this process's number, and the number of processes.
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


CROPS: dict[int, tuple[float, ...]] = {1: (0.5,), 3: (0.0, 0.5, 1.0)}
"""Positions of a clip's crops along its longer side, as shares of the free space: in the middle, and for 3
also at both ends."""


def cut_out(frames: Frames, size: int, crops: int) -> list[Frames]:
    """The square crops of a clip (T, H, W, C): along its longer side, in the middle of the shorter one."""
    height, width = frames.shape[1:3]
    corners = [(place, 0.5) if width >= height else (0.5, place) for place in CROPS[crops]]
    return [crop(frames, size, corner) for corner in corners]


MOST_CLIPS = 4096
"""Maximum clips per video, so that a long one fits into memory."""

CLIPS_A_PASS = 128
"""Clips of one video read per pass; whole frames take several times the memory of the crops."""


class EvaluationClips(Dataset[dict[str, Any] | UserError]):
    """The evenly spread clips of each video, each cropped in one or several places.

    A sample is a dict: ``index``; ``clips`` (windows * crops, T, S, S, C), or None if the video cannot be
    read; ``seconds`` (windows * crops, 2), when a clip begins and ends, NaN if not requested or if the
    video has no times; ``cut_short``, whether clips are farther apart than ``every``, because there would be
    too many; ``bad``, a list of at most one :class:`~dsm.video.source.BadVideo`;
    ``damaged``, the same, for a video read with frames missing.

    Args:
        windows: clips per video.
        crops: crops per clip: 1 in the middle or 3 along its longer side.
        every: seconds between the starts of clips, whatever their number; 0 for ``windows`` clips.
        timed: whether to return ``seconds``, for which the file must be opened once more.
        seconds: time limit for reading a video, or each 128 clips of it; None for no limit.
        workers: number of processes that will read.
    """

    def __init__(
        self,
        videos: VideoList,
        clip: ClipConfig,
        windows: int,
        crops: int = 1,
        *,
        every: float = 0,
        timed: bool = False,
        seconds: float | None = READING_TIME,
        workers: int = 0,
    ) -> None:
        self.videos, self.clip, self.windows, self.crops = videos, clip, windows, crops
        self.every, self.timed = every, timed or every > 0
        self.state, self.seconds = ReadingState(workers, len(videos)), seconds
        self.reader = Reader(videos, clip, seconds=seconds)

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> dict[str, Any] | UserError:
        known = self.state.find(index)
        if known is None:
            try:
                with self.state.noted(index):
                    return self.sample(index)
            except VideoError as error:
                known = self.state.bad[index] = BadVideo(index, error.verdict, str(error))
            except UserError as error:
                return error
        return {"index": index, "clips": None, "seconds": None, "bad": [known], "damaged": []}

    def sample(self, index: int) -> dict[str, Any]:
        """The sample of a video, like indexing, but raising an error if the video cannot be read.

        Raises:
            VideoError: the video cannot be read.
        """
        windows, times = self.windows_of(index)
        seconds = np.repeat(_seconds(windows, times), self.crops, axis=0)
        clips = self._cut(index, windows)
        damaged = self.state.damage(index, self.reader.damage(index))
        cut_short = False
        if self.every and times is not None:
            cut_short = len(windows) == MOST_CLIPS or self._step(index, times) > self.every
        return {
            "index": index, "clips": clips, "seconds": seconds, "cut_short": cut_short, "bad": [],
            "damaged": damaged,
        }  # fmt: skip

    def pieces(self, index: int, pixels: int) -> Iterator[Tensor]:
        """The clips of a video as in its sample, but a few at a time: (clips * crops, T, S, S, C) each.

        Args:
            pixels: most pixels of a piece before cropping, unless a single clip has more.

        Raises:
            VideoError: the video cannot be read.
        """
        windows, _ = self.windows_of(index)
        one = self.clip.frames_to_read * self.clip.resize**2
        some = min(max(pixels // one, 1), CLIPS_A_PASS)
        for first in range(0, len(windows), some):
            yield self._cut(index, windows[first : first + some])

    def places_in_file(self, index: int) -> Indices:
        """The frames of a video's clips as numbers in its file, of a segment in the whole file: (windows, T).

        Raises:
            VideoError: the video cannot be read.
        """
        return self.reader.in_file(index, self.windows_of(index)[0])

    def windows_of(self, index: int) -> tuple[Indices, NDArray[np.float64] | None]:
        """The frame numbers of a video's clips, and the times of its frames if they are needed."""
        clip = self.clip
        video = self.reader.video(index)
        times = self.reader.times(index) if self.timed else None
        if self.every and times is not None:
            video, step = self._timed(index, times), self._step(index, times)
            windows = timed_windows(video, clip.frames_to_read, clip.stride, times, step)
            if len(windows) > MOST_CLIPS:  # every part gets a clip, and there may be very many parts
                windows = windows[np.linspace(0, len(windows) - 1, MOST_CLIPS).astype(np.int64)]
        else:
            windows = uniform_windows(video, clip.frames_to_read, clip.stride, self.windows)
        return windows, times

    def _step(self, index: int, times: NDArray[np.float64]) -> float:
        """Seconds between the starts of a video's clips: more than ``every`` if there would be too many."""
        return max(self.every, shown_seconds(self._timed(index, times), times) / MOST_CLIPS)

    def _timed(self, index: int, times: NDArray[np.float64]) -> Video:
        """The frames that have times: a list may claim more frames than the file has."""
        video = self.reader.video(index)
        return min(video, len(times)) if isinstance(video, int) else video

    def around(self, index: int, moment: float) -> Tensor:
        """The clip of a video around a moment, in seconds from its first frame: (crops, T, S, S, C).

        Raises:
            VideoError: the video cannot be read. UserError: it ends earlier, or has no frame times.
        """
        file, clip = self.videos.file(index), self.clip
        times = self.reader.times(index)
        if times is None:
            raise UserError(f"{file}: has no frame times; omit --time.")
        if not 0 <= moment <= times[-1]:
            raise UserError(f"{file}: ends before second {moment:g}; --time must be 0 to {times[-1]:.1f}.")
        reach = span(clip.frames_to_read, clip.stride)
        video = self.reader.video(index)
        middle = int(np.searchsorted(times, moment))
        parts = [(0, video)] if isinstance(video, int) else video
        # In a gap, take the clip before or after it, whichever is nearer.
        if 0 < middle < len(times) and moment - times[middle - 1] < times[middle] - moment and len(parts) > 1:
            middle -= 1
        begin, stop = next((part for part in parts if part[0] <= middle < part[1]), parts[-1])
        start = np.array([min(max(middle - reach // 2, begin), max(stop - reach, begin))])
        return self._cut(index, clips_from(start, video, clip.frames_to_read, clip.stride))

    def _cut(self, index: int, windows: Indices) -> Tensor:
        """Read and crop clips by frame numbers, (windows, frames): (windows * crops, T, S, S, C)."""
        cut = []
        for first in range(0, len(windows), CLIPS_A_PASS):
            with self.state.noted(index):  # restarts the time limit for each pass
                read = self.reader.read(index, list(windows[first : first + CLIPS_A_PASS]))
            cropped = [one for frames in read for one in cut_out(frames, self.clip.size, self.crops)]
            cut.append(torch.from_numpy(np.stack(cropped)))
        return torch.cat(cut) if len(cut) > 1 else cut[0]


def _seconds(windows: Indices, times: NDArray[np.float64] | None) -> NDArray[np.float32]:
    """When clips begin and end, from frame numbers (windows, frames): (windows, 2)."""
    if times is None:
        return np.full((len(windows), 2), np.nan, np.float32)
    numbers = np.minimum(windows, len(times) - 1)  # a list may claim more frames than the file has
    return np.stack([times[numbers[:, 0]], times[numbers.max(1)]], axis=1).astype(np.float32)


def collate_clips(samples: list[Any]) -> Any:
    """Join the clips of videos, which may differ in number.

    Returns:
        A dict: ``index`` and ``counts``, lists of the videos that were read and their numbers of clips;
        ``clips`` (sum of counts, T, S, S, C) or None if none were read; ``seconds``; ``cut_short``, a list
        of videos; ``bad`` and ``damaged`` of all. Or the first error that concerns more than one video.
    """
    for sample in samples:
        if isinstance(sample, UserError):
            return sample
    read = [sample for sample in samples if sample["clips"] is not None]
    return {
        "index": [sample["index"] for sample in read],
        "counts": [len(sample["clips"]) for sample in read],
        "clips": torch.cat([sample["clips"] for sample in read]) if read else None,
        "seconds": np.concatenate([sample["seconds"] for sample in read]) if read else None,
        "cut_short": [sample["index"] for sample in read if sample["cut_short"]],
        "bad": [video for sample in samples for video in sample["bad"]],
        "damaged": [video for sample in samples for video in sample["damaged"]],
    }
