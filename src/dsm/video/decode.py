"""Reading frames of videos: files, their content in memory, folders of frames, packs.

Frames are numbered from 0 in the order they are shown. A number gives the same picture whether it is reached
from a keyframe (``keyframes.py``) or by decoding in order. torchcodec is an optional second backend; it needs
FFmpeg installed on the system.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from dsm.errors import UserError
from dsm.extras import load_extra
from dsm.video.convert import Converter, converter
from dsm.video.damage import Damage, note, note_text
from dsm.video.frame_folder import frame_files, is_folder, read_series, told_broken
from dsm.video.in_order import every_frame
from dsm.video.kept_open import kept_open
from dsm.video.keyframes import Untrusted, counted, frames_by_keyframes
from dsm.video.pack import find_member, in_pack, read_packed
from dsm.video.segments import segment_of
from dsm.video.source import Deadline, Source, VideoError, name_of, open_video, said, video_stream
from dsm.video.times import count_packets, segment_frames


def read_by_torchcodec(
    source: Source, indices: NDArray[np.int64], short_side: int | None, *, cuda: bool = False
) -> NDArray[np.uint8]:
    """As :func:`dsm.video.decode.read_frames`, but with no limit of time: a read cannot be broken off.

    Args:
        cuda: decode on the GPU, by its own decoder; frames come back to the CPU, where they are resized.

    Raises:
        UserError: torchcodec cannot be imported, or there is no GPU here.
        VideoError: the file cannot be decoded.
    """
    if cuda and not _may_use_cuda():
        raise UserError("decoding on the GPU needs CUDA, and --data.workers 0: a worker process has none.")
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
        raise VideoError(f"{name_of(source)}: cannot be decoded by torchcodec ({said(error)}).") from None
    convert = Converter(short_side)
    images = [convert(VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")) for frame in frames]
    return np.stack(images)[back]


def _may_use_cuda() -> bool:
    # Imported here: it takes a second, which each process that only counts or checks would pay.
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
        hint=", in the version that fits torch, and FFmpeg; or leave --data.decoder at pyav",
    )


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
    if part := segment_of(source):
        return replace(probe(part.file), frames=len(segment_frames(part)))
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
            count_packets(container), stream.width, stream.height, float(stream.average_rate or 0)
        )


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
            (``FILE#START-END``, in seconds) of one.
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
    numbers = np.asarray(indices, np.int64)
    if not len(numbers) or numbers.min() < 0:
        raise ValueError("indices must be one frame number >= 0 or more.")
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
            note_text(file, told_broken(files, broken))
        return np.stack(pictures)[back]
    if packed := in_pack(file):
        return read_packed(*packed, numbers, short_side)
    if decoder != "pyav":
        with open_video(file):  # refuses what is not to be opened, and says why
            pass
        return read_by_torchcodec(file, numbers, short_side, cuda=decoder == "torchcodec-cuda")
    images: dict[int, NDArray[np.uint8]] = {}
    wanted = np.unique(numbers).tolist()
    try:
        with kept_open(file) as video:
            convert = Converter(short_side, *video.size)
            for number, frame in frames_by_keyframes(video, file, wanted, deadline):
                images[number] = convert(frame)
    except Untrusted:
        images, total = _decode_in_order(source, file, inside, set(wanted), short_side, deadline)
        if total is not None:  # the video ended before the last wanted frame
            begin, stop = (inside.start, min(inside.stop, total)) if inside else (0, total)
            if stop <= begin:
                raise VideoError(
                    f"{name_of(source)}: its file can be decoded up to frame {total} only."
                ) from None
            numbers = begin + (numbers - begin) % (stop - begin)
            missing = set(numbers.tolist()) - images.keys()
            if missing:
                more, _ = _decode_in_order(source, file, inside, missing, short_side, deadline)
                images |= more
    return np.stack([images[number] for number in numbers.tolist()])


def _decode_in_order(
    source: Source,
    file: Source,
    inside: range | None,
    wanted: set[int],
    short_side: int | None,
    deadline: Deadline,
) -> tuple[dict[int, NDArray[np.uint8]], int | None]:
    """Wanted frames by number, and how many there are, if the end was reached first.

    Args:
        source: what is read. file: where it lies. inside: the numbers of a segment there.
    """
    images: dict[int, NDArray[np.uint8]] = {}
    last = max(wanted)
    count = 0
    damage = Damage()
    with open_video(file) as container:
        convert = converter(container, short_side)
        for count, frame in enumerate(every_frame(container, damage), start=1):
            deadline.check()
            if count - 1 in wanted:
                images[count - 1] = convert(frame)
            if count > last:
                break
    whole = count <= last or (inside is not None and count >= inside.stop)
    note(source, damage.inside(inside) if inside else damage, "" if whole else "the first ")
    if count == 0:
        raise VideoError(f"{name_of(source)}: not one frame can be decoded.")
    return images, None if count > last else count


def known_frames(source: Source) -> int:
    """How many frames a video has that was read, where that takes no other look into its file; else 0."""
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
