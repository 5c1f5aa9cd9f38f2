"""Tracks which video each loader process is reading, since a decoder may crash or hang."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import get_args

import torch
from torch.utils.data import get_worker_info

from dsm.storage.client import observed
from dsm.video.source import BadVideo, VerdictName

IDLE = -1.0
VERDICTS: tuple[VerdictName, ...] = get_args(VerdictName)


class ReadingState:
    """What a data set and its loader know about its videos."""

    def __init__(self, workers: int, videos: int) -> None:
        self._damaged: set[int] = set()
        self.bad: dict[int, BadVideo] = {}
        """Videos that this process knows are bad."""
        self._verdicts = torch.zeros(videos, dtype=torch.uint8)
        """(videos,), shared by all processes: 1 + the verdict's position for bad videos, otherwise 0."""
        self._verdicts.share_memory_()  # type: ignore[no-untyped-call]
        self.reading = torch.full((workers, 2), IDLE, dtype=torch.float64)
        """(workers, 2), shared by all processes: the video that a worker is reading, and since when."""
        self.reading.share_memory_()  # type: ignore[no-untyped-call]

    def find(self, index: int) -> BadVideo | None:
        """A video that this or another process found bad, so that it is not tried again; otherwise None."""
        if index not in self.bad and (code := int(self._verdicts[index])):
            return BadVideo(index, VERDICTS[code - 1], f"video {index} could not be read by another process.")
        return self.bad.get(index)

    def tell(self, bad: Iterable[BadVideo]) -> None:
        """Report bad videos to all loader processes."""
        for video in bad:
            self._verdicts[video.index] = 1 + VERDICTS.index(video.verdict)

    def damage(self, index: int, reason: str | None) -> list[BadVideo]:
        """A video that was read with frames missing, the first time that this process reports it."""
        if reason is None or index in self._damaged:
            return []
        self._damaged.add(index)
        return [BadVideo(index, "damaged", reason)]

    @contextmanager
    def noted(self, index: int) -> Iterator[None]:
        """Within this context, show other processes which video is being read."""
        worker = get_worker_info()
        if worker is None:
            yield
            return

        def since(waits: bool) -> None:  # waiting for storage is no hang; it has its own limits
            self.reading[worker.id, 1] = math.inf if waits else time.monotonic()

        self.reading[worker.id] = torch.tensor([index, time.monotonic()], dtype=torch.float64)
        try:
            with observed(since):
                yield
        finally:
            self.reading[worker.id, 0] = IDLE
