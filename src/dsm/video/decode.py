"""Reading frames from video files, their content in memory, folders of frames, and packs.

Frames are numbered from 0 in display order. A number gives the same picture whether it is reached
from a keyframe (``keyframes.py``) or by decoding in order. torchcodec is an optional second backend; it needs
FFmpeg installed on the system.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from dsm.errors import UserError, refuse_machine_fault
from dsm.extras import load_extra
from dsm.video.convert import Converter, converter
from dsm.video.damage import Damage, note, note_text
from dsm.video.frame_folder import describe_broken, frame_files, is_folder, read_series
from dsm.video.in_order import every_frame
from dsm.video.kept_open import FileKey, Remembered, file_key, kept_open
from dsm.video.keyframes import Untrusted, counted, frames_by_keyframes, timeline
from dsm.video.pack import find_member, in_pack, read_packed
from dsm.video.segments import segment_of
from dsm.video.settings import Decoder
from dsm.video.source import (
    Deadline,
    Source,
    VideoError,
    name_of,
    open_video,
    reason_of,
    video_at_hand,
    video_stream,
)
from dsm.video.times import count_packets, length_by_table, segment_frames


def read_by_torchcodec(
    source: Source, indices: NDArray[np.int64], short_side: int | None, *, cuda: bool = False
) -> NDArray[np.uint8]:
    """As :func:`dsm.video.decode.read_frames`, but without a time limit: a read cannot be interrupted.

    Args:
        cuda: decode with the GPU's own decoder; frames are copied to the CPU and resized there.

    Raises:
        UserError: torchcodec cannot be imported, or this process has no GPU.
        VideoError: the file cannot be decoded.
    """
    if cuda and not _may_use_cuda():
        raise UserError(NO_CUDA)
    try:
        decoder = _decoder_class()(
            source if isinstance(source, bytes) else Path(source),
            dimension_order="NHWC",
            num_ffmpeg_threads=1,
            device="cuda" if cuda else "cpu",
            seek_mode="exact",
        )
        total = len(decoder)
        wanted, back = np.unique(np.asarray(indices) % max(total, 1), return_inverse=True)
        frames = decoder.get_frames_at(wanted.tolist()).data.cpu().numpy()
    except (RuntimeError, ValueError, IndexError, OSError) as error:
        refuse_machine_fault(error, reading=name_of(source))
        raise VideoError(
            f"{name_of(source)}: cannot be decoded by torchcodec ({reason_of(error)})."
        ) from None
    convert = Converter(short_side)
    images = [convert(VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")) for frame in frames]
    return np.stack(images)[back]


NO_CUDA = "torchcodec-cuda needs CUDA and --data.workers 0, because worker processes cannot use CUDA."


def check_decoder(decoder: Decoder, workers: int) -> None:
    """Check, before any video is read, that this machine has a decoder.

    Args:
        workers: number of processes that will decode for this one; 0 if it decodes itself.

    Raises:
        UserError: torchcodec cannot be imported, or its processes have no GPU.
    """
    if decoder == "pyav":
        return
    if decoder == "torchcodec-cuda" and (workers or not _may_use_cuda()):
        raise UserError(NO_CUDA)
    _decoder_class()


def _may_use_cuda() -> bool:
    # Imported here: it takes a second, which processes that only count or check videos can save.
    import torch
    from torch.utils.data import get_worker_info

    return torch.cuda.is_available() and get_worker_info() is None


def _decoder_class() -> Any:
    return load_extra(
        "torchcodec.decoders",
        "torchcodec",
        package="torchcodec",
        name="VideoDecoder",
        wanted_by="--data.decoder torchcodec",
        hint=", in the version for your torch, and FFmpeg; or use --data.decoder pyav",
    )


_ends = Remembered[FileKey | None, int](1024)
"""Frame counts of files of which a frame past the end was requested."""


@dataclass(frozen=True)
class VideoInfo:
    """Facts about a video that need no decoding."""

    frames: int
    width: int
    height: int
    fps: float
    """Frames per second; 0 if the file does not say."""
    created: float | None = None
    """When it was created according to its metadata, in seconds since 1970, UTC; None if it does not say.
    Cameras write when the recording began; a conversion often writes its own time."""


def probe(source: Source) -> VideoInfo:
    """Count a video's packets (headers are often wrong) and read its size and rate.

    Raises:
        VideoError: the file is missing, is no video, or cannot be read.
    """
    if part := segment_of(source):
        whole = probe(part.file)
        begun = None if whole.created is None else whole.created + part.start
        return replace(whole, frames=len(segment_frames(part)), created=begun)
    if is_folder(source):
        files = frame_files(source)
        height, width = read_series(files, [0], None, Deadline(source, None))[0][0].shape[:2]
        return VideoInfo(len(files), width, height, 0.0)
    if packed := in_pack(source):
        member = find_member(*packed)
        return VideoInfo(member.frames, member.width, member.height, member.fps)
    with open_video(source) as container:
        stream = video_stream(container)
        return VideoInfo(
            count_packets(container),
            stream.width,
            stream.height,
            float(stream.average_rate or 0),
            _created(container.metadata | stream.metadata),
        )


def _created(metadata: dict[str, str]) -> float | None:
    """The ``creation_time`` of a container, such as ``2024-01-31T23:59:59.000000Z``; None without one."""
    text = metadata.get("creation_time", "")[:19].replace("T", " ")
    try:
        return datetime.strptime(f"{text} +0000", "%Y-%m-%d %H:%M:%S %z").timestamp()
    except ValueError:
        return None


def frame_count(source: Source) -> int:
    """The frame count of :func:`probe`, in a fraction of the time: for most files FFmpeg decodes nothing.

    Raises:
        VideoError: as :func:`probe`.
    """
    if segment_of(source) or is_folder(source) or in_pack(source):
        return probe(source).frames
    with open_video(source, counts=True) as container:
        return count_packets(container)


def read_frames(
    source: Source,
    indices: Sequence[int] | NDArray[np.int64],
    short_side: int | None = None,
    seconds: float | None = None,
    decoder: Decoder = "pyav",
) -> NDArray[np.uint8]:
    """Decode the frames with the given numbers.

    Args:
        source: a video file, the content of one, a folder of frames, a video in a pack, or a segment
            (``FILE#START-END``, in seconds) of one; files and packs also by URL.
        indices: frame numbers >= 0, in any order, repeats allowed. A number past the end wraps
            around, as if the video played in a loop, because headers promise more frames than
            there are, and short videos must fill a clip.
        short_side: resize the shorter side to this many pixels; None keeps the size.
        seconds: time limit; None for no limit.
        decoder: which library decodes files. All give the same frames, up to colour rounding, except for
            some old avi files.

    Returns:
        uint8 RGB, shape (len(indices), H, W, 3).

    Raises:
        VideoError: the file is missing, holds no video, cannot be decoded at all, or not in time.
    """
    numbers = np.asarray(indices, np.int64)
    if not len(numbers) or numbers.min() < 0:
        raise ValueError("indices must hold at least one frame number, and none below 0.")
    file, inside = source, None
    if part := segment_of(source):
        file, inside = part.file, segment_frames(part)
        numbers = inside.start + numbers % len(inside)
    deadline = Deadline(source, seconds)
    if is_folder(file):
        files = frame_files(file)
        places, back = np.unique(numbers % len(files), return_inverse=True)
        pictures, broken = read_series(files, places.tolist(), short_side, deadline)
        if broken:
            note_text(file, describe_broken(files, broken))
        return np.stack(pictures)[back]
    if packed := in_pack(file):
        return read_packed(*packed, numbers, short_side)
    if decoder != "pyav":
        with open_video(file):  # raises an error for files that must not be opened
            pass
        cuda = decoder == "torchcodec-cuda"
        if isinstance(file, bytes):
            return read_by_torchcodec(file, numbers, short_side, cuda=cuda)
        with video_at_hand(file) as local:
            return read_by_torchcodec(local, numbers, short_side, cuda=cuda)
    images: dict[int, NDArray[np.uint8]] = {}
    if _ends and (end := _ends.get(file_key(file))):
        numbers = _around(numbers, end, inside, source)
    try:
        with kept_open(file) as video:
            if numbers.max() >= timeline(video.container, file, video.key).packets:
                end = length_by_table(video, file, deadline)
                numbers = numbers if end is None else _past(end, numbers, file, inside, source)
                video.used = True
            convert = Converter(short_side, *video.size)
            for number, frame in frames_by_keyframes(video, file, np.unique(numbers).tolist(), deadline):
                images[number] = convert(frame)
    except Untrusted:
        wanted = set(numbers.tolist())
        images, total = _decode_in_order(source, file, inside, wanted, short_side, deadline)
        if total is not None:  # the video ended before the last wanted frame
            numbers = _past(total, numbers, file, inside, source)
            missing = set(numbers.tolist()) - images.keys()
            if missing:
                more, _ = _decode_in_order(source, file, inside, missing, short_side, deadline)
                images |= more
    return np.stack([images[number] for number in numbers.tolist()])


def _past(
    end: int, numbers: NDArray[np.int64], file: Source, inside: range | None, source: Source
) -> NDArray[np.int64]:
    """:func:`_around` the ``end`` of a file, which is remembered."""
    if key := file_key(file):
        _ends[key] = end
    return _around(numbers, end, inside, source)


def _around(
    numbers: NDArray[np.int64], total: int, inside: range | None, source: Source
) -> NDArray[np.int64]:
    """Frame numbers that wrap around where a video, or the segment ``inside`` one, ends."""
    begin, stop = (inside.start, min(inside.stop, total)) if inside else (0, total)
    if stop <= begin:
        raise VideoError(f"{name_of(source)}: its file can be decoded only up to frame {total}.")
    return begin + (numbers - begin) % (stop - begin)


def _decode_in_order(
    source: Source,
    file: Source,
    inside: range | None,
    wanted: set[int],
    short_side: int | None,
    deadline: Deadline,
) -> tuple[dict[int, NDArray[np.uint8]], int | None]:
    """The wanted frames by number, and the frame count if the file ended before the last wanted frame.

    Args:
        source: the video. file: the file it is in. inside: the frame numbers of a segment in that file.
    """
    images: dict[int, NDArray[np.uint8]] = {}
    last = max(wanted)
    count = 0
    damage = Damage()
    with open_video(file) as container:
        convert = converter(container, short_side)
        for count, frame in enumerate(every_frame(container, damage, file), start=1):
            deadline.check()
            if count - 1 in wanted:
                images[count - 1] = convert(frame)
            if count > last:
                break
    whole = count <= last or (inside is not None and count >= inside.stop)
    note(source, damage.inside(inside) if inside else damage, "" if whole else "the first ")
    if count == 0:
        raise VideoError(f"{name_of(source)}: no frame can be decoded.")
    return images, None if count > last else count


def known_frames(source: Source) -> int:
    """Frames of a video that was read before; 0 if its file would have to be opened to find out."""
    if part := segment_of(source):
        return len(segment_frames(part))
    if is_folder(source):
        return len(frame_files(source))
    if packed := in_pack(source):
        return find_member(*packed).frames
    return counted(source)


def read_clip(
    source: Source, frames: int = 16, stride: int = 4, start: int = 0, size: int | None = None
) -> NDArray[np.uint8]:
    """Read one clip: ``frames`` frames, every ``stride``-th from ``start`` on.

    Args:
        source: a file, its bytes, a folder of frames, or a video in a pack (``shard-00000.tar/name``).
        start: counted from 0; frames past the end wrap around to the beginning.
        size: pixels of the shorter side; None keeps the size of the video.

    Returns:
        uint8 RGB, shape (T, H, W, C).

    Raises:
        UserError: frames, stride or size below 1, or start below 0.
        VideoError: the video cannot be read.
    """
    if min(frames, stride, size or 1) < 1 or size == 0 or start < 0:
        raise UserError("a clip needs frames, stride and size of at least 1, and a start of at least 0.")
    return read_frames(source, start + stride * np.arange(frames), size)
