"""The frames of a list's videos, by number: at a wanted frame rate, from memory, as colours or as flow.

Data sets that fit into memory are decoded in the first epoch only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dsm.data.lists import UNKNOWN, VideoList
from dsm.errors import UserError
from dsm.terminal import many, note
from dsm.video.clock import Part
from dsm.video.damage import noted
from dsm.video.decode import Decoder, known_frames, probe, read_frames
from dsm.video.flow import compute_flow, read_saved_flow, saved_flow
from dsm.video.frame_folder import is_folder
from dsm.video.sampling import Indices, Resampled, Video, at_rate
from dsm.video.segments import segment_of
from dsm.video.source import Deadline, VideoError
from dsm.video.times import continuous_parts, frame_times
from dsm.views import MODALITIES, ModalityName


class FrameCache:
    """Keeps whole decoded videos while there is room, first come, first kept.

    Nothing makes way for another: in training every video comes once an epoch, so the one thrown out
    would be wanted again before the one let in.
    """

    def __init__(self, megabytes: int, seconds: float | None = None, decoder: Decoder = "pyav") -> None:
        """``seconds`` and ``decoder`` are those of :func:`dsm.video.decode.read_frames`."""
        self._room = megabytes * 2**20
        self._seconds, self._decoder = seconds, decoder
        self._kept: dict[tuple[str, int], NDArray[np.uint8]] = {}
        self._too_large: set[tuple[str, int]] = set()
        """Videos that were seen to have no room, which only shrinks."""

    def read(
        self,
        path: Path,
        indices: NDArray[np.int64],
        short_side: int,
        total: int,
    ) -> NDArray[np.uint8]:
        """As :func:`dsm.video.decode.read_frames`, from memory where the video is kept.

        Args:
            total: frames of the video; says whether it is worth a try to keep it.
        """
        key = (str(path), short_side)
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
LARGEST = 65536
"""Frames of a clip, or pixels of a side, that no network sees."""


@dataclass(frozen=True)
class ClipConfig:
    """The shape of a clip."""

    frames: int = 16
    """Frames a clip."""
    stride: int = 4
    """Of the video's frames one in so many; 1 takes all."""
    fps: float = 0.0
    """Frames a second that a video is taken to have, by the times of its frames; 0 takes all frames."""
    resize: int = 128
    """Pixels of the video's shorter side when it is read."""
    size: int = 112
    """Side of the square crop that the network sees."""
    modality: ModalityName = "rgb"
    """Colours, their change from frame to frame, or optical flow (computed, or saved as pictures)."""

    def __post_init__(self) -> None:
        if min(self.frames, self.stride, self.size) < 1:
            raise UserError("frames, stride and size of a clip must be at least 1.")
        if not 0 <= self.fps < float("inf"):
            raise UserError(f"fps of a clip must be above 0, or 0 for the video's own, not {self.fps}.")
        if self.resize < self.size:
            raise UserError(f"resize ({self.resize}) must not be smaller than size ({self.size}).")

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """What a network is shown: (C, T, S, S)."""
        return MODALITIES[self.modality].channels, self.frames, self.size, self.size

    @property
    def frames_to_read(self) -> int:
        return self.frames + MODALITIES[self.modality].more_frames


def clip_of(said: Any) -> ClipConfig:
    """Clips as a file says them, which may be a stranger's.

    Raises:
        UserError: it says anything else.
    """
    numbers: dict[str, Any] = {"frames": int, "stride": int, "resize": int, "size": int, "fps": (int, float)}
    if not isinstance(said, Mapping):
        raise UserError("the clips that the file speaks of are none of dsm.")
    for name, value in said.items():
        if name == "modality":
            good = isinstance(value, str) and value in MODALITIES
        else:
            good = isinstance(value, numbers.get(name, ())) and value < LARGEST
        if not good:
            raise UserError(f"the file speaks of clips of {name} {value!r}, which this dsm does not know.")
    return ClipConfig(**said)


@dataclass(frozen=True)
class ClipChanges:
    """In what clips differ from those that weights were trained on."""

    frames: int | None = None
    """Frames a clip; left out, as the weights were trained."""
    stride: int | None = None
    """Of the video's frames one in so many; left out, as the weights were trained."""
    resize: int | None = None
    """Pixels of the shorter side; left out, as the weights were trained."""
    size: int | None = None
    """Side of the crop; left out, as the weights were trained."""

    def of(self, about: Mapping[str, Any]) -> ClipConfig:
        """The clips that weights are to see, by what their checkpoint says of them.

        Raises:
            UserError: there are no such clips.
        """
        changed = {name: value for name, value in asdict(self).items() if value is not None}
        return replace(clip_of(about.get("clip", {})), **changed)


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
        self._cache = FrameCache(cache_mb, seconds, decoder)
        # Of the files, 0 before they are counted: seen from all loader processes, as to count one its whole
        # file is read where the list says nothing.
        self._counts = torch.zeros(len(videos), dtype=torch.int32)
        self._counts.share_memory_()  # type: ignore[no-untyped-call]
        # So too which videos are known to have no gap in time; the parts of those that have are few.
        self._steady = torch.zeros(len(videos), dtype=torch.uint8)
        self._steady.share_memory_()  # type: ignore[no-untyped-call]
        self._parts: dict[int, list[Part]] = {}

    def total(self, index: int) -> int:
        """Frames of a video: from the list, or by looking, once; at the wanted rate, where there is one."""
        if self._clip.fps:
            return len(self._places(index))
        count = int(self._videos.frames[index])
        if count != UNKNOWN:
            return count
        if not self._counts[index]:
            self._counts[index] = max(probe(self._videos.file(index)).frames, 1)
        return int(self._counts[index])

    def video(self, index: int) -> Video:
        """What clips can be taken of: how many frames a video has, or its parts where time has gaps.

        Raises:
            VideoError: the video cannot be read.
        """
        total = self.total(index)
        if self._steady[index]:
            return total
        if index not in self._parts:
            file = self._videos.file(index)
            found = self._at_rate(index).parts if self._clip.fps else continuous_parts(file) or []
            # A list may say that only the first frames are to be used.
            found = [(begin, min(stop, total)) for begin, stop in found if begin < total]
            if len(found) < 2:
                self._steady[index] = 1
                return total
            self._parts[index] = found
        return self._parts[index]

    def damage(self, index: int) -> str | None:
        """What reads of this process found damaged in a video, in words; None where it is whole, so far."""
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
            found = [read_saved_flow(saved, one, self._clip.resize, deadline) for one in clips]
            return [one.transpose(0, 2, 3, 1) for one in found]
        wanted, places = np.unique(np.concatenate(clips), return_inverse=True)
        in_file = self._places(index)[wanted] if self._clip.fps else wanted
        last = int(self._places(index)[-1]) + 1 if self._clip.fps else self.total(index)
        frames = self._cache.read(file, in_file, self._clip.resize, last)
        if not self._counts[index] and self._videos.frames[index] != UNKNOWN:
            self._counts[index] = known_frames(file)
        read = [frames[place] for place in np.split(places, len(clips))]
        return [compute_flow(one).transpose(0, 2, 3, 1) for one in read] if flow else read

    def tell_counts(self) -> None:
        """Say of how many of the videos that were read the list has another count than their files."""
        said, there = self._videos.frames, self._counts.numpy()
        wrong = np.flatnonzero((said != UNKNOWN) & (there > 0) & (abs(said - there) > 1))
        if len(wrong):
            first = wrong[0]
            note(
                f"{self._videos.source}: {len(wrong)} of the "
                f"{many((there > 0).sum(), 'video that was', 'videos that were')} "
                f"read {'has' if len(wrong) == 1 else 'have'} another number of frames than the "
                f"list says: {self._videos.paths[first]} has "
                f"{there[first]}, not {said[first]}; `dsm data check LIST --clean NEW.txt` counts them anew",
                about=f"frames of {self._videos.source}",
            )

    def times(self, index: int) -> NDArray[np.float64] | None:
        """When each of a video's frames is shown, in seconds from the first; None where it does not say."""
        if self._clip.fps:
            return self._at_rate(index).times
        try:
            return frame_times(self._videos.file(index))
        except VideoError:  # one that is broken will be told when it is read
            return None

    def _places(self, index: int) -> Indices:
        return self._at_rate(index).numbers

    def _at_rate(self, index: int) -> Resampled:
        return _at_rate(self._videos.file(index), self._clip.fps)


@lru_cache(maxsize=1024)
def _at_rate(path: Path, fps: float) -> Resampled:
    times = frame_times(path)
    try:
        # A segment's own times may be too few to tell what is a gap in its file's.
        return at_rate(times, fps, continuous_parts(path) if segment_of(path) else None)
    except VideoError as error:  # which does not know the file
        raise VideoError(f"{path}: {error}") from None


def crop(frames: Frames, size: int, corner: tuple[float, float]) -> Frames:
    """Cut a square out of (T, H, W, C); ``corner`` in [0, 1] says where: (0.5, 0.5) is the middle."""
    x = round(corner[0] * (frames.shape[2] - size))
    y = round(corner[1] * (frames.shape[1] - size))
    return frames[:, y : y + size, x : x + size]
