"""Videos kept open between reads.

Opening a video takes as long as decoding one of its frames; reading the index of an hour-long video and
finding its keyframes takes much longer. So the last few videos stay open, each with its keyframes.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dsm.storage.objects import facts_of as storage_facts
from dsm.urls import absolute
from dsm.video.segments import file_of
from dsm.video.source import Source, open_video, video_stream

if TYPE_CHECKING:
    from av.container import InputContainer


KEPT = 4
"""Number of videos that each thread keeps open."""

MAX_PIXELS = 1280 * 720
"""Largest picture of a video that is kept open; a decoder holds about twenty pictures."""

Key = TypeVar("Key")
Value = TypeVar("Value")
FileKey = tuple[str, int, int, int | str]
"""Identifies a file, also after it is replaced under the same name: see :func:`file_key`."""


@dataclass
class OpenVideo:
    """An open video, and whether it was read before."""

    container: InputContainer
    closing: AbstractContextManager[InputContainer]
    size: tuple[int, int]
    """(width, height) when opened; may change later in the file."""
    key: FileKey | None
    """Identifies the file as it was when opened; None for a video in memory."""
    used: bool = False


class _Shelf(threading.local):
    def __init__(self) -> None:
        self.videos: dict[FileKey, OpenVideo] = {}


_shelf = _Shelf()


@contextmanager
def kept_open(source: Source, *, reads: bool = True) -> Iterator[OpenVideo]:
    """Like :func:`open_video`, but the video is closed only after others were opened or a read failed.

    A video that was kept open is positioned where its last reader left it. Its decoder is strict: a decoder
    that has decoded other pictures before would conceal damage differently than a new one.

    Args:
        reads: whether packets are read in the block.
    """
    key = file_key(source)
    video = _shelf.videos.pop(key, None) if key else None
    if video is None:
        closing = open_video(source, strict=True)
        container = closing.__enter__()
        codec = video_stream(container).codec_context
        video = OpenVideo(container, closing, (codec.width, codec.height), key)
    try:
        yield video
    except BaseException:
        if not video.closing.__exit__(*sys.exc_info()):  # raises its own error message
            raise
        return
    width, height = video.size
    if key is None or width * height > MAX_PIXELS:
        video.closing.__exit__(None, None, None)
        return
    video.used = video.used or reads
    _shelf.videos[key] = video
    close_kept(down_to=KEPT)


def close_kept(down_to: int = 0) -> None:
    """Close the least recently read videos of this thread until ``down_to`` are left."""
    while len(_shelf.videos) > down_to:
        oldest = _shelf.videos.pop(next(iter(_shelf.videos)))
        oldest.closing.__exit__(None, None, None)


class Remembered(dict[Key, Value]):
    """A dictionary that keeps the newest entries only."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def __setitem__(self, key: Key, value: Value) -> None:
        super().__setitem__(key, value)
        while len(self) > self._most:
            del self[next(iter(self))]


def file_key(source: Source) -> FileKey | None:
    """Path, process, size and version; None for a video in memory or a missing file.

    For a segment: the path of the segment, with the size and time of its file.

    The process is included because after a fork two processes would share the position in an open file.
    """
    if isinstance(source, bytes):
        return None
    try:
        facts = storage_facts(file_of(Path(source)))
    except OSError:
        return None
    return absolute(source), os.getpid(), facts.size, facts.version
