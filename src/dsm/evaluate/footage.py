"""What is known about each clip of footage: its camera, time of day, length and file."""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from dsm.data.cameras import begin_times, cameras_of, recording_times
from dsm.data.settings import ClipConfig, clip_of
from dsm.errors import MachineError, UserError
from dsm.evaluate.features import BELOW, Features
from dsm.urls import named
from dsm.video.decode import VideoInfo, probe
from dsm.video.frame_folder import is_folder
from dsm.video.inside import believed, inside
from dsm.video.pack import in_pack
from dsm.video.segments import SEGMENT, segment_name, segment_of

FASTEST = 240.0
"""A frame rate above this is implausible, and the length of the video then counts as unknown."""


TINY = 0.01
"""Milliseconds below a whole number of them that still count as it."""


@dataclass(frozen=True)
class Footage:
    """What is known about n clips besides their features."""

    features: Features
    videos: list[str]
    """(n,), a unique name of each clip's video."""
    cameras: list[str]
    cameras_from: str
    """The source of the cameras: `table`, `expression`, `name` or `folder`."""
    times: NDArray[np.float64]
    """(n,): start of each clip, in seconds since 1970 by the camera's own clock; NaN if unknown."""
    times_from: str
    """The source of the times: `name`, `file` (its metadata; then the clock is UTC) or `none`; `doubtful` if
    the metadata have times that are not those of the recordings."""
    seconds: NDArray[np.float64]
    """(n,): length of its video in seconds; NaN if unknown."""
    pixels: list[tuple[int, int]]
    """(n,): width and height of its video; zeros if unknown."""
    files: list[Path | None]
    """(n,): its video's file; None if it does not exist, or is outside the folder of the videos."""

    @cached_property
    def _clips(self) -> Counter[str]:
        return Counter(self.videos)

    def name(self, row: int) -> str:
        """The row's name in a list: a path, or a segment of its file if the video has several clips.

        A segment ends before its end, so this is when the clip's last frame is no longer shown.
        """
        path = self.features.paths[row]
        times = self.features.times_of(row)
        if times is None or self._clips[self.videos[row]] == 1:
            return path
        begin, end = times
        if clip := self._clip:
            steps = (clip.frames_to_read - 1) * clip.stride
            end += (end - begin) / max(steps, 1)
            begin -= 1 / clip.fps if clip.fps else 0  # the frame on screen then may have begun earlier
        begin -= float(np.spacing(np.float32(begin)))  # it was rounded
        if whole := SEGMENT.fullmatch(path):  # times count from its first frame
            path, first, last = whole[1], float(whole[2]), float(whole[3])
            begin, end = max(first + begin, first), min(first + end, last)
        # Rounded down, so that the first frame is in the segment, and the one after the last is not.
        begin, end = (max(math.floor(1000 * one + TINY), 0) / 1000 for one in (begin, end))
        return segment_name(path, begin, max(end, begin + 0.001))

    @cached_property
    def _clip(self) -> ClipConfig | None:
        """The clips' settings; None if the features do not tell."""
        try:
            return clip_of(self.features.meta["clip"])
        except (KeyError, UserError):
            return None


def file_of(features: Features, row: int) -> Path:
    """The video of a row.

    Raises:
        UserError: the features file does not name the folder of its videos, or the video is not in it.
    """
    root, below = features.meta.get("root"), features.meta.get(BELOW)
    if not isinstance(root, str) or not isinstance(below, str | None):
        raise UserError(
            "the features do not name the folder of their videos (meta.root); extract them again."
        )
    folder = features.within or believed(Path(below or root))
    return inside(Path(named(root, features.paths[row])), folder)


def footage_of(
    features: Features,
    *,
    cameras: Path | None = None,
    camera_regex: str = "",
    on_progress: Callable[[int], None] = lambda done: None,
) -> Footage:
    """Read the names and files of the features' videos; for unreadable files, fields stay unknown.

    Args:
        on_progress: called with the number of rows done.

    Raises:
        UserError: the table or the expression of cameras does not fit the videos.
    """
    count = len(features)
    names, source = cameras_of(features.paths, file=cameras, regex=camera_regex)
    seconds, pixels = np.full(count, np.nan), [(0, 0)] * count
    files: list[Path | None] = [None] * count
    videos = features.identities()
    seen: dict[str, tuple[Path | None, VideoInfo | None, float]] = {}
    for row, video in enumerate(videos):
        if video not in seen:
            seen[video] = _look(features, row)
        files[row], info, lasts = seen[video]
        if info is not None:
            pixels[row], seconds[row] = (info.width, info.height), lasts
        on_progress(row + 1)
    times, times_from = begin_times(features.paths), "name"
    if not np.isfinite(times).any():
        created = np.array([info and info.created for _, info, _ in seen.values()], np.float64)  # None: NaN
        lengths = np.array([lasts for *_, lasts in seen.values()])
        found, doubtful = recording_times(created, lengths, len(set(names)), now=time.time())
        known = dict(zip(seen, found.tolist(), strict=True))
        times = np.array([known[video] for video in videos])
        times_from = "doubtful" if doubtful else "file" if np.isfinite(times).any() else "none"
    if features.times is not None:
        times = times + np.nan_to_num(features.times[:, 0].astype(np.float64))
    return Footage(features, videos, names, source, times, times_from, seconds, pixels, files)


def names_in(features: Features) -> Footage:
    """Footage from names alone, without looking at files."""
    count, videos = len(features), features.identities()
    unknown = np.full(count, np.nan)
    return Footage(
        features, videos, [""] * count, "folder", unknown, "none", unknown, [(0, 0)] * count, [None] * count
    )


def _look(features: Features, row: int) -> tuple[Path | None, VideoInfo | None, float]:
    """The file of a row, the facts in its header, and its length in seconds."""
    try:
        file = file_of(features, row)
        info = probe(file)
    except MachineError:  # such as a network fault: it must not decide which video is kept
        raise
    except UserError:
        return None, None, math.nan
    return file, info, info.frames / info.fps if 0 < info.fps <= FASTEST else math.nan


def worth(row: int, footage: Footage) -> tuple[float, float, str]:
    """Where a row stands among duplicates, the first being the one to keep: see :func:`best_first`."""
    width, height = footage.pixels[row]
    return -width * height, -float(np.nan_to_num(footage.seconds[row])), footage.features.paths[row]


def best_first(group: Sequence[int], footage: Footage) -> list[int]:
    """A group of duplicates with the row to keep first: the largest picture, then the longest, then the
    first."""
    best = min(group, key=lambda row: worth(row, footage))
    return [best, *(row for row in group if row != best)]


def link_of(footage: Footage, row: int, folder: Path) -> str | None:
    """The address of a row's file, relative to a folder; None if a browser cannot open it."""
    file = footage.files[row]
    if file is None or in_pack(file) is not None or is_folder(file):
        return None
    part = segment_of(file)
    relative = os.path.relpath(os.path.realpath(part.file if part else file), os.path.realpath(folder))
    return quote(Path(relative).as_posix())
