"""Which video each loader process is reading, seen from outside: a decoder may crash, or never come back."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import get_args

import torch
from torch.utils.data import get_worker_info

from dsm.video.source import BadVideo, VerdictName

IDLE = -1.0
VERDICTS: tuple[VerdictName, ...] = get_args(VerdictName)


class ReadingState:
    """What a data set and whoever loads it know of its videos."""

    def __init__(self, workers: int, videos: int) -> None:
        self._damaged: set[int] = set()
        self.bad: dict[int, BadVideo] = {}
        """Videos that this process knows to be bad."""
        self._told = torch.zeros(videos, dtype=torch.uint8)
        """(videos,), seen from all processes: of those told to be bad 1 + the place of the verdict."""
        self._told.share_memory_()  # type: ignore[no-untyped-call]
        self.reading = torch.full((workers, 2), IDLE, dtype=torch.float64)
        """(workers, 2), seen from all processes: which video a worker is at, and since when."""
        self.reading.share_memory_()  # type: ignore[no-untyped-call]

    def find(self, index: int) -> BadVideo | None:
        """What is known to be bad is not tried again, whoever found it."""
        if index not in self.bad and (told := int(self._told[index])):
            return BadVideo(index, VERDICTS[told - 1], f"video {index} could not be read by another process.")
        return self.bad.get(index)

    def tell(self, bad: Iterable[BadVideo]) -> None:
        """Let all loader processes know."""
        for video in bad:
            self._told[video.index] = 1 + VERDICTS.index(video.verdict)

    def damage(self, index: int, told: str | None) -> list[BadVideo]:
        """A video that is read but for lost pictures, the first time that this process comes to it."""
        if told is None or index in self._damaged:
            return []
        self._damaged.add(index)
        return [BadVideo(index, "damaged", told)]

    @contextmanager
    def noted(self, index: int) -> Iterator[None]:
        """Within, other processes can see which video is being read."""
        worker = get_worker_info()
        if worker is None:
            yield
            return
        self.reading[worker.id] = torch.tensor([index, time.monotonic()], dtype=torch.float64)
        try:
            yield
        finally:
            self.reading[worker.id, 0] = IDLE
