"""Reading frames from video files with PyAV.

Frames are counted in the order they are shown, from 0. A file is read on one thread, so that
many loader workers do not fight for the cores; only wanted frames are converted to RGB, and
they are resized on the way, inside swscale.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from dsm.errors import UserError

if TYPE_CHECKING:
    from av.container import InputContainer

EXTENSIONS = frozenset(
    (".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg",
     ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv")
)  # fmt: skip


class VideoError(UserError):
    """A video that is missing or cannot be read; the sentence names the file."""


@dataclass(frozen=True)
class VideoInfo:
    """What a look at a file's packets tells, without decoding it."""

    frames: int
    width: int
    height: int
    fps: float
    """Frames a second; 0 where the file does not say."""


@contextmanager
def _open(path: str | Path) -> Iterator[InputContainer]:
    if not Path(path).exists():
        raise VideoError(f"{path}: no such file.")
    if Path(path).is_dir():
        raise VideoError(f"{path}: is a folder, not a video file.")
    try:
        # Some avi files hold metadata that is no UTF-8; it must not cost us the frames.
        # An absolute path: FFmpeg would take what stands before a colon for a protocol.
        with av.open(os.path.abspath(path), metadata_errors="replace") as container:
            if not container.streams.video:
                raise VideoError(f"{path}: holds no video stream.")
            container.streams.video[0].codec_context.thread_count = 1
            yield container
    except (av.FFmpegError, EOFError, ValueError) as error:
        raise VideoError(f"{path}: cannot be decoded ({error}).") from error


def probe(path: str | Path) -> VideoInfo:
    """Count a video's packets (headers are often wrong) and read its size and rate.

    Raises:
        VideoError: the file is missing, holds no video, or cannot be read.
    """
    with _open(path) as container:
        stream = container.streams.video[0]
        frames = sum(1 for packet in container.demux(stream) if packet.size)
        return VideoInfo(frames, stream.width, stream.height, float(stream.average_rate or 0))


def fit_short_side(width: int, height: int, short_side: int | None) -> tuple[int, int]:
    """(width, height) scaled so that the shorter one is ``short_side``; unchanged for None."""
    if short_side is None or min(width, height) == short_side:
        return width, height
    scale = short_side / min(width, height)
    return max(round(width * scale), short_side), max(round(height * scale), short_side)


def read_frames(
    path: str | Path, indices: Sequence[int] | NDArray[np.int64], short_side: int | None = None
) -> NDArray[np.uint8]:
    """Decode the frames with the given numbers.

    Args:
        path: a video file.
        indices: frame numbers >= 0, in any order, repeats allowed. A number past the end counts
            on from the beginning, as if the video played in a loop: headers promise more frames
            than there are, and short videos must fill a clip.
        short_side: resize so that the shorter side has so many pixels; None keeps the size.

    Returns:
        uint8 RGB, shape (len(indices), H, W, 3).

    Raises:
        VideoError: the file is missing, holds no video, or no frame of it can be decoded.
    """
    wanted = {int(index) for index in indices}
    if not wanted or min(wanted) < 0:
        raise ValueError("indices must be one frame number >= 0 or more.")
    images, total = _decode(path, wanted, short_side)
    if total is not None:  # the video ended before the last wanted frame
        missing = {index % total for index in wanted} - images.keys()
        if missing:
            more, _ = _decode(path, missing, short_side)
            images |= more
    order = [int(index) if total is None else int(index) % total for index in indices]
    return np.stack([images[index] for index in order])


def _decode(
    path: str | Path, wanted: set[int], short_side: int | None
) -> tuple[dict[int, NDArray[np.uint8]], int | None]:
    """Wanted frames by number, and how many frames there are, if the end was reached first."""
    images: dict[int, NDArray[np.uint8]] = {}
    last = max(wanted)
    reformatter = VideoReformatter()
    size: tuple[int, int] | None = None
    with _open(path) as container:
        count = 0
        for frame in _frames_until_broken(container):
            if count in wanted:
                size = size or fit_short_side(frame.width, frame.height, short_side)
                images[count] = _to_rgb(reformatter, frame, size)
            count += 1
            if count > last:
                return images, None
    if count == 0:
        raise VideoError(f"{path}: not one frame can be decoded.")
    return images, count


def _frames_until_broken(container: InputContainer) -> Iterator[VideoFrame]:
    """All frames in order; a file that breaks off gives those before the break."""
    try:
        yield from container.decode(video=0)
    except av.FFmpegError:
        return


def _to_rgb(reformatter: VideoReformatter, frame: VideoFrame, size: tuple[int, int]) -> NDArray[np.uint8]:
    # threads=1: swscale would otherwise start a thread pool for every frame, six times as slow.
    width, height = size
    rgb = reformatter.reformat(
        frame, width=width, height=height, format="rgb24", interpolation="BILINEAR", threads=1
    )
    return cast("NDArray[np.uint8]", rgb.to_ndarray())


def read_clip(
    path: str | Path, frames: int = 16, stride: int = 4, start: int = 0, size: int | None = None
) -> NDArray[np.uint8]:
    """Read one clip: ``frames`` frames, every ``stride``-th from ``start`` on.

    Args:
        size: pixels of the shorter side; None keeps the video's.

    Returns:
        uint8 RGB, shape (T, H, W, C).
    """
    return read_frames(path, start + stride * np.arange(frames), size)
