"""Reading frames of videos: files, their content in memory, folders of frames, packs.

Frames are counted in the order they are shown, from 0. The same number gives the same picture
whichever way it is reached: from a keyframe (``keyframes.py``), or by decoding in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from dsm.errors import UserError
from dsm.video.clock import Part, parts_of, seconds_of
from dsm.video.convert import Converter, converter
from dsm.video.damage import Damage, note
from dsm.video.folder import frame_files, is_folder, read_pictures
from dsm.video.in_order import every_frame
from dsm.video.kept_open import kept_open
from dsm.video.keyframes import Untrusted, frames_by_keyframes, timeline
from dsm.video.pack import find_member, in_pack, packed_times, read_packed
from dsm.video.source import (
    Deadline,
    MissingVideoError,
    Source,
    VideoError,
    name_of,
    open_video,
    read_packets,
    video_stream,
)
from dsm.video.torchcodec import read_by_torchcodec

if TYPE_CHECKING:
    from av.container import InputContainer


Decoder = Literal["pyav", "torchcodec", "torchcodec-cuda"]


@dataclass(frozen=True)
class VideoInfo:
    """What a look at a video tells, without decoding it."""

    frames: int
    width: int
    height: int
    fps: float
    """Frames a second; 0 where the file does not say."""


def probe(source: Source) -> VideoInfo:
    """Count a video's packets (headers are often wrong) and read its size and rate.

    Raises:
        VideoError: the video is missing, is none, or cannot be read.
    """
    if is_folder(source):
        files = frame_files(source)
        height, width = read_pictures(files[:1], None, Deadline(source, None))[0].shape[:2]
        return VideoInfo(len(files), width, height, 0.0)
    if packed := in_pack(source):
        member = find_member(*packed)
        return VideoInfo(member.frames, member.width, member.height, member.fps)
    with open_video(source) as container:
        stream = video_stream(container)
        return VideoInfo(len(_shown(container)), stream.width, stream.height, float(stream.average_rate or 0))


def read_frames(
    source: Source,
    indices: Sequence[int] | NDArray[np.int64],
    short_side: int | None = None,
    seconds: float | None = None,
    decoder: Decoder = "pyav",
) -> NDArray[np.uint8]:
    """Decode the frames with the given numbers.

    Args:
        source: a video file, the content of one, a folder of frames, or a video in a pack.
        indices: frame numbers >= 0, in any order, repeats allowed. A number past the end counts
            on from the beginning, as if the video played in a loop: headers promise more frames
            than there are, and short videos must fill a clip.
        short_side: resize so that the shorter side has so many pixels; None keeps the size.
        seconds: how long it may take; None for as long as it takes.
        decoder: what decodes files: the same frames, to a rounding of colours, of all files but some old avi.

    Returns:
        uint8 RGB, shape (len(indices), H, W, 3).

    Raises:
        VideoError: the file is missing, holds no video, no frame of it can be decoded, or not in time.
    """
    wanted = sorted({int(index) for index in indices})
    if not wanted or wanted[0] < 0:
        raise ValueError("indices must be one frame number >= 0 or more.")
    deadline = Deadline(source, seconds)
    if is_folder(source):
        files = frame_files(source)
        places, back = np.unique(np.asarray(indices) % len(files), return_inverse=True)
        return np.stack(read_pictures([files[place] for place in places], short_side, deadline))[back]
    if packed := in_pack(source):
        return read_packed(*packed, np.asarray(indices), short_side)
    if decoder != "pyav":
        with open_video(source):  # refuses what is not to be opened, and says why
            pass
        return read_by_torchcodec(source, np.asarray(indices), short_side, cuda=decoder == "torchcodec-cuda")
    images: dict[int, NDArray[np.uint8]] = {}
    total = None
    try:
        with kept_open(source) as video:
            convert = Converter(short_side, *video.size)
            for number, frame in frames_by_keyframes(video, source, wanted, deadline):
                images[number] = convert(frame)
    except Untrusted:
        images, total = _decode_in_order(source, set(wanted), short_side, deadline)
        if total is not None:  # the video ended before the last wanted frame
            missing = {index % total for index in wanted} - images.keys()
            if missing:
                more, _ = _decode_in_order(source, missing, short_side, deadline)
                images |= more
    return np.stack([images[int(index) if total is None else int(index) % total] for index in indices])


def _decode_in_order(
    source: Source, wanted: set[int], short_side: int | None, deadline: Deadline
) -> tuple[dict[int, NDArray[np.uint8]], int | None]:
    """Wanted frames by number, and how many there are, if the end was reached first."""
    images: dict[int, NDArray[np.uint8]] = {}
    last = max(wanted)
    count = 0
    damage = Damage()
    with open_video(source) as container:
        convert = converter(container, short_side)
        for count, frame in enumerate(every_frame(container, damage), start=1):
            deadline.check()
            if count - 1 in wanted:
                images[count - 1] = convert(frame)
            if count > last:
                break
    note(source, damage, "the first " if count > last else "")
    if count == 0:
        raise VideoError(f"{name_of(source)}: not one frame can be decoded.")
    return images, None if count > last else count


def _shown(container: InputContainer) -> list[int | None]:
    """When each packet that gives a frame is shown, in the order of the file and its ticks."""
    packets = read_packets(container, lambda error: None)
    found = [(packet.pts, packet.dts) for packet in packets if not packet.is_discard]
    # An avi says only when frames are decoded.
    by_dts = any(pts is None for pts, _ in found)
    return [dts if by_dts else pts for pts, dts in found]


def frame_times(source: Source) -> NDArray[np.float64]:
    """When each frame is shown, in seconds from the first: (frames,), rising.

    Frames of which the file does not say so are spread evenly by its mean rate.

    Raises:
        VideoError: as :func:`probe`; or it is a folder of frames, or says nothing of its rate.
    """
    if is_folder(source):
        raise VideoError(f"{name_of(source)}: a folder of frames does not say how fast they follow.")
    if packed := in_pack(source):
        return packed_times(*packed)
    with open_video(source) as container:
        stream = video_stream(container)
        shown = _shown(container)
        if not shown:
            raise VideoError(f"{name_of(source)}: holds no frame.")
        found = seconds_of(shown, float(stream.time_base or 0), float(stream.average_rate or 0))
        if found is None:
            raise VideoError(f"{name_of(source)}: does not say how fast its frames follow.")
        return found


def continuous_parts(source: Source) -> list[Part] | None:
    """The parts of a video between gaps in its time, by frame numbers; None where there is no gap.

    A video that says nothing of time has none.

    Raises:
        VideoError: as :func:`probe`.
    """
    if is_folder(source):
        return None
    if not in_pack(source):
        with suppress(Untrusted), kept_open(source, reads=False) as video:
            if timeline(video.container, source).steady:
                return None
    try:
        found = parts_of(frame_times(source))
    except MissingVideoError:
        raise
    except VideoError:  # which is told when it is read
        return None
    return found if len(found) > 1 else None


def read_clip(
    source: Source, frames: int = 16, stride: int = 4, start: int = 0, size: int | None = None
) -> NDArray[np.uint8]:
    """Read one clip: ``frames`` frames, every ``stride``-th from ``start`` on.

    Args:
        source: a file, its bytes, a folder of frames, or a video in a pack (``shard-00000.tar/name``).
        start: counted from 0; what would lie past the end goes on from the beginning.
        size: pixels of the shorter side; None keeps the video's.

    Returns:
        uint8 RGB, shape (T, H, W, C).

    Raises:
        UserError: frames, stride or size below 1, or start below 0.
        VideoError: the video cannot be read.
    """
    if min(frames, stride, size or 1) < 1 or size == 0 or start < 0:
        raise UserError("frames, stride and size of a clip must be at least 1, and start at least 0.")
    return read_frames(source, start + stride * np.arange(frames), size)
