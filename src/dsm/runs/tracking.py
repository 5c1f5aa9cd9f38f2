"""Trackers of a run, kept up to date with its ``metrics.jsonl`` by threads that training never waits for.

A tracker is a copy of that file. It is sent the steps that it lacks, whether the run was killed and resumed,
the server was away, or the tracker is new. So nothing is sent twice, and nothing is left out.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from dsm.errors import first_line
from dsm.files import json_text, read_object, write_text
from dsm.limits import LOG_LINE
from dsm.runs.folder import flags_of, read_record, run_id
from dsm.runs.logs import METRICS, TRACKED, numbers_of, parse_line
from dsm.runs.results import RESULTS, Row, read_results
from dsm.runs.trackers import TRACKERS, Ending, Line, TrackedRun, Tracker, check_trackers
from dsm.terminal import console, warn

PAUSE = 1.0
"""Seconds between deliveries; a fast run thus sends several steps at once."""
FIRST_RETRY, LAST_RETRY = 10.0, 300.0
"""Seconds until a failed tracker is tried again: at first, and at most."""
PATIENCE = 30.0
"""Seconds that a finished run waits for all its trackers."""
CHUNK = 2 * LOG_LINE
"""Most bytes of the log that one delivery sends."""


class Journal:
    """``trackers.json``: the id by which trackers know a run, and the last step sent to each.

    The id is written before any tracker is contacted, so a run that is killed at any moment continues in the
    same run of the tracker.
    """

    def __init__(self, out: Path, run: str | None = None) -> None:
        """``run``: the id of a run that no tracker knows yet."""
        self._file, self._lock = out / TRACKED, threading.Lock()
        found = read_object(self._file) or {}
        known = run_id(found)
        self.id: str = known or run or uuid.uuid4().hex
        sent, ended = (found.get(name) if known else None for name in ("sent", "ended"))
        self._sent = {k: v for k, v in sent.items() if type(v) is int} if isinstance(sent, dict) else {}
        self._ended = {k: v for k, v in ended.items() if type(v) is str} if isinstance(ended, dict) else {}
        if not known:
            self._write()

    def sent(self, name: str) -> int:
        """The last step sent to a tracker, or -1."""
        return self._sent.get(name, -1)

    def write_sent(self, name: str, step: int) -> None:
        with self._lock:
            self._sent[name] = step
            self._write()

    def has_ended(self, name: str, digest: str) -> bool:
        """Whether a tracker was sent this ending."""
        return self._ended.get(name) == digest

    def write_ended(self, name: str, digest: str) -> None:
        with self._lock:
            self._ended[name] = digest
            self._write()

    def _write(self) -> None:
        record = {"id": self.id, "sent": self._sent, "ended": self._ended}
        with contextlib.suppress(OSError):  # a full disk; the run's log reports it
            write_text(self._file, json_text(record, indent=2) + "\n")


def track_run(out: Path, names: Sequence[str]) -> Tracking:
    """Start, or continue, to keep trackers up to date with a run.

    Args:
        out: the run folder. Steps that a resumed run will repeat are no longer in its ``metrics.jsonl``.
        names: of :data:`dsm.runs.trackers.TRACKERS`.

    Raises:
        UserError: a tracker's library is not installed.
    """
    check_trackers(names)  # not in the threads: some libraries cannot be imported by several at once
    record = read_record(out) or {}
    facts = {
        **record.get("versions", {}),
        "revision": record.get("revision"),
        "command": record.get("command"),
    }
    about = {name: str(fact) for name, fact in facts.items() if fact}
    journal = Journal(out, run_id(record))
    return Tracking(TrackedRun(journal.id, out, flags_of(record.get("config", {})), about), names, journal)


def track_end(
    out: Path, names: Sequence[str], *, pictures: Sequence[Path] = (), tested: Sequence[Row] = ()
) -> None:
    """Send trackers the results and pictures of a finished run, and the steps that they still lack.

    Args:
        names: the run's ``--track``.
        tested: results besides those in the run folder.
    """
    if not names:
        return
    file = out / RESULTS
    rows = [*(read_results(file) if file.is_file() else ()), *tested]
    table = [list(asdict(row).values()) for row in rows]
    ending = Ending([one.name for one in fields(Row)], table, pictures)
    track_run(out, names).close(done=True, ending=ending)


class Tracking:
    """The trackers of a run, each fed by its own thread."""

    def __init__(self, run: TrackedRun, names: Sequence[str], journal: Journal) -> None:
        self._deliveries = [_Delivery(name, run, journal) for name in dict.fromkeys(names)]

    def wake(self) -> None:
        """Tell the threads that something was logged."""
        for one in self._deliveries:
            one.news.set()

    def close(self, *, done: bool, ending: Ending | None = None) -> None:
        """Send the rest and the ``ending`` of a finished run; wait no longer than PATIENCE.

        Args:
            done: the run has finished all its steps.
        """
        until = time.monotonic() + PATIENCE
        for one in self._deliveries:
            one.close(done=done, ending=ending)
        for one in self._deliveries:
            one.wait(until - time.monotonic())


class _Delivery:
    """Feeds one tracker, in a thread."""

    def __init__(self, name: str, run: TrackedRun, journal: Journal) -> None:
        self.news = threading.Event()
        self._name, self._run, self._journal = name, run, journal
        self._tail = _Tail(run.folder / METRICS)
        self._closing, self._done = threading.Event(), False
        self._ending: Ending | None = None
        self._tracker: Tracker | None = None
        self._told = self._shown = False
        # A daemon, not joined at exit: a library may wait minutes for its server.
        self._thread = threading.Thread(target=self._work, name=f"dsm {name}", daemon=True)
        self._thread.start()

    def close(self, *, done: bool, ending: Ending | None) -> None:
        self._done, self._ending = done, ending
        self._closing.set()
        self.news.set()

    def wait(self, seconds: float) -> None:
        self._thread.join(max(seconds, 0))
        if self._thread.is_alive() and not self._told:
            warn(
                f"{self._name} has not taken all of the run's numbers after {PATIENCE:g} seconds. "
                "metrics.jsonl has them all; --resume sends the rest."
            )
            self._told = True

    def _work(self) -> None:
        pause = 0.0
        while True:
            closing = self._closing.is_set()  # read first, so that everything logged before closing is sent
            try:
                self._deliver(everything=closing)
                if closing:
                    self._end()
                pause = PAUSE
            except Exception as error:  # from a library, its disk or its server
                self._tell(first_line(error))
                self._abandon()
                pause = min(max(2 * pause, FIRST_RETRY), LAST_RETRY)
            if closing:
                return
            self._closing.wait(pause)
            self.news.wait()
            self.news.clear()

    def _deliver(self, *, everything: bool) -> None:
        """Send the steps that the tracker lacks; the last one, which may grow, only if ``everything``."""
        if self._tracker is None:
            opened = TRACKERS[self._name](self._run, self._journal.sent(self._name))
            self._tracker, self._sent = opened, opened.sent
            if self._name != "tensorboard" and not self._shown:
                console.print(f"{self._name}: {opened.shown_by}", style="dim")
            self._shown = True
            self._tail.rewind()
        while lines := self._tail.read(everything=everything):
            new = [(step, metrics) for step, metrics in lines if step > self._sent and metrics]
            if new:
                self._tracker.log(new)
                self._sent = new[-1][0]
                self._journal.write_sent(self._name, self._sent)

    def _end(self) -> None:
        assert self._tracker is not None
        if self._ending:
            digest = _digest(self._ending)
            if not self._journal.has_ended(self._name, digest):
                self._tracker.add(self._ending)
                self._journal.write_ended(self._name, digest)
        tracker, self._tracker = self._tracker, None
        tracker.close(done=self._done)

    def _abandon(self) -> None:
        """Close a tracker that failed; it will be opened again and asked for its last step."""
        if self._tracker is not None:
            with contextlib.suppress(Exception):
                self._tracker.close(done=False)
        self._tracker = None

    def _tell(self, why: str) -> None:
        if not self._told:
            warn(
                f"{self._name} does not take the run's numbers ({why}). The run continues, and metrics.jsonl "
                "has them all; sending is tried again, and --resume sends what is missing."
            )
        self._told = True


class _Tail:
    """Reads a log whose last line may still grow."""

    def __init__(self, path: Path) -> None:
        self._path, self._at = path, 0

    def rewind(self) -> None:
        self._at = 0

    def read(self, *, everything: bool) -> list[Line]:
        """The next steps; the last of the file only if ``everything``."""
        try:
            with self._path.open("rb", buffering=0) as file:
                file.seek(self._at)
                # One call: before a second one, a line could grow and another start after it.
                *whole, begun = file.read(CHUNK).split(b"\n")
        except FileNotFoundError:
            return []
        if whole and not begun and not everything:
            whole.pop()
        lines: list[Line] = []
        for text in whole:
            self._at += len(text) + 1
            if (record := parse_line(text.decode("utf-8", "replace"))) is not None:
                metrics = numbers_of(record)
                lines.append((int(metrics.pop("step")), metrics))
        return lines


def _digest(ending: Ending) -> str:
    whole = hashlib.sha256(json_text([ending.columns, ending.rows]).encode())
    for path in ending.pictures:
        whole.update(path.read_bytes())
    return whole.hexdigest()
