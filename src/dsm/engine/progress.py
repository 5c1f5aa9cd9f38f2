"""Progress on the terminal: a live bar where there is one, plain lines where output goes to a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

console = Console(stderr=True, highlight=False, soft_wrap=True)

# Without a terminal, a line so often: enough to see that it lives, too little to flood a log.
SECONDS_BETWEEN_LINES = 15.0


class Reporter:
    """Told how far the work is, shows it."""

    def __init__(self, title: str, total: int, bar: Progress | None) -> None:
        self.title, self.total, self._bar = title, total, bar
        self._task = bar.add_task(title, total=total, note="") if bar else None
        self._begun = self._last_line = time.monotonic()
        self._begun_at: int | None = None

    def update(self, done: int, note: str = "") -> None:
        """``done`` of ``total`` units are done; ``note`` says how it goes."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, note=note)
            return
        now = time.monotonic()
        if self._begun_at is None:
            self._begun_at = done
        if done < self.total and now - self._last_line < SECONDS_BETWEEN_LINES:
            return
        self._last_line = now
        rate = (done - self._begun_at) / max(now - self._begun, 1e-9)
        left = f", {_clock((self.total - done) / rate)} left" if rate and done < self.total else ""
        console.print(f"{self.title}: {done}/{self.total}{left}  {note}".rstrip())

    def beyond(self, before: int) -> Callable[[int], None]:
        """An ``update`` for a part of the work that begins when ``before`` units are done."""
        return lambda done: self.update(before + done)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


@contextmanager
def progress(title: str, total: int, *, start: int = 0) -> Iterator[Reporter]:
    """A progress display for ``total`` units of work, of which ``start`` are done already."""
    if not console.is_terminal:
        reporter = Reporter(title, total, None)
        reporter._begun_at = start
        yield reporter
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("[dim]{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    ) as bar:
        reporter = Reporter(title, total, bar)
        reporter.update(start)
        yield reporter
