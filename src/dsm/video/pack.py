"""Packs: videos decoded once and kept at training size, for runs that decoding would hold up.

A pack is a folder of shards. A shard is an uncompressed tar of ``.npy`` files, one a video, as WebDataset
and others read them, and beside it ``.json``, which says where each array begins: any frame of any video
is one range of bytes away, in a file as in object storage. An array is uint8 (frames, H * 3/2, W): planes
Y, U, V of 4:2:0, half of what RGB takes.

A video in a pack is called ``SHARD.tar/NAME``, and is read like a file of that name.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from dsm.files import is_dir, is_file, write_text, written_aside
from dsm.video.convert import Converter, converter, frames_until_broken
from dsm.video.flow import saved_flow
from dsm.video.folder import frame_files, read_pictures
from dsm.video.segments import file_of, segment_of
from dsm.video.source import Deadline, MissingVideoError, Source, VideoError, name_of, open_video, said

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


def in_pack(source: Source) -> tuple[Path, str] | None:
    """The shard and the name in it, where a path leads into one."""
    if isinstance(source, bytes) or f"{SHARD}/" not in (text := Path(source).as_posix()):
        return None
    shard, _, name = text.partition(f"{SHARD}/")
    return Path(shard + SHARD), name


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
        members = {
            name: Member(int(offset), int(frames), int(height), int(width), float(fps))
            for name, (offset, frames, height, width, fps) in read["members"].items()
        }
        good = read["format"] == FORMAT and all(
            min(one.offset, one.frames - 1, one.height - 2, one.width - 2) >= 0
            and (one.fps == 0 or 1e-3 <= one.fps <= 1e6)
            and one.height % 2 == one.width % 2 == 0
            and one.offset + one.frames * one.height * one.width * 3 // 2 <= size
            for one in members.values()
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        good = False
    if not good:
        raise VideoError(f"{index}: is no index of a pack, or does not fit its shard.")
    return members


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


def write_shard(
    shard: Path, videos: Iterable[tuple[str, Path]], short_side: int, square: bool = False
) -> dict[str, str]:
    """Decode videos into a shard, whole or not at all.

    Args:
        videos: name in the shard, and file, of each.
        short_side: pixels of the shorter side; sides are made even. square: and of the longer one.

    Returns:
        Why the videos that are not in it could not be read.
    """
    members: dict[str, Member] = {}
    left_out: dict[str, str] = {}
    with written_aside(shard) as aside, tarfile.open(aside, "w", format=tarfile.GNU_FORMAT) as tar:
        for number, (name, file) in enumerate(videos):
            try:
                array, fps = _decode(file, short_side, square)
            except VideoError as error:
                left_out[name] = str(error)
                continue
            content = io.BytesIO()
            np.save(content, array)
            entry = tarfile.TarInfo(f"{number:06d}.npy")
            entry.size = content.tell()
            content.seek(0)
            begin = tar.fileobj.tell() + tarfile.BLOCKSIZE
            tar.addfile(entry, content)
            members[name] = Member(begin + entry.size - array.nbytes, *_shape(array), fps)
    write_text(shard.with_suffix(".json"), json.dumps({"format": FORMAT, "members": members}) + "\n")
    return left_out


def _shape(array: NDArray[np.uint8]) -> tuple[int, int, int]:
    return array.shape[0], array.shape[1] * 2 // 3, array.shape[2]


def _decode(file: Path, short_side: int, square: bool) -> tuple[NDArray[np.uint8], float]:
    from dsm.video.decode import decode_segment  # which reads packs

    if is_dir(file):
        if saved_flow(file):
            raise VideoError(f"{file}: holds flow, which a pack does not keep.")
        pictures = read_pictures(frame_files(file), short_side, Deadline(file, None), square=square)
        return np.stack([_planes(picture) for picture in pictures]), 0.0  # a folder knows no times
    part = segment_of(file)
    with open_video(file_of(file)) as container:
        convert = converter(container, short_side, square=square)
        found = decode_segment(part) if part else frames_until_broken(container)
        planes = [_planes(convert(frame)) for frame in found]
        fps = float(container.streams.video[0].average_rate or 0)
    if not planes:
        raise VideoError(f"{name_of(file)}: not one frame can be decoded.")
    return np.stack(planes), fps


def _planes(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture (H, W, 3), its sides made even, as the planes of yuv420p: (3 H / 2, W)."""
    height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
    even = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), "rgb24")
    return np.asarray(even.reformat(format="yuv420p", threads=1).to_ndarray(), np.uint8)
