"""Reading frames of videos: files, their content in memory, folders of frames, packs.

Frames are counted in the order they are shown, from 0. The same number gives the same picture
whichever way it is reached: from a keyframe (``keyframes.py``), or by decoding in order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeGuard

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from dsm.errors import UserError
from dsm.files import is_dir
from dsm.video.convert import Converter, converter, frames_until_broken
from dsm.video.folder import frame_files, read_pictures
from dsm.video.kept_open import kept_open
from dsm.video.keyframes import Untrusted, counted, frames_by_keyframes
from dsm.video.pack import find_member, in_pack, read_packed
from dsm.video.segments import Segment, frames_between, segment_of
from dsm.video.source import Deadline, Source, VideoError, name_of, open_video
from dsm.video.torchcodec import read_by_torchcodec

if TYPE_CHECKING:
    from av.container import InputContainer


Decoder = Literal["pyav", "torchcodec", "torchcodec-cuda"]


@dataclass(frozen=True)
class VideoInfo:
    """What a look at a video tells, without decoding it."""

    frames: int
    width: int
    height: int
    fps: float
    """Frames a second; 0 where the file does not say."""


def probe(source: Source) -> VideoInfo:
    """Count a video's packets (headers are often wrong) and read its size and rate.

    Raises:
        VideoError: the video is missing, is none, or cannot be read.
    """
    if part := segment_of(source):
        return replace(probe(part.file), frames=len(segment_frames(part)))
    if is_folder(source):
        files = frame_files(source)
        height, width = read_pictures(files[:1], None, Deadline(source, None))[0].shape[:2]
        return VideoInfo(len(files), width, height, 0.0)
    if packed := in_pack(source):
        member = find_member(*packed)
        return VideoInfo(member.frames, member.width, member.height, member.fps)
    with open_video(source) as container:
        stream = container.streams.video[0]
        return VideoInfo(len(_shown(container)), stream.width, stream.height, float(stream.average_rate or 0))


def read_frames(
    source: Source,
    indices: Sequence[int] | NDArray[np.int64],
    short_side: int | None = None,
    seconds: float | None = None,
    decoder: Decoder = "pyav",
) -> NDArray[np.uint8]:
    """Decode the frames with the given numbers.

    Args:
        source: a video file, the content of one, a folder of frames, a video in a pack, or a segment
            (``FILE#START-END``, in seconds) of one.
        indices: frame numbers >= 0, in any order, repeats allowed. A number past the end counts
            on from the beginning, as if the video played in a loop: headers promise more frames
            than there are, and short videos must fill a clip.
        short_side: resize so that the shorter side has so many pixels; None keeps the size.
        seconds: how long it may take; None for as long as it takes.
        decoder: what decodes files: the same frames, to a rounding of colours, of all files but some old avi.

    Returns:
        uint8 RGB, shape (len(indices), H, W, 3).

    Raises:
        VideoError: the file is missing, holds no video, no frame of it can be decoded, or not in time.
    """
    wanted = sorted({int(index) for index in indices})
    if not wanted or wanted[0] < 0:
        raise ValueError("indices must be one frame number >= 0 or more.")
    if part := segment_of(source):
        inside = segment_frames(part)
        numbers = inside.start + np.asarray(indices) % len(inside)
        return read_frames(part.file, numbers, short_side, seconds, decoder)
    deadline = Deadline(source, seconds)
    if is_folder(source):
        files = frame_files(source)
        places, back = np.unique(np.asarray(indices) % len(files), return_inverse=True)
        return np.stack(read_pictures([files[place] for place in places], short_side, deadline))[back]
    if packed := in_pack(source):
        return read_packed(*packed, np.asarray(indices), short_side)
    if decoder != "pyav":
        with open_video(source):  # refuses what is not to be opened, and says why
            pass
        return read_by_torchcodec(source, np.asarray(indices), short_side, cuda=decoder == "torchcodec-cuda")
    images: dict[int, NDArray[np.uint8]] = {}
    total = None
    try:
        with kept_open(source) as video:
            convert = Converter(short_side, *video.size)
            for number, frame in frames_by_keyframes(video, source, wanted, deadline):
                images[number] = convert(frame)
    except Untrusted:
        images, total = _decode_in_order(source, set(wanted), short_side, deadline)
        if total is not None:  # the video ended before the last wanted frame
            missing = {index % total for index in wanted} - images.keys()
            if missing:
                more, _ = _decode_in_order(source, missing, short_side, deadline)
                images |= more
    return np.stack([images[int(index) if total is None else int(index) % total] for index in indices])


def _decode_in_order(
    source: Source, wanted: set[int], short_side: int | None, deadline: Deadline
) -> tuple[dict[int, NDArray[np.uint8]], int | None]:
    """Wanted frames by number, and how many frames there are, if the end was reached first."""
    images: dict[int, NDArray[np.uint8]] = {}
    last = max(wanted)
    count = 0
    with open_video(source) as container:
        convert = converter(container, short_side)
        for frame in frames_until_broken(container):
            deadline.check()
            if count in wanted:
                images[count] = convert(frame)
            count += 1
            if count > last:
                return images, None
    if count == 0:
        raise VideoError(f"{name_of(source)}: not one frame can be decoded.")
    return images, count


def _shown(container: InputContainer) -> list[int | None]:
    """When each packet that gives a frame is shown, in the order of the file, up to where that breaks off."""
    shown: list[int | None] = []
    try:
        for packet in container.demux(container.streams.video[0]):
            if packet.size and not packet.is_discard:
                shown.append(packet.pts)
    except (av.FFmpegError, EOFError):
        pass
    return shown


def frame_times(source: Source) -> NDArray[np.float64]:
    """When each frame is shown, in seconds from the first: (frames,), rising.

    Frames of which the file does not say so are spread evenly by its mean rate.

    Raises:
        VideoError: as :func:`probe`; or it is a folder of frames, or says nothing of its rate.
    """
    if part := segment_of(source):
        times = frame_times(part.file)
        inside = frames_between(times, part)
        return times[inside.start : inside.stop] - times[inside.start]
    if is_folder(source):
        raise VideoError(f"{name_of(source)}: a folder of frames does not say how fast they follow.")
    if packed := in_pack(source):
        member = find_member(*packed)
        if not member.fps > 0:
            raise VideoError(f"{name_of(source)}: the pack does not say how fast its frames follow.")
        return np.arange(member.frames) / member.fps
    with open_video(source) as container:
        stream = container.streams.video[0]
        shown = _shown(container)
        if not shown:
            raise VideoError(f"{name_of(source)}: holds no frame.")
        times = np.array([pts for pts in shown if pts is not None], np.float64)
        if len(times) == len(shown) == len(np.unique(times)) and len(times) and stream.time_base:
            return (np.sort(times) - times.min()) * float(stream.time_base)
        if not stream.average_rate:
            raise VideoError(f"{name_of(source)}: does not say how fast its frames follow.")
        return np.arange(len(shown)) / float(stream.average_rate)


def known_frames(source: Source) -> int:
    """How many frames a video has that was read, where that takes no other look into its file; else 0."""
    if part := segment_of(source):
        return len(segment_frames(part))
    if is_folder(source):
        return len(frame_files(source))
    if packed := in_pack(source):
        return find_member(*packed).frames
    return counted(source)


def segment_frames(part: Segment) -> range:
    """The numbers of a segment's frames in its file.

    Raises:
        VideoError: as :func:`frame_times`; or the file ends before.
    """
    try:
        changed = part.file.stat().st_mtime_ns
    except OSError:  # a video in a pack has no file of its own
        changed = 0
    return _segment_frames(part, changed)


# A list may name many segments of few long videos, and to find out the times of one, it is read through.
@lru_cache(maxsize=2**16)
def _segment_frames(part: Segment, changed: int) -> range:
    return frames_between(_times(part.file, changed), part)


@lru_cache(maxsize=8)
def _times(file: Path, changed: int) -> NDArray[np.float64]:
    return frame_times(file)


def decode_segment(part: Segment) -> Iterator[VideoFrame]:
    """A segment's frames one after the other, up to where its file breaks off.

    Raises:
        VideoError: as :func:`read_frames`, of a file.
    """
    inside = segment_frames(part)
    after = inside.start
    try:
        with kept_open(part.file) as video:
            for number, frame in frames_by_keyframes(video, part.file, inside, Deadline(part.file, None)):
                yield frame
                after = number + 1
    except Untrusted:
        with open_video(part.file) as container:
            for number, frame in enumerate(frames_until_broken(container)):
                if number >= inside.stop:
                    return
                if number >= after:
                    yield frame


def is_folder(source: Source) -> TypeGuard[str | Path]:
    """Whether a video is a folder of frames."""
    return not isinstance(source, bytes) and is_dir(source)


def read_clip(
    source: Source, frames: int = 16, stride: int = 4, start: int = 0, size: int | None = None
) -> NDArray[np.uint8]:
    """Read one clip: ``frames`` frames, every ``stride``-th from ``start`` on.

    Args:
        source: a file, its bytes, a folder of frames, or a video in a pack (``shard-00000.tar/name``).
        start: counted from 0; what would lie past the end goes on from the beginning.
        size: pixels of the shorter side; None keeps the video's.

    Returns:
        uint8 RGB, shape (T, H, W, C).

    Raises:
        UserError: frames, stride or size below 1, or start below 0.
        VideoError: the video cannot be read.
    """
    if min(frames, stride, size or 1) < 1 or size == 0 or start < 0:
        raise UserError("frames, stride and size of a clip must be at least 1, and start at least 0.")
    return read_frames(source, start + stride * np.arange(frames), size)
