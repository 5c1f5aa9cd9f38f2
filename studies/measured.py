"""Files of measurements, so that one machine can reuse those of another.

For each trial and measure, a file holds a digest of the settings, the revision of the code that measured, and
the rows. A study that gets such a file (``--known``) reuses the measurements with the same settings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dsm.errors import UserError
from dsm.files import write_text
from dsm.runs.results import Row


@dataclass(frozen=True)
class Measured:
    """The result of one measure of one trial."""

    settings: str
    """See :func:`digest`."""
    measure: str
    revision: str | None
    """Of the code that measured."""
    rows: tuple[Row, ...]


ROW = tuple(Row.__dataclass_fields__)
Known = dict[tuple[str, str], Measured]
"""Measurements by settings (see :func:`digest`) and measure."""


def digest(settings: Any) -> str:
    """16 hexadecimal digits that identify settings, given as JSON values."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def read_measured(files: Iterable[Path]) -> Known:
    """Read files; a later one overrides an earlier one.

    Raises:
        UserError: a file is missing, or holds something else.
    """
    known: Known = {}
    for file in files:
        try:
            for entry in json.loads(file.read_text(encoding="utf-8"))["measured"]:
                rows = tuple(Row(**dict(zip(ROW, row, strict=True))) for row in entry.pop("rows"))
                one = Measured(**entry, rows=rows)
                known[one.settings, one.measure] = one
        except FileNotFoundError:
            raise UserError(f"{file}: no such file of measurements.") from None
        except (ValueError, KeyError, TypeError, UnicodeDecodeError):
            raise UserError(f"{file}: holds no measurements of a study.") from None
    return known


def write_measured(file: Path, measured: Sequence[Measured]) -> None:
    """Write a file with one line per row, so that diffs are readable."""
    entries = []
    for one in measured:
        about = {name: value for name, value in asdict(one).items() if name != "rows"}
        rows = ",\n".join(json.dumps(list(asdict(row).values())) for row in one.rows)
        entries.append(f'{json.dumps(about)[:-1]}, "rows": [\n{rows}\n]}}')
    text = ",\n".join(entries)
    write_text(file, f'{{"columns": {json.dumps(ROW)}, "measured": [\n{text}\n]}}\n')


def revisions(measured: Iterable[Measured]) -> str:
    """Revisions of the code that measured, such as '1a2b3c, 4d5e6f', for ``results.json``."""
    return ", ".join(sorted({one.revision or "unknown" for one in measured}))
