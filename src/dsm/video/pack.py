"""Packs: videos decoded once and kept at training size, for runs that decoding would hold up.

A pack is a folder of shards. A shard is an uncompressed tar of ``.npy`` files, one a video, as WebDataset
and others read them, and beside it ``.json``, which says where each array begins: any frame of any video
is one range of bytes away, in a file as in object storage. An array is uint8 (frames, H * 3/2, W): planes
Y, U, V of 4:2:0, half of what RGB takes.

A video in a pack is called ``SHARD.tar/NAME``, and is read like a file of that name.
``packing.py`` writes packs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from dsm.files import is_dir, is_file, read_object
from dsm.video.clock import Times
from dsm.video.convert import Converter
from dsm.video.source import MissingVideoError, Source, VideoError, said

SHARD = ".tar"
FORMAT = 1


class Member(NamedTuple):
    """Where a video is in its shard."""

    offset: int
    """Of the first frame's first byte."""
    frames: int
    height: int
    width: int
    fps: float
    times: tuple[float, ...] = ()
    """When each frame is shown, in seconds from the first, where they do not follow evenly."""


def in_pack(source: Source) -> tuple[Path, str] | None:
    """The shard and the name in it, where a path leads into one; a folder called ``x.tar`` is none."""
    if isinstance(source, bytes) or f"{SHARD}/" not in (text := Path(source).as_posix()):
        return None
    end = text.find(f"{SHARD}/")
    while end >= 0:
        shard, name = text[: end + len(SHARD)], text[end + len(SHARD) + 1 :]
        if not is_dir(shard):
            return Path(shard), name
        end = text.find(f"{SHARD}/", end + 1)
    return None


def find_member(shard: Path, name: str) -> Member:
    """Look a video up.

    Raises:
        MissingVideoError: there is no such shard, or no such video in it. VideoError: its index is broken.
    """
    index = shard.with_suffix(".json")
    if not is_file(shard) or not is_file(index):
        raise MissingVideoError(f"{shard}: no such shard of a pack, or none of its index {index.name}.")
    members = _members(index, index.stat().st_mtime_ns, shard.stat().st_size)
    if name not in members:
        raise MissingVideoError(f"{shard}: holds no video {name}.")
    return members[name]


@lru_cache(maxsize=4096)  # all shards of the largest data sets
def _members(index: Path, changed: int, size: int) -> dict[str, Member]:
    """The index of a shard of so many bytes; nothing it says leads out of the shard."""
    try:
        read = json.loads(index.read_text(encoding="utf-8"))
        members = {name: _member(*row) for name, row in read["members"].items()}
        good = read["format"] == FORMAT and all(
            min(one.offset, one.frames - 1, one.height - 2, one.width - 2) >= 0
            and (one.fps == 0 or 1e-3 <= one.fps <= 1e6)
            and one.height % 2 == one.width % 2 == 0
            and len(one.times) in (0, one.frames)
            and bool(np.isfinite(one.times).all() and (np.diff(one.times) >= 0).all())
            and one.offset + one.frames * one.height * one.width * 3 // 2 <= size
            for one in members.values()
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        good = False
    if not good:
        raise VideoError(f"{index}: is no index of a pack, or does not fit its shard.")
    return members


def _member(offset: Any, frames: Any, height: Any, width: Any, fps: Any, times: Sequence[Any] = ()) -> Member:
    return Member(int(offset), int(frames), int(height), int(width), float(fps), tuple(map(float, times)))


def packed_times(shard: Path, name: str) -> Times:
    """When each frame is shown, in seconds from the first: (frames,), rising.

    Raises:
        VideoError: as :func:`find_member`; or the pack says nothing of it.
    """
    member = find_member(shard, name)
    if member.times:
        return np.array(member.times)
    if not member.fps > 0:
        raise VideoError(f"{shard}/{name}: the pack does not say how fast its frames follow.")
    return np.arange(member.frames) / member.fps


def damaged_in(shard: Path) -> dict[str, str]:
    """Which videos of a shard were found damaged when it was written: name -> what is lost, in words.

    What could be decoded of them is there.
    """
    found = read_object(shard.with_suffix(".json")) or {}
    damaged = found.get("damaged", {})
    return {str(name): str(told) for name, told in damaged.items()} if isinstance(damaged, dict) else {}


def read_packed(
    shard: Path, name: str, indices: NDArray[np.int64], short_side: int | None
) -> NDArray[np.uint8]:
    """Frames by number, as :func:`dsm.video.decode.read_frames` gives them; a video plays in a loop."""
    member = find_member(shard, name)
    # Mapped for this read only: a map that stays would count what is read as memory of the process.
    try:
        array = np.memmap(
            shard, np.uint8, "r", member.offset, (member.frames, member.height * 3 // 2, member.width)
        )
    except OSError as error:
        raise VideoError(f"{shard}: cannot be read ({error.strerror}).") from None
    convert = Converter(short_side, member.width, member.height)
    wanted, back = np.unique(np.asarray(indices) % member.frames, return_inverse=True)
    # One to spare: swscale takes steps of many pixels, the last beyond the end.
    planes = np.empty((len(wanted) + 1, *array.shape[1:]), np.uint8)
    np.take(array, wanted, axis=0, out=planes[:-1])
    try:
        images = [convert(av.VideoFrame.from_numpy_buffer(plane, "yuv420p")) for plane in planes[:-1]]
    except (av.FFmpegError, ValueError) as error:
        raise VideoError(f"{shard}/{name}: cannot be resized ({said(error)}).") from None
    return np.stack([images[place] for place in back])
