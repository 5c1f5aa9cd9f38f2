"""Opening a video that is not to be trusted.

A file is read on one thread, so that many loader workers do not fight for the cores. It may be
broken, no video at all, or made to do harm: only regular files are opened, only as containers of
video (a playlist would make FFmpeg fetch what it names), and pictures have a largest size.
"""

from __future__ import annotations

import io
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import av

from dsm.errors import UserError

if TYPE_CHECKING:
    from av.container import InputContainer

EXTENSIONS = frozenset(
    (".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg",
     ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv")
)  # fmt: skip
# FFmpeg's readers of such files; whatever the name of a file, none but these is tried on it. Sound is
# among them so that it is told apart from rubbish.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,m4v,h264,hevc,av1,obu,ivf,vc1,mjpeg,"
    "flv,gif,apng,ogg,asf,wtv,rm,nut,nsv,dv,mxf,swf,pmp,wav,mp3"
)
MAX_PIXELS = 2**26
"""Pixels of the largest picture that is decoded: 8192 x 8192."""

READING_TIME = 60.0
"""Seconds that a video may take, where nobody says otherwise: a decoder may never come back."""

Source = str | Path | bytes
"""A video file by its path, or its content."""


VerdictName = Literal["ok", "short", "truncated", "undecodable", "no-video", "missing", "empty", "timeout"]
"""What a video can be found to be."""


class VideoError(UserError):
    """A video that is missing or cannot be read; the sentence names the file."""

    verdict: VerdictName = "undecodable"


class MissingVideoError(VideoError):
    """There is no file at this path: a wrong path or root, not a broken video."""

    verdict = "missing"


class EmptyVideoError(VideoError):
    """There is a file, with nothing in it."""

    verdict = "empty"


class NoVideoError(VideoError):
    """The file can be opened, and holds no pictures that move."""

    verdict = "no-video"


class SlowVideoError(VideoError):
    """A video that took longer than it was given."""

    verdict = "timeout"


class Deadline:
    """A time by which a read must be done, looked at between frames."""

    def __init__(self, source: Source, seconds: float | None) -> None:
        self._source, self._seconds = source, seconds
        self._end = time.monotonic() + seconds if seconds is not None else None

    def check(self) -> None:
        """Raise SlowVideoError when the time is over."""
        if self._end is not None and time.monotonic() > self._end:
            raise SlowVideoError(f"{name_of(self._source)}: not read within {self._seconds:g} s.")


def name_of(source: Source) -> str:
    """What messages call a video."""
    return "video in memory" if isinstance(source, bytes) else str(source)


@contextmanager
def open_video(source: Source) -> Iterator[InputContainer]:
    """Open a video; whatever FFmpeg finds wrong in the block is a VideoError too.

    Raises:
        MissingVideoError: no file is there. VideoError: it is no regular file, holds no video stream,
            or cannot be decoded.
    """
    # An absolute path: FFmpeg would take what stands before a colon for a protocol.
    file = io.BytesIO(source) if isinstance(source, bytes) else os.path.abspath(_regular(Path(source)))
    try:
        with av.open(
            file,
            mode="r",
            metadata_errors="replace",  # some avi files hold metadata that is no UTF-8
            options={"format_whitelist": FORMATS, "protocol_whitelist": "file"},
        ) as container:
            if not container.streams.video:
                raise NoVideoError(f"{name_of(source)}: holds no video stream.")
            codec = container.streams.video[0].codec_context
            if codec is None:
                raise VideoError(f"{name_of(source)}: its codec is not known to FFmpeg.")
            if codec.width * codec.height > MAX_PIXELS:
                raise VideoError(f"{name_of(source)}: {codec.width} x {codec.height} pixels are too many.")
            codec.thread_count = 1
            codec.options = {"max_pixels": str(MAX_PIXELS)}
            yield container
    except (av.FFmpegError, EOFError, ValueError) as error:
        raise VideoError(f"{name_of(source)}: cannot be decoded ({said(error)}).") from error


def said(error: Exception) -> str:
    """What FFmpeg says is wrong, without its repetition of the path."""
    return getattr(error, "strerror", None) or str(error)


def _regular(path: Path) -> Path:
    try:
        facts = path.stat()
    except ValueError:
        raise MissingVideoError(f"{path!r}: is no name of a file.") from None
    except OSError as error:
        if isinstance(error, PermissionError):
            raise VideoError(f"{path}: may not be read ({error.strerror}).") from None
        raise MissingVideoError(f"{path}: no such file.") from None
    if stat.S_ISDIR(facts.st_mode):
        raise VideoError(f"{path}: is a folder, not a video file.")
    if not stat.S_ISREG(facts.st_mode):  # a pipe would be waited for
        raise VideoError(f"{path}: is no regular file.")
    if facts.st_size == 0:
        raise EmptyVideoError(f"{path}: is empty.")
    return path
