"""The clips behind the rows of a features file, to look at."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsm.errors import UserError
from dsm.evaluate.features import Features
from dsm.files import as_spelled
from dsm.video.decode import probe, read_frames
from dsm.video.source import VideoError
from dsm.video.times import frame_times

FRAMES, SHORT_SIDE, SECONDS = 16, 112, 20.0
"""Of a clip to look at: its frames, their shorter side in pixels; and how long reading it may take."""


def file_of(features: Features, row: int) -> Path:
    """The video of a row.

    Raises:
        UserError: the file of features does not say in which folder its videos lie.
    """
    if "root" not in features.meta:
        raise UserError("the features do not say where their videos lie (meta.root); extract them again.")
    return as_spelled(Path(str(features.meta["root"])) / features.paths[row])


def clip_of(features: Features, row: int) -> NDArray[np.uint8]:
    """Frames of a row's clip, or of its whole video: uint8 (T, H, W, 3), H and W even.

    Raises:
        UserError: it cannot be read.
    """
    file = file_of(features, row)
    info = probe(file)
    first, last = 0, max(info.frames - 1, 0)
    if features.times is not None and np.isfinite(features.times[row]).all():
        with suppress(VideoError):  # it says nothing of times after all
            first, last = (int(i) for i in np.searchsorted(frame_times(file), features.times[row] - 1e-3))
    numbers = np.linspace(first, max(first, last), FRAMES).round().astype(np.int64)
    frames = read_frames(file, numbers, SHORT_SIDE, SECONDS)
    return frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2]


def told(features: Features, row: int) -> str:
    """A row in words: its path, and its times where it is a clip."""
    if features.times is None or not np.isfinite(features.times[row]).all():
        return features.paths[row]
    begin, end = features.times[row]
    return f"{features.paths[row]} {begin:.1f}–{end:.1f} s"
