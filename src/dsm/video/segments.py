"""Segments: parts of long videos, named ``FILE#START-END``, in seconds from the first frame of the file.

A segment is read like a file of that name: its frame numbers and times start from its own first frame, and it
plays in a loop. If a file or folder of that name exists, the name means that file, not a segment.
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
    """The name of a part of a video."""
    return f"{path}#{_number(start)}-{_number(end)}"


def _number(seconds: float) -> str:
    return np.format_float_positional(round(seconds, 6), trim="-")


def segment_of(source: Source) -> Segment | None:
    """The file and the seconds that a path names, if it names a segment."""
    if isinstance(source, bytes) or "#" not in (text := str(source)):
        return None
    named = SEGMENT.fullmatch(text)
    if not named or not float(named[2]) < float(named[3]) or is_dir(text) or is_file(text):
        return None
    return Segment(as_spelled(Path(named[1])), float(named[2]), float(named[3]))


def without_segment(path: str) -> str:
    """The file in a segment name, as spelled; other paths unchanged. Segments of a file share a scene."""
    named = SEGMENT.fullmatch(path)
    return named[1] if named else path


def file_of(source: Path) -> Path:
    """The file to open for a video or segment."""
    segment = segment_of(source)
    return segment.file if segment else source


def frames_between(times: NDArray[np.float64], segment: Segment) -> range:
    """The frames that appear from start until before end; if there are none, the frame on screen.

    In a gap in time (``clock.py``) no frame is on screen.

    Args:
        times: (frames,) when each frame is shown, in seconds from the first, rising.

    Raises:
        VideoError: the file ends before the segment, or has only a gap there.
    """
    first, stop = np.searchsorted(times, [segment.start - 1e-6, segment.end - 1e-6]).tolist()
    if stop > first:
        return range(first, stop)
    before = max(first - 1, 0)
    begin, stop = next(part for part in parts_of(times) if before < part[1])
    # The last frame of a part lasts as long as the average frame.
    lasts = (times[stop - 1] - times[begin]) / max(stop - begin - 1, 1)
    if before == stop - 1 and segment.start > max(times[before] + lasts - 1e-6, 0):
        where = (
            f"the file ends at {math.ceil(times[-1] * 100) / 100:g}"
            if stop == len(times)
            else f"there is a gap in time from {times[before]:.2f} to {times[stop]:.2f}"
        )
        raise VideoError(f"{segment.file}: the segment cannot start at second {segment.start:g}: {where}.")
    return range(before, before + 1)
