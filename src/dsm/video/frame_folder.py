"""Folders of frames: a video as numbered pictures (jpg, png, webp, bmp or tif).

Names are grouped by the text before their number: ``img_00001.jpg`` belongs to the series ``img_``,
``Abuse001_x264_10.png`` to ``Abuse001_x264_``. Names that contain a time are ordered by that time:
``cam_2024-05-01_12-00-00_3.jpg``, ``1305031102.100012.png``. Frames are numbered from 0 in the natural order
of their names. When a folder holds several videos, one of them is called ``FOLDER/PREFIX*.jpg``.

FFmpeg's picture codecs decode the files and shrink a JPEG while converting it to RGB: on one core this is
faster than libjpeg-turbo followed by a resize.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from dsm.errors import refuse_machine_fault
from dsm.files import is_dir, is_hidden
from dsm.limits import MAX_PIXELS
from dsm.terminal import many
from dsm.video.convert import Converter
from dsm.video.source import Deadline, MissingVideoError, NoVideoError, Source, VideoError, reason_of

if TYPE_CHECKING:
    from typing import TypeGuard


PICTURE = re.compile(r"(.*?)(\d+)\.(jpe?g|png|webp|bmp|tiff?)", re.IGNORECASE)
"""A numbered picture: prefix, number, file ending."""
# A time at the end of a name: a clock time with or without a date, seconds since 1970, or whole seconds.
_DAY = r"(?P<year>(?:19|20)\d\d)[-_.]?(?P<month>[01]\d)[-_.]?(?P<day>[0-3]\d)"
_CLOCK = r"(?P<hour>[0-2]\d)[-_.h]?(?P<minute>[0-5]\d)[-_.m]?(?P<second>[0-5]\d)"
_TIME = re.compile(
    rf"(?:^|(?<=\D))(?:{_DAY}[-_. T]*{_CLOCK}|(?P<epoch>1\d{{9}})|(?P<whole>\d+)(?=\.$)|"
    r"(?P<hour2>[0-2]\d)[-_.h](?P<minute2>[0-5]\d)[-_.m](?P<second2>[0-5]\d))[-_.s]*$"
)
# For folders with several series: the usual names of colour frames, and of pictures that are not.
_COLOUR = re.compile(r"(img|image|frame|rgb)?[_-]?", re.IGNORECASE)
_NO_COLOUR = re.compile(r".*(flow|depth|mask)[_-]?[xyuv]?[_-]?|(.*[_-])?[xyuv][_-]?", re.IGNORECASE)
_DAY_SECONDS = 24 * 3600.0
MOST_SECONDS = 5.0
"""Largest step between two times in the names of one video; a longer one starts a new recording."""


@dataclass
class Series:
    """The pictures of one video."""

    prefix: str
    """The start of their names, up to the number or the time."""
    ending: str
    """File ending, in lower case and without the dot."""
    names: list[str] = field(default_factory=list)
    """File names, in frame order."""


def series_in(names: Iterable[str]) -> list[Series]:
    """All series among these file names, ordered by prefix."""
    groups: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for name in names:
        if not is_hidden(name) and (match := PICTURE.fullmatch(name)):
            groups.setdefault((match[1], match[3].lower()), []).append((int(match[2]), name))
    timed: dict[tuple[str, str], list[tuple[float, list[str]]]] = {}
    series: list[Series] = []
    alone: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for (prefix, ending), numbered in groups.items():
        names_in_order = [name for _, name in sorted(numbered)]
        # The number may be the end of a time, as in 12-00-00.jpg, or follow a time.
        whole = _time_in(names_in_order[0].rpartition(".")[0], last=True)
        if whole:
            for name in names_in_order:
                start, seconds = _time_in(name.rpartition(".")[0], last=True) or whole
                timed.setdefault((start, ending), []).append((seconds, [name]))
        elif time := _time_in(prefix):
            timed.setdefault((time[0], ending), []).append((time[1], names_in_order))
        elif len(numbered) == 1:  # perhaps an earlier number is the counter: frame_00012_of_00300.jpg
            alone.setdefault((re.sub(r"\d+", "#", prefix), ending), []).append((prefix, names_in_order[0]))
        else:
            series.append(Series(prefix, ending, names_in_order))
    for (prefix, ending), times in timed.items():
        series += _recordings(prefix, ending, _past_midnight(sorted(times)))
    for (_, ending), pictures in alone.items():
        prefix = os.path.commonprefix([prefix for prefix, _ in pictures])  # noqa: RUF071
        prefix = prefix.rstrip("0123456789") if len(pictures) > 1 else prefix
        series.append(Series(prefix, ending, sorted((name for _, name in pictures), key=natural)))
    return sorted(series, key=lambda one: (natural(one.prefix), one.ending))


def _past_midnight(times: list[tuple[float, list[str]]]) -> list[tuple[float, list[str]]]:
    """Put times without a date that span midnight in order: those before it come first."""
    for place in range(1, len(times)):
        if times[-1][0] < _DAY_SECONDS and times[place][0] - times[place - 1][0] > _DAY_SECONDS / 2:
            return times[place:] + [(time + _DAY_SECONDS, names) for time, names in times[:place]]
    return times


def _recordings(prefix: str, ending: str, times: list[tuple[float, list[str]]]) -> list[Series]:
    """Pictures named by times: one series, or, if long breaks separate several recordings, one for each."""
    runs = [[times[0]]]
    for before, one in itertools.pairwise(times):
        if one[0] - before[0] > MOST_SECONDS and len(before[1]) > 1:
            runs.append([])
        runs[-1].append(one)
    series = []
    for run in runs:
        names = [name for _, some in run for name in some]
        # If there are several recordings, each is named after its start time.
        first = PICTURE.fullmatch(names[0])
        series.append(Series(prefix if len(runs) == 1 or not first else first[1], ending, names))
    return series


def _time_in(text: str, *, last: bool = False) -> tuple[str, float] | None:
    """Find a time at the end of a text: the text before it, and the time in seconds from an arbitrary day.

    Args:
        last: the text must end with the time, and the time must have more than one number.
    """
    match = _TIME.search(text)
    if match is None or (last and not text[-1:].isdecimal()):
        return None
    fields = {name.rstrip("2"): int(digits) for name, digits in match.groupdict().items() if digits}
    if "hour" not in fields:
        seconds = float(fields.get("epoch", fields.get("whole", 0)))
        return None if last else (text[: match.start()], seconds)
    days = fields.get("year", 0) * 372 + fields.get("month", 0) * 31 + fields.get("day", 0)
    return text[: match.start()], ((days * 24.0 + fields["hour"]) * 60 + fields["minute"]) * 60 + fields[
        "second"
    ]


def natural(text: str) -> list[tuple[int, int, str]]:
    """A key for natural sorting: 9 before 10."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", text)]


def pattern_of(series: Series) -> str:
    """The name of a series in its folder; a star replaces the number or the time."""
    return f"{series.prefix}*.{series.ending}"


def the_one(series: list[Series]) -> list[Series]:
    """The series that is the video of a folder; several if they look like separate clips.

    Ignores flow, depth and masks beside colour frames, and single pictures beside longer series. If the
    same frames exist in two formats, takes the longer series.
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


_CODECS = {
    "jpg": "mjpeg", "jpeg": "mjpeg", "png": "png", "webp": "webp", "bmp": "bmp", "tif": "tiff",
    "tiff": "tiff",
}  # fmt: skip
# Codecs by the first bytes of a file, whatever its name.
_CONTENTS = (
    (b"\xff\xd8", "mjpeg"), (b"\x89PNG", "png"), (b"RIFF", "webp"), (b"BM", "bmp"), (b"II", "tiff"),
    (b"MM", "tiff"),
)  # fmt: skip


def is_folder(source: Source) -> TypeGuard[str | Path]:
    """Whether a video is a folder of frames, or one clip of a folder: ``FOLDER/PREFIX*.jpg``."""
    if isinstance(source, bytes):
        return False
    return is_dir(source) or ("*" in os.path.basename(source) and _clip_in(Path(source)) is not None)  # noqa: PTH119


def _clip_in(path: Path) -> tuple[Path, str] | None:
    """The folder and the pattern, if a path names a clip in a folder."""
    if path.name.count("*") == 1 and not os.path.lexists(path) and is_dir(path.parent):
        return path.parent, path.name
    return None


def frame_files(folder: str | Path, prefix: str | None = None) -> list[Path]:
    """The pictures of a video in a folder, in frame order.

    Args:
        folder: the folder, or one clip in it (``FOLDER/PREFIX*.jpg``).
        prefix: of the series; None for the series that looks like colour frames.

    Raises:
        VideoError: there is no such folder, no numbered picture in it, or it holds several clips.
    """
    folder, pattern = _clip_in(Path(folder)) or (Path(folder), None)
    if not is_dir(folder):
        raise MissingVideoError(f"{folder}: no such folder of frames.")
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_file()]
    except OSError as error:
        refuse_machine_fault(error, reading=str(folder))
        raise VideoError(f"{folder}: cannot be read ({error.strerror}).") from None
    series = series_in(names)
    if pattern is not None:
        series = [one for one in series if pattern_of(one) == pattern]
    if prefix is not None:
        series = [one for one in series if one.prefix == prefix]
    if not series:
        wanted = f" {pattern or f'{prefix}…'}" if pattern or prefix else ""
        raise NoVideoError(f"{folder}: contains no numbered picture{wanted} (jpg, png, webp, bmp or tif).")
    clips = the_one(series)
    if len(clips) > 1:
        first, second = (pattern_of(one) for one in clips[:2])
        raise VideoError(
            f"{folder}: contains frames of {len(clips)} clips, such as {first} and {second}; list each as a "
            f"video, such as {folder / first} (`dsm data index` does this)."
        )
    return [folder / name for name in clips[0].names]


def read_pictures(
    files: Iterable[Path], short_side: int | None, deadline: Deadline, form: str = "rgb24"
) -> list[NDArray[np.uint8]]:
    """Decode pictures and resize all to the size of the first.

    Args:
        short_side: pixels of the shorter side; None keeps the size.
        form: FFmpeg's name of the pixel format.

    Raises:
        VideoError: a picture cannot be read; the message names it.
    """
    convert = Converter(short_side, form=form)
    return [_read(file, convert, deadline) for file in files]


class BrokenPictureError(VideoError):
    """The bytes of a picture cannot be decoded. Any other error may come from the disk."""

    def kept(self) -> BrokenPictureError:
        """The error without its traceback, which would keep the decoder and its picture in memory."""
        return BrokenPictureError(str(self))


def read_series(
    files: Sequence[Path],
    places: Sequence[int],
    short_side: int | None,
    deadline: Deadline,
    *,
    square: bool = False,
) -> tuple[list[NDArray[np.uint8]], dict[int, VideoError]]:
    """Decode pictures of a folder of frames, replacing a broken picture by the one before it.

    If no earlier picture can be decoded, the next one takes its place.

    Args:
        files: all pictures in order. places: which of them to read, each in [0, len(files)).

    Returns:
        One picture per place, all of the size of the first, and the errors of broken pictures, by place.

    Raises:
        VideoError: no picture can be decoded, or one cannot be read from the disk.
    """
    convert = Converter(short_side, square=square)
    images: list[NDArray[np.uint8]] = []
    broken: dict[int, VideoError] = {}
    for place in places:
        for one in itertools.chain(range(place, -1, -1), range(place + 1, len(files))):
            if one in broken:
                continue
            try:
                images.append(_read(files[one], convert, deadline))
                break
            except BrokenPictureError as error:
                broken[one] = error.kept()
        else:
            raise broken[place]
    return images, broken


def describe_broken(files: Sequence[Path], broken: Mapping[int, VideoError]) -> str:
    """A description of the broken pictures: '2 pictures lost, the first img_00004.png'."""
    lost = many(len(broken), "picture")
    return f"{lost} lost, the first {files[min(broken)].name}"


def _read(file: Path, convert: Converter, deadline: Deadline) -> NDArray[np.uint8]:
    deadline.check()
    frame = _decode(file)
    try:
        return convert(frame)
    except (av.FFmpegError, ValueError) as error:
        refuse_machine_fault(error, reading=str(file))
        raise BrokenPictureError(f"{file}: cannot be resized ({reason_of(error)}).") from None


def _decode(file: Path) -> VideoFrame:
    try:
        content = file.read_bytes()
    except OSError as error:
        refuse_machine_fault(error, reading=str(file))
        raise VideoError(f"{file}: cannot be read ({error.strerror}).") from None
    codec_by_name = _CODECS.get(file.suffix[1:].lower(), "mjpeg")
    name = next((codec for begin, codec in _CONTENTS if content.startswith(begin)), codec_by_name)
    # One decoder per picture: a decoder would read a second PNG as the difference from the first.
    codec = cast("VideoCodecContext", av.CodecContext.create(name, "r"))
    codec.thread_count = 1
    codec.options = {"max_pixels": str(MAX_PIXELS)}
    try:
        frames = codec.decode(av.Packet(content)) if content else []
    except (av.FFmpegError, ValueError) as error:
        refuse_machine_fault(error, reading=str(file))
        raise BrokenPictureError(f"{file}: cannot be decoded ({reason_of(error)}).") from None
    if not frames:
        raise BrokenPictureError(f"{file}: {'contains no picture' if content else 'is empty'}.")
    return frames[0]
