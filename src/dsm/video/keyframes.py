"""Decoding some frames of a video without decoding all: from keyframe to keyframe.

A keyframe and the packets up to the next one make a group. If all its packets are shown after its keyframe,
the group can be decoded alone and gives the same frames as decoding the whole file. Inside a group, the
decoder skips frames that no wanted frame depends on.

Many files break the rules this relies on: they have packets without a time, packets that give no frame, edit
lists that hide frames, or false keyframes. Each rule is checked while reading; if one is broken,
:class:`Untrusted` is raised, and the file is decoded in order instead.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import av
import numpy as np
from av.video.frame import VideoFrame

from dsm.video.clock import parts_of
from dsm.video.kept_open import FileKey, OpenVideo, Remembered, file_key
from dsm.video.source import Deadline, Source, VideoError, name_of, open_video, read_packets, video_stream

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.stream import VideoStream

    VideoPacket = Packet[VideoStream]


# In these codecs each packet gives one frame. (VP8 has packets that are not shown.)
_CODECS = frozenset(
    ("h264", "hevc", "mpeg4", "mpeg1video", "mpeg2video", "msmpeg4v3", "vp9", "av1", "libdav1d", "mjpeg")
)
# These containers list all packets in their header.
_INDEXED = frozenset(("mov,mp4,m4a,3gp,3g2,mj2", "avi"))
SCANNED = frozenset(("matroska,webm",))
# No codec shows a frame more than 16 frames after it was decoded.
_REORDER = 16
# The start code of a picture in MPEG-4, the type of a B-frame, and the size below which a picture is skipped.
_VOP, _B_FRAME, _LEFT_OUT = b"\0\0\1\xb6", 2, 12
# Reading over up to this many packets is cheaper than a seek.
_NEAR = 120


def one_frame_each(codec: VideoCodecContext) -> bool:
    """Whether each packet of this codec gives one frame."""
    return codec.name in _CODECS


class Untrusted(Exception):
    """This file breaks the rules; decode it in order."""


@dataclass(frozen=True)
class Timeline:
    """Where the keyframes of a file are."""

    numbers: list[int]
    """Packet numbers of the keyframes, in file order."""
    times: list[int]
    """Timestamps of the keyframes, for seeking, in the time base of the stream."""
    packets: int
    """Total packets; in a file that follows the rules, also frames."""
    inside: int
    """Packets inside the file; a file that was cut off has fewer than its table promises."""
    steady: bool
    """Whether there is no gap in time between packets."""


_timelines = Remembered[FileKey | None, Timeline | None](1024)
"""None for a file that breaks the rules."""


def timeline(container: InputContainer, source: Source, key: FileKey | None) -> Timeline:
    """Find the keyframes, from the header if it lists them, else by scanning all packets.

    Args:
        key: identifies the file, for remembering its keyframes.

    Raises:
        Untrusted: frames of this kind of file cannot be counted by packets.
    """
    if key in _timelines:
        known = _timelines[key]
    else:
        known = _find(container, source, key)
        if key:
            _timelines[key] = known
    if known is None:
        raise Untrusted
    return known


def _find(container: InputContainer, source: Source, key: FileKey | None) -> Timeline | None:
    stream = video_stream(container)
    codec = stream.codec_context
    # An avi stores when a frame is decoded, not when it is shown; only MPEG-4 packets tell the display order.
    order_unknown = container.format.name == "avi" and codec.has_b_frames and codec.name != "mpeg4"
    if not one_frame_each(codec) or order_unknown:
        return None
    if container.format.name in _INDEXED:
        entries = stream.index_entries
        if key and len(entries) > key[2]:  # a table may list more packets than the file has bytes
            raise VideoError(f"{name_of(source)}: its header lists more frames than fit into the file.")
        flags = [(one.timestamp, one.is_keyframe, one.is_discard or not one.size) for one in entries]
        inside = sum(one.pos + one.size <= key[2] for one in entries) if key else len(entries)
        return _from_flags(flags, float(stream.time_base or 0), inside)
    return _scan(source) if container.format.name in SCANNED and key else None


def counted(source: Source) -> int:
    """Number of frames in a file whose keyframes were found before; otherwise 0."""
    known = _timelines.get(file_key(source))
    return known.inside if known else 0


def _scan(source: Source) -> Timeline | None:
    """Find the keyframes by reading all packets."""
    errors: list[Exception] = []
    with open_video(source) as container:
        tick = float(video_stream(container).time_base or 0)
        packets = [(p.pts, p.is_keyframe, p.is_discard) for p in read_packets(container, errors.append)]
    if errors or any(time is None for time, *_ in packets):
        return None
    return _from_flags([(time or 0, key, hidden) for time, key, hidden in packets], tick, len(packets))


def _from_flags(flags: list[tuple[int, bool, bool]], tick: float, inside: int) -> Timeline | None:
    """Build a timeline from (time, keyframe, hidden) of each packet; ``tick``: seconds per unit of time."""
    keys = [number for number, (_, key, _) in enumerate(flags) if key]
    times = [flags[number][0] for number in keys]
    if not keys or keys[0] != 0 or len(set(times)) < len(times) or any(hidden for *_, hidden in flags):
        return None
    seconds = np.sort(np.array([time for time, *_ in flags], np.float64)) * tick
    return Timeline(keys, times, len(flags), inside, steady=len(parts_of(seconds)) == 1)


def frames_by_keyframes(
    video: OpenVideo, source: Source, wanted: Sequence[int], deadline: Deadline
) -> Iterator[tuple[int, VideoFrame]]:
    """Decode the frames with the given numbers; yield each with its number.

    Args:
        wanted: frame numbers, rising.

    Raises:
        Untrusted: the file breaks a rule or has too few frames; some frames may have been yielded before.
    """
    container = video.container
    line = timeline(container, source, video.key)
    if wanted[-1] >= line.packets:
        raise Untrusted
    groups: dict[int, list[int]] = {}
    for number in wanted:
        groups.setdefault(bisect.bisect_right(line.numbers, number) - 1, []).append(number)
    by_dts = container.format.name in _INDEXED
    codec = video_stream(container).codec_context
    avi = container.format.name == "avi"
    codec.copy_opaque = avi  # a frame of MPEG-4 then tells which packet it came from
    with closing(_Cursor(container, by_dts, at=None if video.used else 0)) as cursor:
        for group, numbers in groups.items():
            begin = line.numbers[group]
            end = line.numbers[group + 1] if group + 1 < len(line.numbers) else line.packets
            length = min(end - begin, numbers[-1] - begin + 1 + _REORDER)
            packets = cursor.group(begin, line.times[group], length)
            order = _order_of_vops(packets) if avi and codec.name == "mpeg4" else _order_of_times(packets)
            waiting = {order[number - begin]: number for number in numbers}
            yield from _wanted_frames(codec, packets, order, waiting, avi, deadline)
            codec.flush_buffers()


def _wanted_frames(
    codec: VideoCodecContext,
    packets: list[VideoPacket],
    order: list[int],
    waiting: dict[int, int],
    avi: bool,
    deadline: Deadline,
) -> Iterator[tuple[int, VideoFrame]]:
    """Decode the wanted frames of a group.

    Args:
        order: places of the packets, in display order.
        waiting: place of a wanted packet -> number of its frame.
    """
    rank = {place: shown for shown, place in enumerate(order)}
    place_of = {packet.pts: place for place, packet in enumerate(packets)}
    latest = -1
    for place, packet in enumerate([*packets[: max(waiting) + 1], None]):
        deadline.check()
        # The decoder may skip frames that are neither wanted nor referenced.
        codec.skip_frame = "DEFAULT" if packet is None or place in waiting else "NONREF"
        if packet is not None and avi:
            packet.opaque = place
        for frame in _frames(codec, packet):
            if frame.is_corrupt:  # damage in earlier frames counts too
                raise Untrusted
            source_of = frame.opaque if avi else place_of.get(frame.pts)
            shown = rank[source_of] if isinstance(source_of, int) else -1
            if shown <= latest:
                raise Untrusted
            latest = shown
            if source_of in waiting:
                yield waiting.pop(source_of), frame
    if waiting:
        raise Untrusted


def _frames(codec: VideoCodecContext, packet: VideoPacket | None) -> list[VideoFrame]:
    try:
        return codec.decode(packet)
    except (av.FFmpegError, EOFError):
        raise Untrusted from None


def _order_of_times(packets: list[VideoPacket]) -> list[int]:
    """Places of a group's packets in display order; the keyframe must come first, and times must differ."""
    times = [packet.pts for packet in packets if packet.pts is not None]
    if (
        len(set(times)) < len(packets)
        or times[0] != min(times)
        or any(packet.is_corrupt or packet.is_discard for packet in packets)
    ):
        raise Untrusted
    return sorted(range(len(times)), key=times.__getitem__)


def _order_of_vops(packets: list[VideoPacket]) -> list[int]:
    """As :func:`_order_of_times`, for MPEG-4 packets without times: by picture type.

    A B-frame is shown at once, any other frame when the next non-B-frame arrives (ISO 14496-2, 6.2.5: the
    type is the two bits after the start code of a VOP). This fails for packets of two pictures, as DivX
    packed them, and for skipped pictures, which take only a few bytes.
    """
    order: list[int] = []
    held: int | None = None
    for place, packet in enumerate(packets):
        content = bytes(packet)
        at = content.find(_VOP)
        if at < 0 or len(content) < at + _LEFT_OUT or content.find(_VOP, at + 4) >= 0 or packet.is_corrupt:
            raise Untrusted
        if content[at + 4] >> 6 == _B_FRAME:
            order.append(place)
            continue
        if held is not None:
            order.append(held)
        held = place
    if held is not None:
        order.append(held)
    if order[0] != 0:  # shown before the keyframe
        raise Untrusted
    return order


class _Cursor:
    """Reads groups of packets in increasing order, seeking over long distances."""

    def __init__(self, container: InputContainer, by_dts: bool, at: int | None) -> None:
        """``at``: the number of the next packet, if known."""
        self._container, self._by_dts, self._at = container, by_dts, at
        self._stream = video_stream(container)
        self._begin()

    def group(self, number: int, time: int, length: int) -> list[VideoPacket]:
        """Read ``length`` packets, starting at the keyframe with this packet number and timestamp."""
        first: VideoPacket | None = None
        if self._at is None or number - self._at > _NEAR:
            self._container.seek(time, stream=self._stream)
            self.close()
            self._begin()
            for packet in self._packets:
                first = packet
                if (self._time(packet) or 0) >= time:
                    break
        else:
            for _ in range(number - self._at + 1):
                first = next(self._packets, None)
        if first is None or not first.is_keyframe or self._time(first) != time:
            raise Untrusted
        packets = [first, *itertools.islice(self._packets, length - 1)]
        if len(packets) < length:
            raise Untrusted
        self._at = number + length
        return packets

    def close(self) -> None:
        """Close the demuxer; otherwise each read would leak a packet, as PyAV frees it only on close."""
        self._demuxer.close()

    def _begin(self) -> None:
        self._demuxer = cast("Generator[VideoPacket]", self._container.demux(self._stream))
        self._packets = (packet for packet in self._demuxer if packet.size)

    def _time(self, packet: VideoPacket) -> int | None:
        return packet.dts if self._by_dts else packet.pts
