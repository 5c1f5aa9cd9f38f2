"""Folders of frames: a video as numbered pictures, jpg or png.

What the pictures are called is found by looking: ``img_00001.jpg``, ``frame000001.jpg``,
``image_00001.jpg``, ``00001.jpg`` and whatever else ends in a number. Frames are counted from 0 in the
order of their numbers. They are decoded with FFmpeg's picture codecs, for these shrink a JPEG
on its way to RGB: on one core faster than libjpeg-turbo and a resize after it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from dsm.files import is_dir
from dsm.video.convert import Converter
from dsm.video.source import MAX_PIXELS, Deadline, MissingVideoError, NoVideoError, VideoError, said

NUMBERED = re.compile(r"(.*?)(\d+)\.(jpg|jpeg|png)", re.IGNORECASE)
_CODECS = {"jpg": "mjpeg", "jpeg": "mjpeg", "png": "png"}
# Where a folder holds several series: the usual names of colour frames, and of what is none.
_COLOUR = re.compile(r"(img|image|frame|rgb)?[_-]?", re.IGNORECASE)
_NO_COLOUR = re.compile(r".*(flow|depth|mask|x|y|u|v)[_-]?", re.IGNORECASE)


def frame_files(folder: str | Path, prefix: str | None = None) -> list[Path]:
    """The pictures of a folder in the order of their numbers; one series where there are several.

    Args:
        prefix: what the series' names have before the number; None for the one that looks like colour
            frames, or else the longest.

    Raises:
        VideoError: no such folder, or no numbered picture in it.
    """
    folder = Path(folder)
    if not is_dir(folder):
        raise MissingVideoError(f"{folder}: no such folder of frames.")
    series: dict[tuple[str, str], list[tuple[int, str]]] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if (match := NUMBERED.fullmatch(entry.name)) and entry.is_file():
                    series.setdefault((match[1], match[3].lower()), []).append((int(match[2]), entry.name))
    except OSError as error:
        raise VideoError(f"{folder}: cannot be read ({error.strerror}).") from None
    if prefix is not None:
        series = {key: files for key, files in series.items() if key[0] == prefix}
    if not series:
        raise NoVideoError(
            f"{folder}: holds no numbered jpg or png picture{f' {prefix}…' if prefix else ''}."
        )
    best = max(series, key=lambda key: (_likeness_to_colour(key[0]), len(series[key]), key))
    return [folder / name for _, name in sorted(series[best])]


def _likeness_to_colour(prefix: str) -> int:
    return 2 if _COLOUR.fullmatch(prefix) else 0 if _NO_COLOUR.fullmatch(prefix) else 1


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
    images: list[NDArray[np.uint8]] = []
    convert = Converter(short_side, form=form, square=square)
    for file in files:
        deadline.check()
        frame = _decode(file)
        try:
            images.append(convert(frame))
        except (av.FFmpegError, ValueError) as error:
            raise VideoError(f"{file}: cannot be resized ({said(error)}).") from None
    return images


def _decode(file: Path) -> VideoFrame:
    # A decoder for each picture: a second PNG would be taken for the difference to the first.
    codec = cast("VideoCodecContext", av.CodecContext.create(_CODECS[file.suffix[1:].lower()], "r"))
    codec.thread_count = 1
    codec.options = {"max_pixels": str(MAX_PIXELS)}
    try:
        content = file.read_bytes()
        frames = codec.decode(av.Packet(content)) if content else []
    except OSError as error:
        raise VideoError(f"{file}: cannot be read ({error.strerror}).") from None
    except (av.FFmpegError, ValueError) as error:
        raise VideoError(f"{file}: cannot be decoded ({said(error)}).") from None
    if not frames:
        raise VideoError(f"{file}: {'holds no picture' if content else 'is empty'}.")
    return frames[0]
