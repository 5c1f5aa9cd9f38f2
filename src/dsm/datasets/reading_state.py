"""Which video each loader process is reading, seen from outside: a decoder may crash, or never come back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.utils.data import get_worker_info

from dsm.video.source import VerdictName, VideoError

IDLE = -1.0


@dataclass(frozen=True)
class BadVideo:
    """A video of a list that cannot be read."""

    index: int
    verdict: VerdictName
    reason: str

    def error(self) -> VideoError:
        """As an error, for whoever does not go on without it."""
        error = VideoError(self.reason)
        error.verdict = self.verdict
        return error


class ReadingState:
    """What a data set and whoever loads it know of its videos."""

    def __init__(self, workers: int) -> None:
        self.bad: dict[int, BadVideo] = {}
        """Videos known to be bad: they are not tried again."""
        self.reading = torch.full((workers, 2), IDLE, dtype=torch.float64)
        """(workers, 2), seen from all processes: which video a worker is at, and since when."""
        self.reading.share_memory_()  # type: ignore[no-untyped-call]

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
