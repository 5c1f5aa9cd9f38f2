"""Counting the frames of many videos: in parallel if there are many, surviving decoder crashes and hangs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from dsm.video.decode import frame_count
from dsm.video.guarded import Failed, Job, call_guarded, time_for
from dsm.video.settings import READING_TIME
from dsm.video.source import VideoError

FEW = 500
"""With fewer files, counting takes less time than starting processes."""
_MOST_TOGETHER = 500
"""Most files per batch: sending each file separately would take longer than counting it."""
_BATCHES = 20
"""Fewest batches per process, so that no process waits long for another at the end."""

Counted = int | str
"""Number of frames, at least 1; or a sentence with the reason why there are none."""


def count_frames(path: Path) -> Counted:
    """Count the frames of one video."""
    try:
        frames = frame_count(path)
        if frames == 0:
            raise VideoError(f"{path}: contains no frames.")
    except VideoError as error:
        return str(error)
    return frames


def count_all(
    paths: Sequence[Path],
    *,
    workers: int = 1,
    seconds: float = READING_TIME,
    on_progress: Callable[[int], None] = lambda done: None,
) -> list[Counted]:
    """Apply :func:`count_frames` to each path; results come in the same order.

    With more than one worker and at least 500 videos, the decoder runs in separate processes,
    so a crash or a hang does no harm.

    Args:
        workers: number of processes.
        seconds: time limit per file, plus one second for each 2 MB; then its process is killed.
        on_progress: called with the number of files done.
    """
    counts: list[Counted] = []
    if workers == 1 or len(paths) < FEW:
        for done, path in enumerate(paths, start=1):
            counts.append(count_frames(path))
            on_progress(done)
        return counts
    together = min(math.ceil(len(paths) / workers / _BATCHES), _MOST_TOGETHER)
    batches = [paths[begin : begin + together] for begin in range(0, len(paths), together)]
    # The time limit of a batch allows for one slow file; if more are slow, each gets its own limit below.
    times = (seconds + sum(time_for(path, 0) for path in batch) for batch in batches)
    jobs = [Job(_count_batch, (batch,), time) for batch, time in zip(batches, times, strict=True)]
    outcomes = call_guarded(jobs, workers)
    for batch, outcome in zip(batches, outcomes, strict=True):
        counts += _count_singly(batch, workers, seconds) if isinstance(outcome, Failed) else outcome
        on_progress(len(counts))
    return counts


def _count_batch(paths: Sequence[Path]) -> list[Counted]:
    return [count_frames(path) for path in paths]


def _count_singly(paths: Sequence[Path], workers: int, seconds: float) -> list[Counted]:
    """Count the files of a batch in which one crashed or hung, each in a call of its own."""
    jobs = [Job(count_frames, (path,), time_for(path, seconds)) for path in paths]
    outcomes = call_guarded(jobs, workers)
    return [
        f"{path}: {outcome.reason}." if isinstance(outcome, Failed) else outcome
        for path, outcome in zip(paths, outcomes, strict=True)
    ]
