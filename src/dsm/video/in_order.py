"""Decoding a video from its first frame to its last, continuing past damage.

A packet that cannot be decoded loses one picture; decoding continues after it. Losses do not change the
numbers of later frames, so a number means the same picture whether a file is decoded in order or from a
keyframe (``keyframes.py``). If every packet is a frame, packets are counted; otherwise decoded frames are.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import av
from av.video.frame import VideoFrame

from dsm.errors import refuse_machine_fault
from dsm.video.damage import Damage
from dsm.video.kept_open import file_key, kept_open
from dsm.video.keyframes import Untrusted, frames_by_keyframes, one_frame_each, timeline
from dsm.video.segments import segment_of
from dsm.video.source import Deadline, Source, open_video, read_packets, video_stream
from dsm.video.times import segment_frames

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.stream import VideoStream

_SILENT = frozenset(("hevc", "mjpeg"))
"""Codecs whose decoders return the rest of a damaged picture without marking it corrupt."""
_EARLY = 2
"""Most frames to hold back while waiting for one that is shown before them."""


def frames_in_order(
    container: InputContainer, damage: Damage | None = None, source: Source | None = None
) -> Iterator[tuple[int, VideoFrame]]:
    """All decodable frames with their numbers, which rise; a lost frame leaves a gap.

    Even damaged pictures depend on the file alone, as the decoder is new and gets every packet. It draws each
    picture over an old one that nobody holds, which may show through damage: hold at most the last frame.

    Args:
        container: just opened.
        damage: records what is wrong.
        source: what the container was opened from; needed for a video in memory.
    """
    damage = damage or Damage()
    source = container.name if source is None else source
    if video_stream(container).codec_context.name not in _SILENT:
        yield from _decode(container, damage)
        return
    last = -1
    try:
        with open_video(source, strict=True) as strict:
            for last, frame in _decode(strict, damage, strict=True):
                yield last, frame
        return
    except _Faulty:
        pass
    # From here on a strict decoder, which refuses pictures that can be shown, only finds the faulty ones.
    damage.forget()
    with open_video(source, strict=True) as strict:
        for number, frame in _decode(container, damage, beside=video_stream(strict).codec_context):
            if number > last:
                yield number, frame


class _Faulty(Exception):
    """A strict decoder has found a fault."""


def _decode(
    container: InputContainer,
    damage: Damage,
    *,
    strict: bool = False,
    beside: VideoCodecContext | None = None,
) -> Iterator[tuple[int, VideoFrame]]:
    """As :func:`frames_in_order`, with the decoder of the container.

    Args:
        strict: stop at the first fault.
        beside: a strict decoder, which gets every packet too.

    Raises:
        _Faulty: a fault was found, and ``strict``.
    """
    numbers = _Numbers(_way_to_count(container))
    damage.numbered = numbers.way != "frames"
    codec = video_stream(container).codec_context
    codec.copy_opaque = numbers.way == "places"
    faulty: set[int | None] = set()
    early: list[VideoFrame] = []  # decoded before a frame that is shown earlier: only with damaged times
    for packet in itertools.chain(read_packets(container, damage.broken), [None]):
        if packet is not None:
            if packet.is_discard:
                damage.hidden += 1
            else:
                packet.opaque = damage.packets if codec.copy_opaque else None
                damage.packets += 1
                numbers.see(packet.pts)
                if packet.is_corrupt:  # the container has only a part of it
                    damage.incomplete = True
                    faulty.add(packet.pts)
        if beside and not _accepts(beside, packet):
            faulty.add(packet.pts if packet else None)
        try:
            frames = codec.decode(packet)
        except (av.FFmpegError, EOFError) as error:
            refuse_machine_fault(error, reading=container.name)
            if strict:
                raise _Faulty from None
            if packet is not None:
                damage.broken(error)
                numbers.fail(packet.pts)
                continue
            frames = []
        early = sorted([*early, *frames], key=lambda frame: frame.pts or 0) if early else frames
        while early and (len(early) > _EARLY or packet is None or not numbers.lacks_one_before(early[0])):
            frame = early.pop(0)
            number = numbers.next(frame)
            wrong = frame.is_corrupt or (frame.pts is not None and frame.pts in faulty)
            damage.decoded(number, late=packet is None, corrupt=wrong)
            yield number, frame


def _accepts(strict: VideoCodecContext, packet: Packet[VideoStream] | None) -> bool:
    try:
        strict.decode(packet)
    except (av.FFmpegError, EOFError):
        return packet is None
    return True


def every_frame(
    container: InputContainer, damage: Damage | None = None, source: Source | None = None
) -> Iterator[VideoFrame]:
    """A picture for every number from 0; a lost picture is replaced by the one before it, as in a player.

    Arguments as for :func:`frames_in_order`.
    """
    shown = -1
    held: VideoFrame | None = None
    for number, frame in frames_in_order(container, damage, source):
        for _ in range(number - shown - 1):
            yield held or frame
        yield frame
        shown, held = number, frame


def _way_to_count(container: InputContainer) -> Literal["frames", "times", "places", "failures"]:
    try:
        timeline(container, container.name, file_key(container.name))
    except Untrusted:
        # A recorder's stream has a time for each packet, and may lack packets and thus frames.
        stream = container.format.name == "mpegts"
        return "times" if stream and one_frame_each(video_stream(container).codec_context) else "frames"
    if container.format.name != "avi":
        return "times"
    # Packets of an avi have no times. Those of MPEG-4 may not be in display order.
    return "failures" if video_stream(container).codec_context.name == "mpeg4" else "places"


class _Numbers:
    """Numbers frames as they are decoded."""

    def __init__(self, way: Literal["frames", "times", "places", "failures"]) -> None:
        self.way, self.last = way, -1
        self._times: list[int] = []
        self._waiting: list[int] = []
        """Times of packets whose frames have not come yet."""
        self._failed = 0

    def see(self, time: int | None) -> None:
        """Register a packet before it is decoded."""
        if self.way == "times" and time is not None:
            bisect.insort(self._times, time)
            bisect.insort(self._waiting, time)

    def fail(self, time: int | None) -> None:
        """Register that the packet could not be decoded."""
        self._failed += self.way == "failures"
        if time in self._waiting:
            self._waiting.remove(time)

    def lacks_one_before(self, frame: VideoFrame) -> bool:
        """Whether an earlier frame may still come."""
        return frame.pts is not None and bool(self._waiting) and self._waiting[0] < frame.pts

    def next(self, frame: VideoFrame) -> int:
        """The number of the next frame, higher than all before."""
        number = 0
        if self.way == "times" and frame.pts is not None:
            number = bisect.bisect_left(self._times, frame.pts)
            del self._waiting[: bisect.bisect_right(self._waiting, frame.pts)]
            if number == len(self._times) or self._times[number] != frame.pts:
                number = 0  # ignore a time that no packet has
        elif self.way == "places" and isinstance(frame.opaque, int):
            number = frame.opaque
        elif self.way == "failures":
            number = self.last + 1 + self._failed
            self._failed = 0
        self.last = max(number, self.last + 1)
        return self.last


def frames_of(source: Path, container: InputContainer, damage: Damage) -> Iterator[VideoFrame]:
    """All decodable frames of a video; for a segment, those shown within its seconds.

    Args:
        container: its open file.
        damage: records damage in the part of the file that is read; :func:`own` limits it to the segment.

    Raises:
        VideoError: as :func:`dsm.video.times.segment_frames`.
    """
    part = segment_of(source)
    if part is None:
        yield from (frame for _, frame in frames_in_order(container, damage))
        return
    inside = segment_frames(part)
    after = inside.start
    try:
        with kept_open(part.file) as video:
            for number, frame in frames_by_keyframes(video, part.file, inside, Deadline(part.file, None)):
                yield frame
                after = number + 1
        return
    except Untrusted:
        pass
    for number, frame in frames_in_order(container, damage):
        if number >= inside.stop:
            return
        if number >= after:
            yield frame


def own(source: Path, damage: Damage) -> Damage:
    """The damage of a file that affects a video: all of it, or the part inside its segment."""
    part = segment_of(source)
    return damage.inside(segment_frames(part)) if part else damage
