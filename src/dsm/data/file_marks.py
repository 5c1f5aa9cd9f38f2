"""Marks of the files of a list, which tell whether a file was replaced since its features were extracted."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from dsm.data.lists import VideoList
from dsm.storage.objects import facts_of
from dsm.urls import is_url
from dsm.video.pack import in_pack
from dsm.video.segments import file_of

MISSING, BY_URL = "-", "?"
"""Marks of a file that is not there, and of an object by URL, which would cost a request each."""
_DIGITS = 6


def marks_of(videos: VideoList) -> list[str]:
    """(n,), a mark of each video's file: hashes of its size and of its time of change.

    A segment has the mark of its file, a video in a pack that of its shard, a folder of frames its own.
    """
    known: dict[Path, str] = {}
    marks = []
    for place in range(len(videos)):
        video = videos.file(place)
        packed = in_pack(video)
        file = packed[0] if packed else video if is_url(video) else file_of(video)
        if file not in known:
            known[file] = _mark_of(file)
        marks.append(known[file])
    return marks


def _mark_of(file: Path) -> str:
    if is_url(file):
        return BY_URL
    try:
        facts = facts_of(file)
    except OSError:
        return MISSING
    return "".join(hashlib.sha256(str(fact).encode()).hexdigest()[:_DIGITS] for fact in facts)


def replaced(before: Sequence[str], now: Sequence[str], *, by_size: bool = False) -> list[int]:
    """The positions of files that have another mark now; files that are not there now do not count.

    Args:
        by_size: ignore the time of change, which differs in a copy of the same files on another machine.
    """
    kept = _DIGITS if by_size else None
    pairs = enumerate(zip(before, now, strict=True))
    there = ((place, one, two) for place, (one, two) in pairs if two not in (MISSING, BY_URL))
    return [place for place, one, two in there if one[:kept] != two[:kept]]
