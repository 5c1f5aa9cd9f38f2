"""What a run leaves when it ends or is stopped: its last numbers, and a card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dsm.datasets.lists import VideoList
from dsm.engine.model_card import CARD, write_run_card
from dsm.engine.progress import console
from dsm.engine.run_results import write_run_results
from dsm.errors import UserError
from dsm.evaluate.results import RESULTS


def write_end(
    run: Path,
    about: Mapping[str, Any],
    videos: VideoList,
    watched: VideoList | None,
    step: int,
    *,
    done: bool,
) -> None:
    """Results, of a run that is done, and card; what can be written anew must not cost a run its end.

    Args:
        about: what the run's checkpoints say of it.
        videos: the training list.
        watched: the list that is watched, if any.
        step: how far it has come.
    """
    try:
        if done:
            write_run_results(run, about, videos, watched)
        if not write_run_card(run, dict(about), step):
            console.print(f"{run / CARD}: is edited, and stays as it is.")
    except (OSError, UserError) as error:
        console.print(f"{run}: {RESULTS} or {CARD} cannot be written ({error}).", style="yellow")
