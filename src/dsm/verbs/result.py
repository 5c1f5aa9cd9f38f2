"""What a verb returns: numbers, the files it wrote, and tables and sentences for people."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dsm.data.lists import VideoList
from dsm.errors import UserError, did_you_mean, without_control
from dsm.runs.results import Row
from dsm.terminal import SafeConsole

WIDTH = 120
"""Columns of a result printed as text or shown in a notebook."""
GAP = 2
"""Spaces between the columns of a plain table."""


@dataclass(frozen=True)
class Result:
    """The result of a verb. ``print(result)`` shows it as text, a notebook as a table."""

    rows: Sequence[Row] = ()
    """The numbers, as in results.json."""
    files: Sequence[Path] = ()
    """Files and folders that were written."""
    tables: Sequence[Table | Text] = ()
    """Tables of the numbers, which the command line prints to stdout; a ``Text`` is printed unwrapped."""
    lines: Sequence[str] = ()
    """Remarks, one sentence each, which the command line prints to stderr."""
    exit_code: int = field(default=0, kw_only=True)
    """The exit code of the command line."""

    def value(self, metric: str, *, run: str | None = None, test: str | None = None) -> float:
        """One number: from the first row with this metric and, if given, this run and test.

        Raises:
            UserError: there is no such row.
        """
        for row in self.rows:
            if row.metric == metric and run in (None, row.run) and test in (None, row.test):
                return row.value
        raise UserError(
            f"no {metric!r} in this result{did_you_mean(metric, {row.metric for row in self.rows})}"
        )

    def __rich__(self) -> RenderableType:
        return Group(
            *map(_unwrapped, self.tables), *(_unwrapped(Text(without_control(line))) for line in self.lines)
        )

    def __str__(self) -> str:
        console = SafeConsole(file=io.StringIO(), width=WIDTH, highlight=False, color_system=None)
        with console.capture() as capture:
            console.print(self, crop=False)
        return capture.get().rstrip("\n")

    def _repr_html_(self) -> str:
        console = SafeConsole(file=io.StringIO(), width=WIDTH, record=True, highlight=False)
        console.print(self, crop=False)
        return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")


@dataclass(frozen=True)
class ListResult(Result):
    """Lists of videos that a verb wrote."""

    lists: Sequence[VideoList] = ()
    """The lists; their files come first in `files`, in the same order."""

    @property
    def videos(self) -> VideoList:
        """The list, if exactly one was written.

        Raises:
            UserError: none or several lists were written.
        """
        if len(self.lists) != 1:
            raise UserError(f"{len(self.lists)} lists were written; take one from `lists`.")
        return self.lists[0]


def _unwrapped(part: Table | Text) -> Table | Text:
    """The part; text is not wrapped, so that a path can be copied in one piece."""
    if isinstance(part, Text):
        part = part.copy()
        part.no_wrap, part.overflow = True, "ignore"
    return part


def plain_table(rows: Iterable[Sequence[str]]) -> Table:
    """A table without rules or heading. Lines are never wrapped, so that a pipe gets paths in one piece."""
    lines = [list(row) for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    table = Table(
        box=None, show_header=False, pad_edge=False, padding=(0, GAP, 0, 0),
        width=sum(widths) + GAP * (len(widths) - 1),
    )  # fmt: skip
    for _ in widths:
        table.add_column(no_wrap=True)
    for line in lines:
        table.add_row(*map(Text, line))
    return table
