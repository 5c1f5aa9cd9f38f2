"""When the frames of a video are shown: for files, packs and segments."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dsm.storage.objects import facts_of
from dsm.video.clock import Part, Times, parts_of, seconds_of
from dsm.video.containers import is_one_riff, tables_of
from dsm.video.frame_folder import is_folder
from dsm.video.kept_open import OpenVideo, kept_open
from dsm.video.keyframes import SCANNED, Untrusted, frames_by_keyframes, timeline
from dsm.video.pack import in_pack, packed_times
from dsm.video.segments import Segment, frames_between, segment_of
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

if TYPE_CHECKING:
    from av.container import InputContainer


def count_packets(container: InputContainer) -> int:
    """Number of packets that give a frame."""
    if listed := _listed_packets(container):
        return listed
    return sum(not packet.is_discard for packet in read_packets(container, lambda error: None))


def _listed_packets(container: InputContainer) -> int:
    """Like :func:`count_packets`, but from the table of an mp4 or avi; 0 if the packets must be read."""
    stream = video_stream(container)
    if not stream.frames or not ("mp4" in container.format.name or container.format.name == "avi"):
        return 0
    path = Path(container.name)
    try:
        size = path.stat().st_size
        tables = tables_of(path)
        if not (tables.whole if tables else is_one_riff(path, size)):
            return 0
    except (OSError, ValueError):  # in memory
        return 0
    entries = stream.index_entries
    if len(entries) != stream.frames:
        return 0
    whole = all(one.size and not one.is_discard and one.pos + one.size <= size for one in entries)
    return len(entries) if whole else 0


def length_by_table(video: OpenVideo, source: Source, deadline: Deadline) -> int | None:
    """The number of frames of a file, as decoding it all would give; None if only that can tell.

    Its complete table says it, if the last frame can be decoded and frames are numbered by their packets, as
    they are but for MPEG-4 in an avi. A fragmented mp4 has no complete table.

    Raises:
        dsm.video.keyframes.Untrusted: the file breaks a rule of ``keyframes.py``.
    """
    packets = timeline(video.container, source, video.key).packets
    listed = video.container.format.name in SCANNED or _listed_packets(video.container) == packets
    codec = video_stream(video.container).codec_context.name
    if not listed or (video.container.format.name == "avi" and codec == "mpeg4"):
        return None
    found = [number for number, _ in frames_by_keyframes(video, source, [packets - 1], deadline)]
    return packets if found else None


def shown_packets(container: InputContainer) -> list[int | None]:
    """When each packet that gives a frame is shown, in file order, in ticks of the file."""
    packets = read_packets(container, lambda error: None)
    times = [(packet.pts, packet.dts) for packet in packets if not packet.is_discard]
    # An avi stores only decoding times.
    by_dts = any(pts is None for pts, _ in times)
    return [dts if by_dts else pts for pts, dts in times]


def frame_times(source: Source) -> Times:
    """When each frame is shown, in seconds from the first: (frames,), rising.

    If the file does not say, frames are spread evenly at its average rate.

    Raises:
        VideoError: as :func:`dsm.video.decode.probe`; or it is a folder of frames, or has no frame rate.
    """
    if part := segment_of(source):
        inside = segment_frames(part)
        times = _known_times(part.file, changed(part.file))
        return times[inside.start : inside.stop] - times[inside.start]
    if is_folder(source):
        raise VideoError(f"{name_of(source)}: a folder of frames has no frame rate.")
    if packed := in_pack(source):
        return packed_times(*packed)
    with open_video(source) as container:
        stream = video_stream(container)
        shown = shown_packets(container)
        if not shown:
            raise VideoError(f"{name_of(source)}: contains no frames.")
        seconds = seconds_of(shown, float(stream.time_base or 0), float(stream.average_rate or 0))
        if seconds is None:
            raise VideoError(f"{name_of(source)}: has neither frame times nor a frame rate.")
        return seconds


def continuous_parts(source: Source) -> list[Part] | None:
    """The parts of a video between gaps in time, in frame numbers; None if there is no gap.

    A video without times has no gaps.

    Raises:
        VideoError: as :func:`dsm.video.decode.probe`.
    """
    if part := segment_of(source):
        cut = _known_segment(part, changed(part.file)).parts
        return cut if len(cut) > 1 else None
    if is_folder(source):
        return None
    if not in_pack(source):
        with suppress(Untrusted), kept_open(source, reads=False) as video:
            if timeline(video.container, source, video.key).steady:
                return None
    try:
        parts = parts_of(frame_times(source))
    except MissingVideoError:
        raise
    except VideoError:  # reported when the video is read
        return None
    return parts if len(parts) > 1 else None


def segment_frames(part: Segment) -> range:
    """The numbers of a segment's frames in its file.

    Raises:
        VideoError: as :func:`frame_times`; or the file has no frame in these seconds.
    """
    return _known_segment(part, changed(part.file)).frames


def changed(file: Path) -> int | str:
    """The version of a file; 0 for a video in a pack, which has no file of its own."""
    try:
        return 0 if in_pack(file) else facts_of(file).version
    except OSError:
        return 0


class _Known(NamedTuple):
    frames: range
    parts: list[Part]
    """Parts between gaps in time, in frame numbers of the segment; the times of the whole file are needed."""


# A list may name many segments of a few long videos, and finding the times of a video means reading it all.
@lru_cache(maxsize=2**16)
def _known_segment(part: Segment, version: int | str) -> _Known:
    times = _known_times(part.file, version)
    inside = frames_between(times, part)
    parts = [(max(begin, inside.start), min(stop, inside.stop)) for begin, stop in parts_of(times)]
    return _Known(
        inside, [(begin - inside.start, stop - inside.start) for begin, stop in parts if begin < stop]
    )


@lru_cache(maxsize=8)
def _known_times(file: Path, version: int | str) -> Times:
    return frame_times(file)
