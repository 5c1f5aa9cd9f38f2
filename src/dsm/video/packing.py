"""Writing packs (``pack.py``): videos, and segments of them, decoded once into shards."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from dsm.files import write_text, written_aside
from dsm.video.clock import seconds_of
from dsm.video.convert import converter
from dsm.video.damage import Damage
from dsm.video.flow import saved_flow
from dsm.video.folder import frame_files, is_folder, read_series, told_broken
from dsm.video.pack import FORMAT, Member
from dsm.video.segments import file_of
from dsm.video.source import Deadline, VideoError, name_of, open_video, video_stream
from dsm.video.whole import frames_of, own

_EVEN = 2e-3
"""Seconds that frames may be beside an even rate: files round their times to milliseconds."""


def write_shard(
    shard: Path, videos: Iterable[tuple[str, Path]], short_side: int, square: bool = False
) -> dict[str, str]:
    """Decode videos into a shard, whole or not at all.

    Args:
        videos: name in the shard, and file, of each.
        short_side: pixels of the shorter side; sides are made even. square: and of the longer one.

    Returns:
        Why the videos that are not in it could not be read. Those that are in it but for lost pictures:
        :func:`dsm.video.pack.damaged_in`.
    """
    members: dict[str, Sequence[Any]] = {}
    left_out: dict[str, str] = {}
    damaged: dict[str, str] = {}
    with written_aside(shard) as aside, tarfile.open(aside, "w", format=tarfile.GNU_FORMAT) as tar:
        for number, (name, file) in enumerate(videos):
            try:
                array, fps, times, told = _decode(file, short_side, square)
            except VideoError as error:
                left_out[name] = str(error)
                continue
            if told:
                damaged[name] = f"{file}: {told}"
            content = io.BytesIO()
            np.save(content, array)
            entry = tarfile.TarInfo(f"{number:06d}.npy")
            entry.size = content.tell()
            content.seek(0)
            begin = tar.fileobj.tell() + tarfile.BLOCKSIZE
            tar.addfile(entry, content)
            member = Member(begin + entry.size - array.nbytes, *_shape(array), fps, times)
            members[name] = member if times else member[:5]
    index = {"format": FORMAT, "members": members} | ({"damaged": damaged} if damaged else {})
    write_text(shard.with_suffix(".json"), json.dumps(index) + "\n")
    return left_out


def _shape(array: NDArray[np.uint8]) -> tuple[int, int, int]:
    return array.shape[0], array.shape[1] * 2 // 3, array.shape[2]


def _decode(
    file: Path, short_side: int, square: bool
) -> tuple[NDArray[np.uint8], float, tuple[float, ...], str]:
    """Planes, frames a second, the frames' times where these are not even, and what is damaged, in words."""
    if is_folder(file):
        if saved_flow(file):
            raise VideoError(f"{file}: holds flow, which a pack does not keep.")
        files = frame_files(file)
        every, deadline = range(len(files)), Deadline(file, None)
        pictures, broken = read_series(files, every, short_side, deadline, square=square)
        kept = [_planes(picture) for place, picture in enumerate(pictures) if place not in broken]
        # A folder knows no times.
        return np.stack(kept), 0.0, (), told_broken(files, broken) if broken else ""
    planes, shown = [], []
    damage = Damage()
    with open_video(file_of(file)) as container:
        convert = converter(container, short_side, square=square)
        for frame in frames_of(file, container, damage):
            planes.append(_planes(convert(frame)))
            shown.append(frame.pts)
        stream = video_stream(container)
        fps = float(stream.average_rate or 0)
        seconds = seconds_of(shown, float(stream.time_base or 0), fps)
    if not planes:
        raise VideoError(f"{name_of(file)}: not one frame can be decoded.")
    even = seconds is None or (fps > 0 and np.abs(seconds - np.arange(len(planes)) / fps).max() < _EVEN)
    times = () if even or seconds is None else tuple(np.round(seconds, 6).tolist())
    return np.stack(planes), fps, times, own(file, damage).told()


def _planes(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture (H, W, 3), its sides made even, as the planes of yuv420p: (3 H / 2, W)."""
    height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
    even = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), "rgb24")
    return np.asarray(even.reformat(format="yuv420p", threads=1).to_ndarray(), np.uint8)
