"""What the names and metadata of files say about footage: the camera, and when each video starts."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from dsm.data.groups import find_groups
from dsm.video.segments import SEGMENT

CAMERA = re.compile(
    r"(?<![a-z])(?:cam(?:era)?|kamera|channel|ch|site|sensor|dvr|nvr)[ _.-]?(?:no)?[ _.-]?\d+(?!\d)",
    re.IGNORECASE,
)
"""`cam3`, `Camera_12`, `ch01`: a word for a camera and its number."""
_DATE = r"(?P<year>(?:19|20)\d\d)(?P<a>[-_.]?)(?P<month>0[1-9]|1[0-2])(?P=a)(?P<day>0[1-9]|[12]\d|3[01])"
_CLOCK = r"(?P<hour>[01]\d|2[0-3])(?P<b>[-_.:h]?)(?P<minute>[0-5]\d)(?:(?P=b)|m)(?P<second>[0-5]\d)"
TIME = re.compile(rf"(?<!\d){_DATE}(?:[T _.-]{{0,2}}|[/\\]){_CLOCK}(?!\d)")
"""`20240131_235959`, `2024-01-31T23-59-59`: a date and a time of day, each with one separator throughout."""
SHARE = 0.5
"""Names are used if more than this share of the videos have one."""


def cameras_of(paths: Sequence[str], *, file: Path | None, regex: str) -> tuple[list[str], str]:
    """The camera of each video, and the source of this information.

    Cameras come from the table or expression, if given; otherwise from a word such as `cam3` in the path. If
    most paths have no such word, the folder stands for the camera, named below the one that all share.

    Returns:
        (n,) names, and the source: `table`, `expression`, `name` or `folder`.

    Raises:
        UserError: the table or the expression does not fit.
    """
    given = find_groups(paths, file=file, regex=regex, intervals=False)
    if given is not None:
        return given, "table" if file is not None else "expression"
    found = [CAMERA.search(path) for path in paths]
    folders = _below_the_shared([str(PurePosixPath(path).parent) for path in paths])
    if sum(match is not None for match in found) > SHARE * len(paths):
        names = [match[0].lower() if match else folder for match, folder in zip(found, folders, strict=True)]
        return names, "name"
    return folders, "folder"


def _below_the_shared(folders: list[str]) -> list[str]:
    """Folders, without the part that all of them share; the shared folder itself keeps its own name."""
    try:
        shared = posixpath.commonpath(folders) if folders else ""
    except ValueError:  # some are absolute, others not
        return folders
    if not shared:
        return folders
    names = {one: posixpath.relpath(one, shared) for one in set(folders)}
    return [posixpath.basename(shared) or one if names[one] == "." else names[one] for one in folders]


def begin_times(paths: Sequence[str]) -> NDArray[np.float64]:
    """When each video begins according to its name, in seconds since 1970 by its own clock; NaN if unknown.

    A name must have a date and a time of day with seconds, such as `20240131_235959`. The start of a segment
    is added. No time zone is assumed.
    """
    times = np.full(len(paths), np.nan)
    for place, path in enumerate(paths):
        part = SEGMENT.fullmatch(path)
        matches = list(TIME.finditer(part[1] if part else path))
        if not matches:
            continue
        match = matches[-1]  # the last one: folders often have dates too
        numbers = [int(match[name]) for name in ("year", "month", "day", "hour", "minute", "second")]
        try:
            year, month, day, hour, minute, second = numbers
            when = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
        except ValueError:  # 31 February
            continue
        times[place] = when.timestamp() + (float(part[2]) if part else 0.0)
    return times


EARLIEST = datetime(2000, 1, 2, tzinfo=timezone.utc).timestamp()
"""Clocks that were never set start in 1904, 1970, 1980 or 2000."""
OVERLAP = 4
"""Times are of a conversion if the videos last this many times longer than their cameras could record."""


def recording_times(
    created: NDArray[np.float64], seconds: NDArray[np.float64], cameras: int, *, now: float
) -> tuple[NDArray[np.float64], bool]:
    """The creation times of videos, without those that cannot be when the recording began.

    Dates before :data:`EARLIEST` and in the future are unknown. All are doubtful if few videos have one:
    these were edited. They are those of a conversion if most are the same, or if the videos last much longer
    in total than all cameras could record from the first time to the last.

    Args:
        created: (n,) seconds since 1970, one for each video; NaN if unknown.
        seconds: (n,) their lengths; NaN if unknown.
        cameras: number of cameras.
        now: the present.

    Returns:
        (n,) times, NaN if unknown; and whether there were times that are doubtful, and so left out.
    """
    times = np.where((created >= EARLIEST) & (created < now + 86400), created, np.nan)
    known = times[np.isfinite(times)]
    if len(times) < 2 or not len(known):
        return times, False
    most = np.unique(known, return_counts=True)[1].max()
    long = seconds[np.isfinite(times) & np.isfinite(seconds)]
    room = OVERLAP * cameras * (np.ptp(known) + long.max(initial=0))
    few = len(known) <= SHARE * len(times)
    if few or most > SHARE * len(known) or long.sum() > room:
        return np.full(len(times), np.nan), True
    return times, False


def clock(seconds: float) -> str:
    """A time of :func:`begin_times` as text; empty for NaN."""
    if not np.isfinite(seconds):
        return ""
    return datetime.fromtimestamp(seconds, tz=timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
