"""Packs: videos decoded once and stored at training size, for runs that decoding would slow down.

A pack is a folder of shards. A shard is an uncompressed tar of ``.npy`` files, one per video, which
WebDataset and others can read, with a ``.json`` file that says where each array begins, so any frame of any
video is one range of bytes, on disk or in object storage. An array is uint8 (frames, H * 3/2, W): planes
Y, U, V of 4:2:0, half the size of RGB.

A video in a pack is named ``SHARD.tar/NAME`` and is read like a file of that name.
``packing.py`` writes packs.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from dsm.errors import refuse_machine_fault
from dsm.files import is_dir, read_object
from dsm.limits import JSON_BYTES
from dsm.seals import unsealed
from dsm.storage.client import ChangedError, StorageError
from dsm.storage.objects import at_hand, exists, facts_of, forget, read_pieces
from dsm.untrusted import read_json
from dsm.urls import is_url, shown
from dsm.video.clock import Times
from dsm.video.convert import Converter
from dsm.video.source import MissingVideoError, Source, VideoError, reason_of

SHARD = ".tar"
FORMAT = 1


class Member(NamedTuple):
    """The position and shape of a video in its shard."""

    offset: int
    """Position of the first byte of the first frame."""
    frames: int
    height: int
    width: int
    fps: float
    times: tuple[float, ...] = ()
    """When each frame is shown, in seconds from the first; empty if frames are evenly spaced."""
    checksums: int = 0
    """Position of the CRC-32 of each frame, uint32 (frames,); 0 in packs of older versions, without them."""


def in_pack(source: Source) -> tuple[Path, str] | None:
    """The shard and the name in it, if a path leads into a shard; a folder named ``x.tar`` is not a shard."""
    if isinstance(source, bytes) or f"{SHARD}/" not in (text := Path(source).as_posix()):
        return None
    end = text.find(f"{SHARD}/")
    while end >= 0:
        shard, name = text[: end + len(SHARD)], text[end + len(SHARD) + 1 :]
        if not is_dir(shard):
            return Path(shard), name
        end = text.find(f"{SHARD}/", end + 1)
    return None


def is_packed(shard: Path) -> bool:
    """Whether a shard is written, and its index is intact."""
    index = shard.with_suffix(".json")
    try:
        _members(index, index.stat().st_mtime_ns, shard.stat().st_size)
    except (OSError, VideoError):
        return False
    return True


def find_member(shard: Path, name: str) -> Member:
    """Look up a video.

    Raises:
        MissingVideoError: there is no such shard, or no such video in it. VideoError: the index is broken.
    """
    index = shard.with_suffix(".json")
    if not exists(shard) or not exists(index):
        raise MissingVideoError(
            f"{shown(shard)}: no such shard of a pack, or its index {index.name} is missing."
        )
    folder = os.path.realpath(shard.parent)
    for file in (shard, index):
        # A link could expose any file on the disk as pictures.
        if file.is_symlink() and os.path.dirname(os.path.realpath(file)) != folder:  # noqa: PTH120
            raise VideoError(f"{file} is a link that leads out of its pack; replace it with the file.")
    members = _members(index, facts_of(index).version, facts_of(shard).size)
    if name not in members:
        raise MissingVideoError(f"{shown(shard)}: contains no video named {name}.")
    return members[name]


@lru_cache(maxsize=4096)  # all shards of the largest data sets
def _members(index: Path, version: int | str, size: int) -> dict[str, Member]:
    """Read the index of a shard of ``size`` bytes; reject entries that lie outside the shard."""
    try:
        with at_hand(index, JSON_BYTES) as file:
            content = unsealed(read_json(file))
        members = {name: _member(*row) for name, row in content["members"].items()}
        valid = content["format"] == FORMAT and all(
            min(one.offset, one.frames - 1, one.height - 2, one.width - 2) >= 0
            and (one.fps == 0 or 1e-3 <= one.fps <= 1e6)
            and one.height % 2 == one.width % 2 == 0
            and len(one.times) in (0, one.frames)
            and bool(np.isfinite(one.times).all() and (np.diff(one.times) >= 0).all())
            and one.offset + one.frames * one.height * one.width * 3 // 2 <= size
            and 0 <= one.checksums <= size - 4 * one.frames
            for one in members.values()
        )
    except OSError as error:
        refuse_machine_fault(error, reading=str(index))
        valid = False
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        valid = False
    if not valid:
        raise VideoError(f"{shown(index)} is not the index of a pack, or does not match its shard.")
    return members


def _member(
    offset: Any, frames: Any, height: Any, width: Any, fps: Any, times: Sequence[Any] = (), checksums: Any = 0
) -> Member:
    shape = int(frames), int(height), int(width)
    return Member(int(offset), *shape, float(fps), tuple(map(float, times)), int(checksums))


def packed_times(shard: Path, name: str) -> Times:
    """When each frame is shown, in seconds from the first: (frames,), rising.

    Raises:
        VideoError: as :func:`find_member`; or the pack stores neither times nor a frame rate.
    """
    member = find_member(shard, name)
    if member.times:
        return np.array(member.times)
    if not member.fps > 0:
        raise VideoError(f"{shown(shard)}/{name}: the pack stores no frame rate for this video.")
    return np.arange(member.frames) / member.fps


def damaged_in(shard: Path) -> dict[str, str]:
    """Videos that were damaged when the shard was written: name -> description of what is lost.

    The shard has the frames that could be decoded.
    """
    with at_hand(shard.with_suffix(".json"), JSON_BYTES) as file:
        index = read_object(file) or {}
    damaged = index.get("damaged", {})
    return {str(name): str(text) for name, text in damaged.items()} if isinstance(damaged, dict) else {}


def read_packed(
    shard: Path, name: str, indices: NDArray[np.int64], short_side: int | None
) -> NDArray[np.uint8]:
    """Read frames by number, as :func:`dsm.video.decode.read_frames`; numbers past the end wrap around.

    Raises:
        VideoError: there is no such video, or a frame has changed since it was packed.
    """
    member, planes, back = _read_planes(shard, name, indices)
    convert = Converter(short_side, member.width, member.height)
    try:
        images = [convert(av.VideoFrame.from_numpy_buffer(plane, "yuv420p")) for plane in planes[:-1]]
    except (av.FFmpegError, ValueError) as error:
        refuse_machine_fault(error, reading=f"{shard}/{name}")
        raise VideoError(f"{shown(shard)}/{name}: cannot be resized ({reason_of(error)}).") from None
    return np.stack([images[place] for place in back])


class _Planes(NamedTuple):
    """Frames of a packed video as they are stored."""

    member: Member
    planes: NDArray[np.uint8]
    """(n + 1, H * 3/2, W). The last is spare: swscale reads blocks of pixels, past the end of a plane."""
    back: NDArray[np.int64]
    """The position in ``planes`` of each requested frame."""


def _read_planes(shard: Path, name: str, indices: NDArray[np.int64]) -> _Planes:
    """The frames, each once. Data from storage that does not fit its index or its checksums is fetched a
    second time: it may have been rewritten since, or the cache may be damaged."""
    try:
        return _planes_of(shard, name, indices)
    except MissingVideoError:
        raise
    except (VideoError, ChangedError):
        if not is_url(shard):
            raise
    forget(shard, shard.with_suffix(".json"))
    try:
        return _planes_of(shard, name, indices)
    except ChangedError:
        raise StorageError(f"{shown(shard)}: keeps changing while it is read; try again later.") from None


def _planes_of(shard: Path, name: str, indices: NDArray[np.int64]) -> _Planes:
    member = find_member(shard, name)
    wanted, back = np.unique(np.asarray(indices) % member.frames, return_inverse=True)
    planes = np.empty((len(wanted) + 1, member.height * 3 // 2, member.width), np.uint8)
    written = np.empty(member.frames if member.checksums else 0, "<u4")
    pieces = [
        (member.offset + number * plane.nbytes, plane.reshape(-1).data)
        for number, plane in zip(wanted.tolist(), planes, strict=False)
    ]
    if len(written):
        pieces.append((member.checksums, written.view(np.uint8).data))
    try:
        read_pieces(shard, pieces)
    except FileNotFoundError as error:
        raise MissingVideoError(f"{shown(shard)}: no such shard of a pack ({error}).") from None
    except EOFError:
        raise VideoError(f"{shown(shard)}: ends before the videos in its index; pack them again.") from None
    except OSError as error:
        refuse_machine_fault(error, reading=str(shard))
        raise VideoError(f"{shown(shard)}: cannot be read ({error.strerror}).") from None
    for number, plane in zip(wanted, planes, strict=False):
        if len(written) and zlib.crc32(plane.data) != written[number]:
            raise VideoError(
                f"{shown(shard)}/{name}: frame {number} has changed since it was packed (its checksum "
                f"differs); remove {shard.name} and its index, and pack the videos again."
            )
    return _Planes(member, planes, back)
