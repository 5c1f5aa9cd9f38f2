"""Which of the pictures in a folder are the frames of one video, and in which order.

Names are told apart by what stands before their number: ``img_00001.jpg`` is of the series ``img_``,
``Abuse001_x264_10.png`` of ``Abuse001_x264_``. Where a time stands there the name is one point in time:
``cam_2024-05-01_12-00-00_3.jpg``, ``1305031102.100012.png``; frames are in the order of these.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from dsm.files import is_hidden

PICTURE = re.compile(r"(.*?)(\d+)\.(jpe?g|png|webp|bmp|tiff?)", re.IGNORECASE)
"""A numbered picture: what stands before its number, the number, the ending."""
# A time at the end of a name: of the day, with or without the date, seconds since 1970, or whole seconds.
_DAY = r"(?P<year>(?:19|20)\d\d)[-_.]?(?P<month>[01]\d)[-_.]?(?P<day>[0-3]\d)"
_CLOCK = r"(?P<hour>[0-2]\d)[-_.h]?(?P<minute>[0-5]\d)[-_.m]?(?P<second>[0-5]\d)"
_TIME = re.compile(
    rf"(?:^|(?<=\D))(?:{_DAY}[-_. T]*{_CLOCK}|(?P<epoch>1\d{{9}})|(?P<whole>\d+)(?=\.$)|"
    r"(?P<hour2>[0-2]\d)[-_.h](?P<minute2>[0-5]\d)[-_.m](?P<second2>[0-5]\d))[-_.s]*$"
)
# Where a folder holds several series: the usual names of colour frames, and of what is none.
_COLOUR = re.compile(r"(img|image|frame|rgb)?[_-]?", re.IGNORECASE)
_NO_COLOUR = re.compile(r".*(flow|depth|mask)[_-]?[xyuv]?[_-]?|(.*[_-])?[xyuv][_-]?", re.IGNORECASE)
MOST_SECONDS = 5.0
"""Between two times in the names of one video: those further apart are names of recordings."""


@dataclass
class Series:
    """The pictures of one video."""

    prefix: str
    """What their names have before the number, or before the time."""
    ending: str
    """Of the files, in lower case and without dot."""
    names: list[str] = field(default_factory=list)
    """In their order."""


def series_in(names: Iterable[str]) -> list[Series]:
    """All series among the names of files, in the order of their prefixes."""
    groups: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for name in names:
        if not is_hidden(name) and (match := PICTURE.fullmatch(name)):
            groups.setdefault((match[1], match[3].lower()), []).append((int(match[2]), name))
    timed: dict[tuple[str, str], list[tuple[float, list[str]]]] = {}
    found: list[Series] = []
    alone: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for (prefix, ending), numbered in groups.items():
        names_in_order = [name for _, name in sorted(numbered)]
        # The number may be the last of a time, as in 12-00-00.jpg, or stand behind one.
        whole = _time_in(names_in_order[0].rpartition(".")[0], last=True)
        if whole:
            for name in names_in_order:
                start, seconds = _time_in(name.rpartition(".")[0], last=True) or whole
                timed.setdefault((start, ending), []).append((seconds, [name]))
        elif time := _time_in(prefix):
            timed.setdefault((time[0], ending), []).append((time[1], names_in_order))
        elif len(numbered) == 1:  # perhaps a number before it counts: frame_00012_of_00300.jpg
            alone.setdefault((re.sub(r"\d+", "#", prefix), ending), []).append((prefix, names_in_order[0]))
        else:
            found.append(Series(prefix, ending, names_in_order))
    for (prefix, ending), times in timed.items():
        found += _recordings(prefix, ending, sorted(times))
    for (_, ending), pictures in alone.items():
        prefix = os.path.commonprefix([prefix for prefix, _ in pictures])  # noqa: RUF071
        prefix = prefix.rstrip("0123456789") if len(pictures) > 1 else prefix
        found.append(Series(prefix, ending, sorted((name for _, name in pictures), key=natural)))
    return sorted(found, key=lambda one: (natural(one.prefix), one.ending))


def _recordings(prefix: str, ending: str, times: list[tuple[float, list[str]]]) -> list[Series]:
    """Pictures named by times: one series, or one for each time at which many begin, if these lie apart."""
    runs = [[times[0]]]
    for before, one in itertools.pairwise(times):
        if one[0] - before[0] > MOST_SECONDS and len(before[1]) > 1:
            runs.append([])
        runs[-1].append(one)
    found = []
    for run in runs:
        names = [name for _, some in run for name in some]
        # A recording of its own is called by the time at which it began.
        begun = PICTURE.fullmatch(names[0])
        found.append(Series(prefix if len(runs) == 1 or not begun else begun[1], ending, names))
    return found


def _time_in(text: str, *, last: bool = False) -> tuple[str, float] | None:
    """What stands before a time at the end of a text, and the time in seconds from some day.

    Args:
        last: whether nothing comes after it, and it must have more than one number.
    """
    match = _TIME.search(text)
    if match is None or (last and not text[-1:].isdecimal()):
        return None
    said = {name.rstrip("2"): int(digits) for name, digits in match.groupdict().items() if digits}
    if "hour" not in said:
        seconds = float(said.get("epoch", said.get("whole", 0)))
        return None if last else (text[: match.start()], seconds)
    days = said.get("year", 0) * 372 + said.get("month", 0) * 31 + said.get("day", 0)
    return text[: match.start()], ((days * 24.0 + said["hour"]) * 60 + said["minute"]) * 60 + said["second"]


def natural(text: str) -> list[tuple[int, int, str]]:
    """A key that sorts texts as people do: 9 before 10."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", text)]


def pattern_of(series: Series) -> str:
    """What a series is called in its folder: a star stands for the number or the time."""
    return f"{series.prefix}*.{series.ending}"


def the_one(series: list[Series]) -> list[Series]:
    """The series that is a folder's video; several where these look like clips of their own.

    Flow, depth and masks beside colours are none, nor is a lone picture beside series; of the
    same frames in two formats the longer series is taken.
    """
    best = max(_likeness_to_colour(one.prefix) for one in series)
    alike = [one for one in series if _likeness_to_colour(one.prefix) == best]
    longest = max(len(one.names) for one in alike)
    alike = [one for one in alike if len(one.names) > 1 or longest == 1]
    if best == 2 or longest == 1 or len({one.prefix for one in alike}) == 1:
        return [max(alike, key=lambda one: (len(one.names), one.prefix, one.ending))]
    return alike


def _likeness_to_colour(prefix: str) -> int:
    return 2 if _COLOUR.fullmatch(prefix) else 0 if _NO_COLOUR.fullmatch(prefix) else 1
