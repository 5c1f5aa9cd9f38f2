"""Videos kept open between reads.

To open a video takes as long as to decode a frame of it, and of an hour-long one to read its index and
find the keyframes takes much longer. So the last few are kept, each with its keyframes.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dsm.video.segments import file_of
from dsm.video.source import Source, open_video, video_stream

if TYPE_CHECKING:
    from av.container import InputContainer


KEPT = 4
"""Videos that a thread keeps open."""

MAX_PIXELS = 1280 * 720
"""Of a kept video's picture: a decoder holds some twenty pictures."""

Facts = tuple[str, int, int, int]
"""What tells a file from any other, and from its successor of the same name."""


@dataclass
class OpenVideo:
    """An open video, and whether it was read before."""

    container: InputContainer
    closing: AbstractContextManager[InputContainer]
    size: tuple[int, int]
    """(width, height) as opened: it may change on the way."""
    used: bool = False


class _Shelf(threading.local):
    def __init__(self) -> None:
        self.videos: dict[Facts, OpenVideo] = {}


_shelf = _Shelf()


@contextmanager
def kept_open(source: Source, *, reads: bool = True) -> Iterator[OpenVideo]:
    """As :func:`open_video`, but closed only when others were opened after it, or when a read went wrong.

    One that was kept stands where its last reader left it.

    Args:
        reads: whether packets are read in the block.
    """
    facts = facts_of(source)
    video = _shelf.videos.pop(facts, None) if facts else None
    if video is None:
        closing = open_video(source)
        container = closing.__enter__()
        codec = video_stream(container).codec_context
        video = OpenVideo(container, closing, (codec.width, codec.height))
    try:
        yield video
    except BaseException:
        if not video.closing.__exit__(*sys.exc_info()):  # which tells the error in its own words
            raise
        return
    width, height = video.size
    if facts is None or width * height > MAX_PIXELS:
        video.closing.__exit__(None, None, None)
        return
    video.used = video.used or reads
    _shelf.videos[facts] = video
    close_kept(down_to=KEPT)


def close_kept(down_to: int = 0) -> None:
    """Close those that this thread has not read for longest, until so many are left."""
    while len(_shelf.videos) > down_to:
        oldest = _shelf.videos.pop(next(iter(_shelf.videos)))
        oldest.closing.__exit__(None, None, None)


def facts_of(source: Source) -> Facts | None:
    """Path, process, size and time of change; None for a video in memory, and where no file is.

    Of a segment its own name, and what else its file has.

    The process, because after a fork two would share their place in an open file.
    """
    if isinstance(source, bytes):
        return None
    try:
        found = file_of(Path(source)).stat()
    except OSError:
        return None
    return os.path.abspath(source), os.getpid(), found.st_size, found.st_mtime_ns
