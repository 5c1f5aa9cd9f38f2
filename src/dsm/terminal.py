"""Terminal output: notes, and progress as bars or, if output goes to a file, as plain lines."""

from __future__ import annotations

import os
import select
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from dsm.errors import without_control

PROGRESS_VARIABLE = "DSM_SHOW_PROGRESS"
"""Environment variable: 1 shows progress and notes. Child processes inherit it."""


class SafeConsole(Console):
    """Shows text and table cells, which may be names of untrusted files, as they are: control characters do
    not reach the terminal, and ``cam:100:`` is no emoji.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"emoji": False, **settings})

    def render_str(self, text: str, **settings: Any) -> Text:
        """A string as it will be printed."""
        return super().render_str(without_control(text), **settings)


console = SafeConsole(
    stderr=True, highlight=False, soft_wrap=True, markup=False, quiet=os.environ.get(PROGRESS_VARIABLE) != "1"
)
_noted: set[str] = set()


def show_progress(shown: bool = True) -> None:
    """Show progress bars and notes on stderr, as the command line does.

    Called from Python, the library prints nothing; what a user must know arrives as a warning (``warnings``).
    """
    console.quiet = not shown
    os.environ[PROGRESS_VARIABLE] = "1" if shown else "0"


def reader_left(stream: TextIO) -> bool:
    """Whether a stream leads into a pipe that nobody reads any more, as after ``| head``."""
    poll = select.poll()
    poll.register(stream, select.POLLOUT)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def warn(text: str) -> None:
    """Warn the user of a problem that does not stop the work."""
    if console.quiet:
        warnings.warn(without_control(text), UserWarning, stacklevel=3)
    else:
        console.print(text, style="yellow")


def note(text: str, about: str = "") -> None:
    """Tell the user a fact once: not again if it, or another note with the same ``about``, was shown before.

    With several processes, only the first shows it.
    """
    text = without_control(text)
    if (about or text) in _noted or os.environ.get("RANK", "0") != "0":
        return
    _noted.add(about or text)
    if console.quiet:
        warnings.warn(text, UserWarning, stacklevel=3)
    else:
        print(text.encode("utf-8", "backslashreplace").decode(), file=sys.stderr, flush=True)


def some(names: list[str], most: int = 5) -> str:
    """The first names of many, for a sentence."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def many(count: int, one: str, more: str = "") -> str:
    """A count and what is counted, for a sentence: `1 file`, `3 files`.

    Args:
        one: the singular. more: the plural; left out, ``one`` with an s.
    """
    return f"{count} {one if count == 1 else more or f'{one}s'}"


# Without a terminal, the interval between lines: enough to see progress, without flooding a log.
SECONDS_BETWEEN_LINES = 15.0


BAR = 8
"""Width of a progress bar, in characters."""


class Reporter:
    """Shows the progress of the work."""

    def __init__(
        self, title: str, total: int, start: int, bar: Progress | None, *, shown: bool = True
    ) -> None:
        self.title, self.total, self._bar, self._shown = title, total, bar, shown
        self._task = bar.add_task(title, total=total, completed=start, note="") if bar else None
        self._begun = self._last_line = time.monotonic()
        self._begun_at = start

    def update(self, done: int, note: str = "") -> None:
        """``done`` of ``total`` units are done; ``note`` is shown beside them."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, note=self._fitting(note))
            return
        now = time.monotonic()
        if not self._shown or (done < self.total and now - self._last_line < SECONDS_BETWEEN_LINES):
            return
        self._last_line = now
        rate = (done - self._begun_at) / max(now - self._begun, 1e-9)
        left = f", {_clock((self.total - done) / rate)} left" if rate and done < self.total else ""
        console.print(f"{self.title}: {done}/{self.total}{left}  {note}".rstrip())

    def aside(self, note: str) -> None:
        """Show the progress of something else that the work waits for."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, note=self._fitting(note))
        elif self._shown and time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            console.print(f"{self.title}: {note}")

    def _fitting(self, note: str) -> str:
        """The first parts of a note, separated by two blanks, that fit beside steps and times."""
        room = console.width - len(self.title) - 2 * len(str(self.total)) - BAR - len("  /  0:00:00 ")
        parts = note.split("  ")
        while len(parts) > 1 and len("  ".join(parts)) > room:
            parts.pop()
        return "  ".join(parts)

    def beyond(self, before: int) -> Callable[[int], None]:
        """An ``update`` for a part of the work that starts when ``before`` units are done."""
        return lambda done: self.update(before + done)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


@contextmanager
def progress(title: str, total: int, *, start: int = 0, shown: bool = True) -> Iterator[Reporter]:
    """A progress display for ``total`` units of work, of which ``start`` are already done.

    ``shown``: whether this process shows it; of several, only one should.
    """
    if not console.is_terminal or not shown or console.quiet:
        yield Reporter(title, total, start, None, shown=shown and not console.quiet)
        return
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(BAR),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
        console=console,
    ) as bar:
        yield Reporter(title, total, start, bar)
