"""A training run as a command: taken up where it was stopped; its end, told and drawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dsm.engine.interrupt import STOPS, Interrupted
from dsm.engine.processes import is_first
from dsm.engine.progress import console
from dsm.models.checkpoint_file import list_checkpoints

STOPPED = tuple(128 + number for number in STOPS)
"""What processes end with that were stopped by a signal, and have saved."""


def train_and_draw(out: Path, train: Callable[[], object]) -> None:
    """Train; draw what there is also when stopped; say where everything is."""
    try:
        train()
    except Interrupted:
        _draw(out)
        raise
    except SystemExit as ended:  # of processes, which have told why
        _draw(out)
        if isinstance(ended.code, int) and ended.code in STOPPED and list_checkpoints(out):
            raise Interrupted("stopped", int(ended.code) - 128) from None
        raise
    if not is_first():
        return
    pictures = _draw(out)
    console.print(f"{out}: the run; how it went: {' and '.join(pictures)}.")


def say_next(command: str) -> None:
    """What one would type next; for a run that was asked for alone, not as a stage of something."""
    if is_first():
        console.print(f"Next: {command}", highlight=False)


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
