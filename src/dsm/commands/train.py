"""A training run as a command: its end, told and drawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dsm.engine.interrupt import Interrupted
from dsm.engine.processes import is_first
from dsm.engine.progress import console


def train_and_draw(out: Path, train: Callable[[], object], hint: str) -> None:
    """Train; draw what there is also when stopped; say where everything is and what to do next."""
    try:
        train()
    except (Interrupted, SystemExit):
        _draw(out)
        raise
    if not is_first():
        return
    pictures = _draw(out)
    console.print(f"{out}: the run; how it went: {' and '.join(pictures)}.")
    console.print(f"Next: {hint}")


def _draw(out: Path) -> list[str]:
    """Pictures must not cost a run its end."""
    from dsm.analyse.run_figures import draw_run

    if not is_first() or not out.is_dir():
        return []
    try:
        return [str(path) for path in draw_run(out)]
    except OSError as error:
        console.print(f"pictures cannot be written: {error.strerror}.", style="yellow")
        return []
