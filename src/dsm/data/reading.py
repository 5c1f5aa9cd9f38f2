"""Reads frames of a list's videos by number: at a given frame rate, from a cache, as RGB or as flow.

Data sets that fit into memory are decoded in the first epoch only.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dsm.data.list_format import UNKNOWN
from dsm.data.lists import VideoList
from dsm.data.settings import ClipConfig
from dsm.terminal import many, note
from dsm.video.clock import Part
from dsm.video.damage import noted
from dsm.video.decode import frame_count, known_frames, read_frames
from dsm.video.flow import compute_flow, read_saved_flow, saved_flow
from dsm.video.frame_folder import is_folder
from dsm.video.sampling import Indices, Resampled, Video, at_rate, span
from dsm.video.segments import segment_of
from dsm.video.settings import Decoder
from dsm.video.source import Deadline, VideoError
from dsm.video.times import continuous_parts, frame_times, segment_frames


class FrameCache:
    """Keeps whole decoded videos in memory until it is full.

    No video is ever evicted: in training every video is read once per epoch, so an evicted video would be
    needed before the one that replaced it.
    """

    def __init__(self, megabytes: int, seconds: float | None = None, decoder: Decoder = "pyav") -> None:
        """``seconds`` and ``decoder`` are as for :func:`dsm.video.decode.read_frames`."""
        self._room = megabytes * 2**20
        self._seconds, self._decoder = seconds, decoder
        # A list may give a path twice, with different numbers of frames.
        self._kept: dict[tuple[str, int, int], NDArray[np.uint8]] = {}
        self._too_large: set[tuple[str, int, int]] = set()
        """Videos that did not fit; the free room only shrinks."""

    def read(self, path: Path, indices: NDArray[np.int64], short_side: int, total: int) -> NDArray[np.uint8]:
        """Like :func:`dsm.video.decode.read_frames`, but from memory if the video is kept.

        Args:
            total: frames of the video, to estimate whether it fits into memory.
        """
        key = (str(path), short_side, total)
        if key not in self._kept:
            least = total * short_side * short_side * 3
            if least > self._room or key in self._too_large:
                return read_frames(path, indices, short_side, self._seconds, self._decoder)
            frames = read_frames(path, np.arange(total), short_side, self._seconds, self._decoder)
            if frames.nbytes > self._room:
                self._too_large.add(key)
                return frames[indices]
            self._room -= frames.nbytes
            self._kept[key] = frames
        return self._kept[key][indices]


Frames = NDArray[Any]


class Reader:
    """Reads clips of the videos of a list."""

    def __init__(
        self,
        videos: VideoList,
        clip: ClipConfig,
        cache_mb: int = 0,
        seconds: float | None = None,
        decoder: Decoder = "pyav",
    ) -> None:
        self._videos, self._clip, self._seconds = videos, clip, seconds
        self._span = span(clip.frames_to_read, clip.stride)
        self._cache = FrameCache(cache_mb, seconds, decoder)
        # Frame counts of the files, 0 until counted. Loader processes share them: if the list has no count,
        # counting reads the whole file.
        self._counts = torch.zeros(len(videos), dtype=torch.int32)
        self._counts.share_memory_()  # type: ignore[no-untyped-call]
        # Shared too: which videos have no gap in time. Few have gaps, so their parts are not shared.
        self._steady = torch.zeros(len(videos), dtype=torch.uint8)
        self._steady.share_memory_()  # type: ignore[no-untyped-call]
        self._parts: dict[int, list[Part]] = {}
        # Shared as well: which videos are shorter than a clip.
        self._looped = torch.zeros(len(videos), dtype=torch.uint8)
        self._looped.share_memory_()  # type: ignore[no-untyped-call]

    def total(self, index: int) -> int:
        """Frames of a video, at ``fps`` if set: from the list, or counted in the file once."""
        if self._clip.fps:
            return len(self._places(index))
        count = int(self._videos.frames[index])
        if count != UNKNOWN:
            return count
        if not self._counts[index]:
            self._counts[index] = max(frame_count(self._videos.file(index)), 1)
        return int(self._counts[index])

    def video(self, index: int) -> Video:
        """The frames to take clips from: a video's frame count, or its parts if there are gaps in time.

        Raises:
            VideoError: the video cannot be read.
        """
        total = self.total(index)
        if total < self._span:
            self._looped[index] = 1
        if self._steady[index]:
            return total
        if index not in self._parts:
            file = self._videos.file(index)
            parts = self._at_rate(index).parts if self._clip.fps else continuous_parts(file) or []
            # A list may limit a video to its first frames.
            parts = [(begin, min(stop, total)) for begin, stop in parts if begin < total]
            if len(parts) < 2:
                self._steady[index] = 1
                return total
            self._parts[index] = parts
            if max(stop - begin for begin, stop in parts) < self._span:
                self._looped[index] = 1
        return self._parts[index]

    def damage(self, index: int) -> str | None:
        """A description of the damage that this process has found in a video; None if none so far."""
        return noted(self._videos.file(index))

    def read(self, index: int, clips: Sequence[Indices]) -> list[Frames]:
        """Several clips of one video, in one pass through its file.

        Args:
            clips: for each, the numbers of ``clip.frames_to_read`` frames.

        Returns:
            For each, uint8 (frames to read, H, W, 3), or for flow float32 (frames, H, W, 2) in pixels.

        Raises:
            VideoError: the video cannot be read.
        """
        file = self._videos.file(index)
        flow = self._clip.modality == "flow"
        if flow and is_folder(file) and (saved := saved_flow(file)):
            deadline = Deadline(file, self._seconds)
            flows = [read_saved_flow(saved, numbers, self._clip.resize, deadline) for numbers in clips]
            return [clip.transpose(0, 2, 3, 1) for clip in flows]
        wanted, places = np.unique(np.concatenate(clips), return_inverse=True)
        in_file = self._places(index)[wanted] if self._clip.fps else wanted
        last = int(self._places(index)[-1]) + 1 if self._clip.fps else self.total(index)
        frames = self._cache.read(file, in_file, self._clip.resize, last)
        if not self._counts[index] and self._videos.frames[index] != UNKNOWN:
            self._counts[index] = known_frames(file)
        read = [frames[place] for place in np.split(places, len(clips))]
        return [compute_flow(one).transpose(0, 2, 3, 1) for one in read] if flow else read

    def in_file(self, index: int, numbers: Indices) -> Indices:
        """Frame numbers of a video as numbers in its file, of a segment in the whole file.

        Numbers past the end wrap around, as in reading.

        Raises:
            VideoError: the video cannot be read.
        """
        file = self._videos.file(index)
        places = self._places(index)[numbers] if self._clip.fps else numbers
        if part := segment_of(file):
            inside = segment_frames(part)
            return inside.start + places % len(inside)
        return places % frame_count(file)

    def tell_lengths(self) -> None:
        """Note how many of the videos that were read are looped, or have another frame count in the list."""
        if looped := int(self._looped.sum()):
            clip = self._clip
            note(
                f"{self._videos.source}: {looped} of the videos that were read "
                f"{'is' if looped == 1 else 'are'} shorter than a clip, which spans "
                f"{many(self._span, 'frame')} ({clip.frames_to_read} at stride {clip.stride}), and "
                "repeated from the start to fill it; a smaller stride or fewer frames avoid this",
                about=f"looped videos of {self._videos.source}",
            )
        listed, counted = self._videos.frames, self._counts.numpy()
        wrong = np.flatnonzero((listed != UNKNOWN) & (counted > 0) & (abs(listed - counted) > 1))
        if len(wrong):
            first = wrong[0]
            note(
                f"{self._videos.source}: {len(wrong)} of the "
                f"{many((counted > 0).sum(), 'video that was', 'videos that were')} "
                f"read {'has' if len(wrong) == 1 else 'have'} a different number of frames than the "
                f"list says: {self._videos.paths[first]} has {counted[first]}, not {listed[first]}; "
                "`dsm data check LIST --clean NEW.txt` counts them again",
                about=f"frames of {self._videos.source}",
            )

    def times(self, index: int) -> NDArray[np.float64] | None:
        """When each of a video's frames is shown, in seconds from the first; None if it has no times."""
        if self._clip.fps:
            return self._at_rate(index).times
        try:
            return frame_times(self._videos.file(index))
        except VideoError:  # a broken video is reported when it is read
            return None

    def _places(self, index: int) -> Indices:
        return self._at_rate(index).numbers

    def _at_rate(self, index: int) -> Resampled:
        return _at_rate(self._videos.file(index), self._clip.fps)


@lru_cache(maxsize=1024)
def _at_rate(path: Path, fps: float) -> Resampled:
    times = frame_times(path)
    try:
        # A segment may have too few frames to detect a gap, so use the parts of the whole file.
        return at_rate(times, fps, continuous_parts(path) if segment_of(path) else None)
    except VideoError as error:  # add the file's name
        raise VideoError(f"{path}: {error}") from None


def crop(frames: Frames, size: int, corner: tuple[float, float]) -> Frames:
    """Cut a square out of (T, H, W, C) at ``corner``, each in [0, 1]: (0.5, 0.5) is the middle."""
    x = round(corner[0] * (frames.shape[2] - size))
    y = round(corner[1] * (frames.shape[1] - size))
    return frames[:, y : y + size, x : x + size]
