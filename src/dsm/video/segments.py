"""Segments: parts of long videos, called ``FILE#START-END``, in seconds from the file's first frame.

A segment is read like a file of that name: its frames count from 0, it plays in a loop, its times are counted
from its own first frame. What really is called so on the disk is no segment.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsm.files import as_spelled, is_dir, is_file
from dsm.video.clock import parts_of
from dsm.video.source import Source, VideoError

_NUMBER = r"(\d{1,9}(?:\.\d{1,9})?)"
SEGMENT = re.compile(rf"(.+)#{_NUMBER}-{_NUMBER}", re.DOTALL)


class Segment(NamedTuple):
    """A part of a video."""

    file: Path
    start: float
    """Seconds from the file's first frame."""
    end: float


def segment_name(path: str, start: float, end: float) -> str:
    """What the part of a video is called."""
    return f"{path}#{_number(start)}-{_number(end)}"


def _number(seconds: float) -> str:
    return np.format_float_positional(round(seconds, 6), trim="-")


def segment_of(source: Source) -> Segment | None:
    """The file and the seconds that a path names, where it names a segment."""
    if isinstance(source, bytes) or "#" not in (text := str(source)):
        return None
    named = SEGMENT.fullmatch(text)
    if not named or not float(named[2]) < float(named[3]) or is_dir(text) or is_file(text):
        return None
    return Segment(as_spelled(Path(named[1])), float(named[2]), float(named[3]))


def without_segment(path: str) -> str:
    """What a list calls the file of a segment, whose segments all show one scene; other paths as they are."""
    named = SEGMENT.fullmatch(path)
    return named[1] if named else path


def file_of(source: Path) -> Path:
    """The file that is opened for a video."""
    segment = segment_of(source)
    return segment.file if segment else source


def frames_between(times: NDArray[np.float64], segment: Segment) -> range:
    """The numbers of the frames that are first shown from start to before end; at least the one on screen.

    In a gap in time (``clock.py``) none is on screen.

    Args:
        times: (frames,) when each frame is shown, in seconds from the first, rising.

    Raises:
        VideoError: the file ends before, or has nothing but a gap there.
    """
    first, stop = np.searchsorted(times, [segment.start - 1e-6, segment.end - 1e-6]).tolist()
    if stop > first:
        return range(first, stop)
    before = max(first - 1, 0)
    begin, stop = next(part for part in parts_of(times) if before < part[1])
    # The last frame of a part stays as long as the mean one.
    stays = (times[stop - 1] - times[begin]) / max(stop - begin - 1, 1)
    if before == stop - 1 and segment.start > max(times[before] + stays - 1e-6, 0):
        where = (
            f"it ends at {math.ceil(times[-1] * 100) / 100:g}"
            if stop == len(times)
            else f"its time has a gap there, from {times[before]:.2f} to {times[stop]:.2f}"
        )
        raise VideoError(
            f"{segment.file}: has no second {segment.start:g}, where its segment begins; {where}."
        )
    return range(before, before + 1)
