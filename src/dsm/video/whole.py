"""Decoding a whole video, be it a file or a segment of one, for those who write it out anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from av.video.frame import VideoFrame

from dsm.video.damage import Damage
from dsm.video.in_order import frames_in_order
from dsm.video.kept_open import kept_open
from dsm.video.keyframes import Untrusted, frames_by_keyframes
from dsm.video.segments import segment_of
from dsm.video.source import Deadline
from dsm.video.times import segment_frames

if TYPE_CHECKING:
    from av.container import InputContainer


def frames_of(source: Path, container: InputContainer, damage: Damage) -> Iterator[VideoFrame]:
    """All frames of a video that can be decoded; of a segment those that are shown in its seconds.

    Args:
        container: its file, opened.
        damage: told what is wrong in what is read of the file; :func:`own` says what of that is in the video.

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
    """What of the damage of a video's file is in the video: all, or what is in its segment."""
    part = segment_of(source)
    return damage.inside(segment_frames(part)) if part else damage
