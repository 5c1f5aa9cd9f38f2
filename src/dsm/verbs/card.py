"""``dsm card``: the model card of a run, with what was measured elsewhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from dsm.errors import UserError
from dsm.models.weights import read_checkpoint
from dsm.runs.card import CARD, write_run_card
from dsm.runs.results import RESULTS
from dsm.terminal import console


@dataclass(frozen=True)
class CardConfig:
    """Settings of `dsm card`."""

    run: tyro.conf.Positional[Path]
    """A run folder; its README.md is written."""
    results: tuple[Path, ...] = ()
    """Folders of results (`dsm test`, `dsm probe`, `dsm retrieve`, `dsm bias`), whose numbers go in."""
    overwrite: bool = False
    """Replace a card that somebody has edited."""


def card(config: CardConfig) -> None:
    """Write the card anew from what the run and the results say."""
    if not config.run.is_dir():
        raise UserError(f"{config.run}: no such run folder.")
    files = []
    for folder in config.results:
        file = folder / RESULTS if folder.is_dir() else folder
        if not file.is_file():
            raise UserError(f"{folder}: holds no results.json; give the folder that a verb wrote with --out.")
        files.append(file)
    if not renew_card(config.run, files, overwrite=config.overwrite):
        raise UserError(
            f"{config.run / CARD}: is edited, or not of dsm; add to it by hand, or --overwrite to replace it."
        )
    console.print(f"{config.run / CARD}: written")


def renew_card(run: Path, results: Sequence[Path], *, overwrite: bool = False) -> bool:
    """Write the card of a run that is done, with these files of results; False where an edited one stays."""
    state = read_checkpoint(run)
    try:
        about, step = json.loads(state["config"]), int(state["step"])
        return write_run_card(run, about, step, results, overwrite=overwrite)
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{run}: what its checkpoint says of itself does not fit together.") from None
