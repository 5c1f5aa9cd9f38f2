"""Folders of frames: a video as numbered pictures, jpg, png, webp, bmp or tif.

What the pictures are called is found by looking (``series.py``): ``img_00001.jpg``, ``frame000001.jpg``,
``00001.png`` and whatever else ends in a number or a time of day. Frames are counted from 0 in the natural
order of their names. A clip among others in one folder is called ``FOLDER/PREFIX*.jpg``.
They are decoded with FFmpeg's picture codecs, for these shrink a JPEG
on its way to RGB: on one core faster than libjpeg-turbo and a resize after it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from dsm.files import is_dir
from dsm.notes import many
from dsm.video.convert import Converter
from dsm.video.series import pattern_of, series_in, the_one
from dsm.video.source import (
    MAX_PIXELS,
    Deadline,
    MissingVideoError,
    NoVideoError,
    Source,
    VideoError,
    said,
)

if TYPE_CHECKING:
    from typing import TypeGuard

_CODECS = {
    "jpg": "mjpeg", "jpeg": "mjpeg", "png": "png", "webp": "webp", "bmp": "bmp", "tif": "tiff",
    "tiff": "tiff",
}  # fmt: skip
# What a picture is by its first bytes, whatever its name says.
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
    """The folder and the pattern, where a path names a clip in a folder."""
    if path.name.count("*") == 1 and not os.path.lexists(path) and is_dir(path.parent):
        return path.parent, path.name
    return None


def frame_files(folder: str | Path, prefix: str | None = None) -> list[Path]:
    """The pictures of a video in a folder, in their order.

    Args:
        folder: the folder, or one clip in it (``FOLDER/PREFIX*.jpg``).
        prefix: what the series' names have before the number; None for the one that looks like colour
            frames.

    Raises:
        VideoError: no such folder, no numbered picture in it, or those of several clips.
    """
    folder, pattern = _clip_in(Path(folder)) or (Path(folder), None)
    if not is_dir(folder):
        raise MissingVideoError(f"{folder}: no such folder of frames.")
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_file()]
    except OSError as error:
        raise VideoError(f"{folder}: cannot be read ({error.strerror}).") from None
    series = series_in(names)
    if pattern is not None:
        series = [one for one in series if pattern_of(one) == pattern]
    if prefix is not None:
        series = [one for one in series if one.prefix == prefix]
    if not series:
        before = f" {pattern or f'{prefix}…'}" if pattern or prefix else ""
        raise NoVideoError(f"{folder}: holds no numbered jpg or png picture{before} (nor webp, bmp or tif).")
    found = the_one(series)
    if len(found) > 1:
        first, second = (pattern_of(one) for one in found[:2])
        raise VideoError(
            f"{folder}: holds the frames of {len(found)} clips, as {first} and {second}; name each as a "
            f"video, as {folder / first} (`dsm data index` does)."
        )
    return [folder / name for name in found[0].names]


def read_pictures(
    files: Iterable[Path],
    short_side: int | None,
    deadline: Deadline,
    form: str = "rgb24",
    *,
    square: bool = False,
) -> list[NDArray[np.uint8]]:
    """Decode pictures, all to the size of the first.

    Args:
        short_side: pixels of the shorter side; None keeps the size. square: and of the longer one.
        form: FFmpeg's name of the pixel format.

    Raises:
        VideoError: one cannot be read; the sentence names it.
    """
    convert = Converter(short_side, form=form, square=square)
    return [_read(file, convert, deadline) for file in files]


class BrokenPictureError(VideoError):
    """The bytes of a picture cannot be decoded; other errors may be of the disk."""


def read_series(
    files: Sequence[Path],
    places: Sequence[int],
    short_side: int | None,
    deadline: Deadline,
    *,
    square: bool = False,
) -> tuple[list[NDArray[np.uint8]], dict[int, VideoError]]:
    """Decode pictures of a folder of frames; a broken one is shown as the one before it.

    Where none before it can be decoded, the next one is shown.

    Args:
        files: all pictures in their order. places: which of them, each in [0, len(files)).

    Returns:
        A picture a place, all of the size of the first, and what is broken, by place.

    Raises:
        VideoError: not one picture can be decoded, or one cannot be read from the disk.
    """
    convert = Converter(short_side, square=square)
    images: list[NDArray[np.uint8]] = []
    broken: dict[int, VideoError] = {}
    for place in places:
        for one in (*range(place, -1, -1), *range(place + 1, len(files))):
            if one in broken:
                continue
            try:
                images.append(_read(files[one], convert, deadline))
                break
            except BrokenPictureError as error:
                broken[one] = error
        else:
            raise broken[place]
    return images, broken


def told_broken(files: Sequence[Path], broken: Mapping[int, VideoError]) -> str:
    """In words: '2 pictures lost, the first img_00004.png'."""
    lost = many(len(broken), "picture")
    return f"{lost} lost, the first {files[min(broken)].name}"


def _read(file: Path, convert: Converter, deadline: Deadline) -> NDArray[np.uint8]:
    deadline.check()
    frame = _decode(file)
    try:
        return convert(frame)
    except (av.FFmpegError, ValueError) as error:
        raise BrokenPictureError(f"{file}: cannot be resized ({said(error)}).") from None


def _decode(file: Path) -> VideoFrame:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise VideoError(f"{file}: cannot be read ({error.strerror}).") from None
    named = _CODECS.get(file.suffix[1:].lower(), "mjpeg")
    name = next((codec for begin, codec in _CONTENTS if content.startswith(begin)), named)
    # A decoder for each picture: a second PNG would be taken for the difference to the first.
    codec = cast("VideoCodecContext", av.CodecContext.create(name, "r"))
    codec.thread_count = 1
    codec.options = {"max_pixels": str(MAX_PIXELS)}
    try:
        frames = codec.decode(av.Packet(content)) if content else []
    except (av.FFmpegError, ValueError) as error:
        raise BrokenPictureError(f"{file}: cannot be decoded ({said(error)}).") from None
    if not frames:
        raise BrokenPictureError(f"{file}: {'holds no picture' if content else 'is empty'}.")
    return frames[0]
