"""Batches from worker processes, whatever happens to a worker.

A broken video is an error that the data set deals with. A decoder that crashes takes its process with
it, and one that hangs never gives it back: the video is then noted as bad, the workers are
replaced, and loading goes on at the batch it had come to.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader

from dsm.data.clips import EvaluationClips, TrainingClips, collate, collate_clips
from dsm.data.reading_state import IDLE
from dsm.errors import UserError
from dsm.signals import ignore_warnings
from dsm.video.source import BadVideo

PATIENCE = 2.0
"""A worker hangs when it is at one video for so many times the seconds a video may take."""

LOOK_EVERY = 2.0
"""Seconds without a batch after which the workers are looked at."""


class Order(Protocol):
    """A sequence of batches that can begin anywhere: what is left of it lies between start and stop."""

    start: int
    stop: int
    seed: int

    def __iter__(self) -> Iterator[list[Any]]: ...


class Batches:
    """The batches of a data set of clips in an order, each by ``collate``."""

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
        self._pids = torch.zeros(workers, dtype=torch.long)
        self._pids.share_memory_()  # type: ignore[no-untyped-call]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield batches.

        Raises:
            UserError: no readable video is found for a sample, or a worker is killed from outside.
        """
        try:
            yield from self._batches()
        finally:
            self.clips.reader.tell_counts()

    def _batches(self) -> Iterator[dict[str, Any]]:
        lost: list[BadVideo] = []
        while self.order.start < self.order.stop:
            batches = _iterate(self._loader())
            while not lost:
                try:
                    batch = next(batches)
                except StopIteration:
                    return
                except RuntimeError as error:
                    lost = self._lost(error)
                    continue
                if isinstance(batch, UserError):
                    raise batch
                self.order.start += 1
                yield batch
            self._kill_workers()
            self.clips.state.bad |= {video.index: video for video in lost}
            lost = []

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
            generator=torch.Generator().manual_seed(self.order.seed),  # else it draws from the run's own
        )

    def _register(self, worker: int) -> None:
        self._pids[worker] = os.getpid()
        ignore_warnings()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches them too; the run saves and ends them
        sys.excepthook = _tell_unless_left

    def _lost(self, error: RuntimeError) -> list[BadVideo]:
        """The videos that workers crashed or hang on; none where a batch merely takes its time."""
        alive = {child.pid for child in multiprocessing.active_children()}
        found = []
        dead = False
        for pid, (index, since) in zip(self._pids.tolist(), self.clips.state.reading.tolist(), strict=False):
            crashed = bool(pid) and pid not in alive
            dead = dead or crashed
            hangs = time.monotonic() - since > self._seconds * PATIENCE
            if index != IDLE and (crashed or hangs):
                path = self.clips.videos.file(int(index))
                reason = f"{path}: {'crashes' if crashed else 'hangs'} the decoder."
                found.append(BadVideo(int(index), "undecodable" if crashed else "timeout", reason))
        if found:
            return found
        if dead:
            raise UserError(
                "a loader worker was killed, perhaps for want of memory; try fewer --data.workers, "
                "a smaller --data.batch-size or --data.cache-mb."
            ) from error
        if "timed out" not in str(error):
            raise error
        return []

    def _kill_workers(self) -> None:
        for child in multiprocessing.active_children():
            if child.pid in self._pids.tolist():
                child.kill()
                child.join()


def _tell_unless_left(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Of a worker's threads: one that hands over a batch is left alone with it when the run is stopped."""
    if not isinstance(error, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, trace)


def _iterate(loader: DataLoader[Any]) -> Iterator[Any]:
    """Begin to load, without the handler by which torch raises, wherever we are, when a worker dies."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGCHLD"):
        return iter(loader)
    before = signal.getsignal(signal.SIGCHLD)
    batches = iter(loader)
    signal.signal(signal.SIGCHLD, before)
    return batches


class InTurn:
    """Given batches of places in a list, one after the other."""

    seed = 0

    def __init__(self, batches: Sequence[list[int]]) -> None:
        self._batches = batches
        self.start, self.stop = 0, len(batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches[self.start :])


def batched(places: Sequence[int], size: int) -> list[list[int]]:
    """Cut places into batches of so many; the last may have fewer."""
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
    """Batches of so many videos, as :func:`~dsm.data.clips.collate_clips` joins them.

    Args:
        workers: as many as ``clips`` were told.
        order: which videos, one after the other; None for all as they are listed.
        past_bad: whether to go on after a video that cannot be read, or on which a worker crashes or hangs;
            it is among the batch's ``bad``.

    Raises:
        VideoError: a video cannot be read. UserError: something else is wrong.
    """
    in_turn = InTurn(batched(range(len(clips)) if order is None else order, batch_size))
    seconds = math.inf if clips.seconds is None else clips.seconds
    for batch in Batches(clips, in_turn, workers, seconds, pin_memory=pin_memory, collate=collate_clips):
        if batch["bad"] and not past_bad:
            raise batch["bad"][0].error()
        yield batch
