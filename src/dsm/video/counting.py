"""Counting the frames of many videos: side by side where there are many, past what crashes or hangs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from dsm.errors import UserError
from dsm.video.decode import probe
from dsm.video.guarded import Failed, Job, call_guarded, time_for
from dsm.video.source import READING_TIME, VideoError

FEW = 500
"""Files that are counted sooner than processes are begun for them."""
_MOST_TOGETHER = 500
"""Files that a process is given at once: to hand over each would take longer than to count it."""
_BATCHES = 20
"""That each process is given at least, so that none waits long for another at the end."""

Counted = int | str
"""Frames of a video, at least 1; or a sentence that says why it has none."""


def count_frames(path: Path) -> Counted:
    """Count the frames of one video."""
    try:
        frames = probe(path).frames
        if frames == 0:
            raise VideoError(f"{path}: holds no frame.")
    except UserError as error:
        return str(error)
    return frames


def count_all(
    paths: Sequence[Path],
    *,
    workers: int = 1,
    seconds: float = READING_TIME,
    on_progress: Callable[[int], None] = lambda done: None,
) -> list[Counted]:
    """:func:`count_frames` of each, in their order.

    With more than one worker and 500 videos or more, neither a crash nor a hang of the decoder does harm.

    Args:
        workers: processes.
        seconds: after which a process is killed, for each file; a second more for each 2 MB of a file.
        on_progress: told how many are done.
    """
    found: list[Counted] = []
    if workers == 1 or len(paths) < FEW:
        for done, path in enumerate(paths, start=1):
            found.append(count_frames(path))
            on_progress(done)
        return found
    together = min(math.ceil(len(paths) / workers / _BATCHES), _MOST_TOGETHER)
    batches = [paths[begin : begin + together] for begin in range(0, len(paths), together)]
    # A batch has the patience for one slow file; where more are slow, each gets its own time below.
    jobs = [Job(_count_batch, (batch,), _time_for_all(batch, seconds)) for batch in batches]
    outcomes = call_guarded(jobs, workers)
    for batch, outcome in zip(batches, outcomes, strict=True):
        found += _count_singly(batch, workers, seconds) if isinstance(outcome, Failed) else outcome
        on_progress(len(found))
    return found


def _count_batch(paths: Sequence[Path]) -> list[Counted]:
    return [count_frames(path) for path in paths]


def _time_for_all(paths: Sequence[Path], seconds: float) -> float:
    return seconds + sum(time_for(path, 0) for path in paths)


def _count_singly(paths: Sequence[Path], workers: int, seconds: float) -> list[Counted]:
    """Where one of a batch crashed its process or hung, the others are counted all the same."""
    jobs = [Job(count_frames, (path,), time_for(path, seconds)) for path in paths]
    outcomes = call_guarded(jobs, workers)
    return [
        f"{path}: {outcome.reason}." if isinstance(outcome, Failed) else outcome
        for path, outcome in zip(paths, outcomes, strict=True)
    ]
