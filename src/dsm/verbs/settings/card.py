"""Settings of `dsm card`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from dsm.inputs import RunFolder


@dataclass(frozen=True)
class CardConfig:
    """Settings of `dsm card`."""

    run: tyro.conf.Positional[RunFolder]
    """A run folder; the card is its README.md."""
    results: tuple[Path, ...] = ()
    """Result folders of `dsm test`, `dsm probe`, `dsm retrieve` or `dsm bias`, whose numbers go in."""
    overwrite: bool = False
    """Replace a card that was edited by hand."""
