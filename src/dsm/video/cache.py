"""Decoded videos kept in memory, for data sets that fit: they are decoded in the first epoch only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsm.video.decode import Decoder, read_frames


class FrameCache:
    """Keeps whole decoded videos while there is room, first come, first kept.

    Nothing makes way for another: in training every video comes once an epoch, so the one thrown out
    would be wanted again before the one let in.
    """

    def __init__(self, megabytes: int, seconds: float | None = None, decoder: Decoder = "pyav") -> None:
        """``seconds`` and ``decoder`` are those of :func:`dsm.video.decode.read_frames`."""
        self._room = megabytes * 2**20
        self._seconds, self._decoder = seconds, decoder
        self._kept: dict[tuple[str, int], NDArray[np.uint8]] = {}
        self._too_large: set[tuple[str, int]] = set()
        """Videos that were seen to have no room, which only shrinks."""

    def read(
        self,
        path: Path,
        indices: NDArray[np.int64],
        short_side: int,
        total: int,
    ) -> NDArray[np.uint8]:
        """As :func:`dsm.video.decode.read_frames`, from memory where the video is kept.

        Args:
            total: frames of the video; says whether it is worth a try to keep it.
        """
        key = (str(path), short_side)
        if key not in self._kept:
            least = total * short_side * short_side * 3
            if least > self._room or key in self._too_large:
                return read_frames(path, indices, short_side, self._seconds, self._decoder)
            frames = read_frames(path, np.arange(total), short_side, self._seconds, self._decoder)
            if frames.nbytes > self._room:
                self._too_large.add(key)
                return frames[indices]
            self._room -= frames.nbytes
            self._kept[key] = frames
        return self._kept[key][indices]
