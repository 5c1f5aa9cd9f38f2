"""Loads batches in worker processes, and recovers if a worker crashes, hangs or is killed.

The data set itself handles a broken video. A decoder that crashes ends its worker, and one that hangs
blocks it: the video is then recorded as bad, the workers are replaced, and loading continues with the
same batch. A worker that was killed from outside, as when memory runs out, is no evidence against its video:
the video is tried again.
"""

from __future__ import annotations

import math
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Literal, Protocol

import torch
from torch.utils.data import DataLoader

from dsm.data.clips import EvaluationClips, TrainingClips, collate, collate_clips
from dsm.data.reading_state import IDLE
from dsm.errors import MachineError, UserError, machine_fault
from dsm.signals import ignore_warnings, stops_held, was_killed
from dsm.video.source import BadVideo

PATIENCE = 2.0
"""A worker counts as hung after this many times the seconds that a video may take."""

LOOK_EVERY = 2.0
"""Seconds without a batch after which the workers are checked."""

HANDLES, HANDLES_A_WORKER = 64, 32
"""Open files that loading needs, in all and per worker."""

KILLS = 3
"""A video counts as bad once its worker has been killed from outside this many times while reading it."""

MOST_KILLS = 12
"""Loading ends once workers have been killed from outside this many times without a batch in between."""


_BROKEN_OFF = (RuntimeError, ConnectionError, EOFError, FileNotFoundError)
"""Errors when receiving a batch from a worker that has ended; the last three if it was sending one."""


Fate = Literal["reads on", "hangs", "crashed", "was killed"]
"""What has become of a worker; one that ended between two videos also counts as killed."""


class Order(Protocol):
    """A sequence of batches that can start anywhere; those from start to stop remain."""

    start: int
    stop: int
    seed: int

    def __iter__(self) -> Iterator[list[Any]]: ...


class Batches:
    """The batches of a data set of clips, in a given order, each joined by ``collate``."""

    def __init__(
        self,
        clips: TrainingClips | EvaluationClips,
        order: Order,
        workers: int,
        seconds: float,
        *,
        pin_memory: bool,
        collate: Callable[[list[Any]], Any] = collate,
    ) -> None:
        self.clips, self.order, self._collate = clips, order, collate
        self._workers, self._seconds, self._pin_memory = workers, seconds, pin_memory
        allow_handles(workers)
        self._pids = torch.zeros(workers, dtype=torch.long)
        self._pids.share_memory_()  # type: ignore[no-untyped-call]
        self._kills: Counter[int] = Counter()
        """How often workers were killed while they read a video."""
        self._kills_in_a_row = 0
        self._children: list[BaseProcess] = []

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield batches.

        Raises:
            UserError: no readable video was found for a sample, or workers are killed again and again.
        """
        try:
            yield from self._batches()
        finally:
            self.clips.reader.tell_lengths()

    def _batches(self) -> Iterator[dict[str, Any]]:
        while self.order.start < self.order.stop:
            others = multiprocessing.active_children()
            batches = _iterate(self._loader())
            # Kept, because the loader no longer lists those that end.
            self._children = [child for child in multiprocessing.active_children() if child not in others]
            lost: list[BadVideo] | None = None
            while lost is None:
                try:
                    batch = next(batches)
                except StopIteration:
                    return
                except _BROKEN_OFF as error:
                    lost = self._lost(error)
                    continue
                if isinstance(batch, UserError):
                    raise batch
                self.order.start += 1
                self._kills_in_a_row = 0
                yield batch
            self._kill_workers()
            self.clips.state.bad |= {video.index: video for video in lost}

    def _loader(self) -> DataLoader[Any]:
        self.clips.state.reading.fill_(IDLE)
        self._pids.zero_()
        return DataLoader(
            self.clips,
            batch_sampler=self.order,
            collate_fn=self._collate,
            num_workers=self._workers,
            timeout=LOOK_EVERY if self._workers else 0,
            worker_init_fn=self._register,
            pin_memory=self._pin_memory,
            generator=torch.Generator().manual_seed(
                self.order.seed
            ),  # otherwise the loader draws from the run's global generator
        )

    def _register(self, worker: int) -> None:
        self._pids[worker] = os.getpid()
        ignore_warnings()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # workers get Ctrl-C too, but the run must end them
        sys.excepthook = _print_unforeseen

    def _lost(self, error: Exception) -> list[BadVideo] | None:
        """The videos on which workers crashed or hang; None if no worker is lost and a batch is slow."""
        if not isinstance(error, RuntimeError):  # a worker closes its side before it counts as ended
            multiprocessing.connection.wait([child.sentinel for child in self._children], LOOK_EVERY)
        fates = [(index, fate) for index, fate in self._fates() if fate != "reads on"]
        lost = [bad for index, fate in fates if (bad := self._verdict(index, fate))]
        # A worker may end before it has reported its number.
        anyone = bool(fates) or "exited unexpectedly" in str(error)
        killed = sum(fate == "was killed" for _, fate in fates)
        self._kills_in_a_row += max(killed, anyone and not lost)
        if self._kills_in_a_row >= MOST_KILLS:
            raise UserError(
                "loader workers are killed again and again, probably because memory (or /dev/shm) "
                "runs out; try fewer --data.workers, a smaller --data.batch-size or --data.cache-mb."
            ) from error
        if anyone:
            return lost
        if "timed out" not in str(error):
            raise error
        return None

    def _fates(self) -> Iterator[tuple[int, Fate]]:
        """What has become of each worker, with the video that it read, or ``IDLE``."""
        ended = {child.pid: child.exitcode for child in self._children}
        pids = self._pids.tolist()
        for pid, (index, since) in zip(pids, self.clips.state.reading.tolist(), strict=False):
            if pid:
                yield int(index), self._fate(ended.get(pid, -signal.SIGKILL), int(index), since)
        # Those that ended before they could report their number.
        for pid, code in ended.items():
            if code is not None and pid not in pids:
                yield int(IDLE), "was killed"

    def _fate(self, code: int | None, index: int, since: float) -> Fate:
        """What has become of a worker with this exit code, None if it lives, which reads ``since`` then."""
        if code is not None:
            return "was killed" if index == IDLE or was_killed(code) else "crashed"
        hangs = index != IDLE and time.monotonic() - since > self._seconds * PATIENCE
        return "hangs" if hangs else "reads on"

    def _verdict(self, index: int, fate: Fate) -> BadVideo | None:
        """What a worker's fate says about the video that it read; None if nothing, or too little so far."""
        if index == IDLE:
            return None
        path = self.clips.videos.file(index)
        if fate == "hangs":
            return BadVideo(index, "timeout", f"{path}: hangs the decoder.")
        if fate == "crashed":
            return BadVideo(index, "undecodable", f"{path}: crashes the decoder.")
        self._kills[index] += 1
        if self._kills[index] < KILLS:
            return None
        reason = f"{path}: {KILLS} processes that read it were killed; it may need too much memory."
        return BadVideo(index, "undecodable", reason)

    def _kill_workers(self) -> None:
        for child in self._children:
            child.kill()
            child.join()


def _print_unforeseen(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a worker's exceptions, except faults of the machine, which the run itself reports, and those of
    sending a batch after the run has stopped.
    """
    if not isinstance(error, (ConnectionError, EOFError)) and machine_fault(error) is None:
        sys.__excepthook__(kind, error, trace)


def _iterate(loader: DataLoader[Any]) -> Iterator[Any]:
    """Begin to load, without torch's signal handler, which raises at any point when a worker dies."""
    with stops_held():
        if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGCHLD"):
            return iter(loader)
        before = signal.getsignal(signal.SIGCHLD)
        batches = iter(loader)
        signal.signal(signal.SIGCHLD, before)
        return batches


def allow_handles(workers: int) -> None:
    """Raise the limit of open files to what the workers need: torch sends each tensor as an open file.

    Raises:
        MachineError: the limit is too low. Loading would wait forever for a file that cannot be opened.
    """
    if not workers or sys.platform == "win32":
        return
    import resource

    need = HANDLES + HANDLES_A_WORKER * workers
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < need:
        raise MachineError(
            f"--data.workers (--workers) {workers} needs {need} open files, but only {hard} are allowed; "
            "raise the limit (`ulimit -n 4096`), or use fewer workers."
        )
    if 0 <= soft < need:
        resource.setrlimit(resource.RLIMIT_NOFILE, (need, hard))


class InTurn:
    """An order of given batches of positions in a list."""

    seed = 0

    def __init__(self, batches: Sequence[list[int]]) -> None:
        self._batches = batches
        self.start, self.stop = 0, len(batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches[self.start :])


def batched(places: Sequence[int], size: int) -> list[list[int]]:
    """Cut positions into batches of ``size``; the last may be smaller."""
    return [list(places[start : start + size]) for start in range(0, len(places), size)]


def load_clips(
    clips: EvaluationClips,
    batch_size: int,
    *,
    workers: int = 0,
    order: Sequence[int] | None = None,
    pin_memory: bool = False,
    past_bad: bool = False,
) -> Iterator[dict[str, Any]]:
    """Batches of ``batch_size`` videos, joined by :func:`~dsm.data.clips.collate_clips`.

    Args:
        workers: the same number as in ``clips``.
        order: positions of the videos to load; None for all, in the list's order.
        past_bad: whether to continue after a video that cannot be read, or on which a worker crashes or
            hangs; the batch's ``bad`` contains it.

    Raises:
        VideoError: a video cannot be read. UserError: something else is wrong.
    """
    in_turn = InTurn(batched(range(len(clips)) if order is None else order, batch_size))
    seconds = math.inf if clips.seconds is None else clips.seconds
    for batch in Batches(clips, in_turn, workers, seconds, pin_memory=pin_memory, collate=collate_clips):
        if batch["bad"] and not past_bad:
            raise batch["bad"][0].error()
        yield batch
