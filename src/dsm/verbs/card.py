"""``dsm card``: the model card of a run, with results measured elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dsm.errors import UserError
from dsm.inputs import RUN
from dsm.models.about import parse_about
from dsm.models.weights import read_checkpoint
from dsm.runs.card import CARD, write_run_card
from dsm.runs.results import RESULTS
from dsm.settings import takes_settings
from dsm.verbs.result import Result
from dsm.verbs.settings.weights import CardConfig


@takes_settings(CardConfig)
def card(config: CardConfig) -> Result:
    """Rewrite the model card of a run, with the numbers of these results."""
    if not config.run.is_dir():
        raise UserError(f"{config.run}: {RUN.missing}")
    files = []
    for folder in config.results:
        file = folder / RESULTS if folder.is_dir() else folder
        if not file.is_file():
            raise UserError(f"{folder}: has no results.json; give the --out folder of another command.")
        files.append(file)
    if not renew_card(config.run, files, overwrite=config.overwrite):
        raise UserError(
            f"{config.run / CARD} was edited by hand, or is not a card of dsm; add the numbers by hand, or "
            "use --overwrite to replace it."
        )
    return Result(files=[config.run / CARD], lines=[f"{config.run / CARD}: written"])


def renew_card(run: Path, results: Sequence[Path], *, overwrite: bool = False) -> bool:
    """Write the card of a finished run, with these results; False if an edited card was left unchanged."""
    state = read_checkpoint(run)
    try:
        about, step = parse_about(state["config"]), int(state["step"])
        return write_run_card(run, about, step, results, overwrite=overwrite)
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{run}: its checkpoint contradicts itself and cannot be described.") from None
