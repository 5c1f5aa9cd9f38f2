"""Claims a folder or file to write: locks it, and refuses if something would be lost."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dsm.errors import UserError
from dsm.files import PART, empty_folder, is_hidden, read_object, sweep, write_text
from dsm.locks import hold, sweep_locks
from dsm.runs.bad_videos import LEDGER
from dsm.runs.folder import MARKER, read_record
from dsm.runs.logs import GRADIENTS, METRICS, TRACKED
from dsm.terminal import note
from dsm.urls import is_url

MADE_BY = "made_by"
"""Key of a marker that identifies it as this project's; other tools may write files of the same name."""


def hold_alone(out: Path) -> None:
    """Lock a file or folder that will be written (``dsm.locks``), or note that its disk has no locks.

    Removes temporary files that killed processes left there.

    Raises:
        UserError: another command is writing it.
    """
    for folder in (out.absolute().parent, out):
        sweep(folder)
        sweep_locks(folder)
    if reason := hold(out):
        note(f"{out}: cannot be locked ({reason}); make sure that no other command writes it.")


def claim_folder(out: Path, *, overwrite: bool, needed: Iterable[Path]) -> None:
    """Make sure a run may be written to a folder, before any work is done.

    A folder that is not empty is refused unless ``overwrite`` is set or its run ended before its first step.
    Even then only a folder that a run of this project made is emptied, never other files.

    Args:
        needed: files that the run reads; they must not be in a folder that is emptied.

    Raises:
        UserError: the folder holds a run and may not be overwritten, holds something else, or another
            command is writing it.
    """
    hold_alone(out)
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file, not a folder; choose another --out.")
    if out.is_dir() and any(out.iterdir()):
        if read_record(out) is None:
            raise UserError(f"{out} is not empty and is not a run of dsm; choose another --out.")
        if not overwrite and _has_begun(out):
            raise UserError(
                f"{out} already holds a run; choose another --out, or use --overwrite to replace it."
            )
        check_outside(needed, out)
        empty_folder(out, MARKER)
    out.mkdir(parents=True, exist_ok=True)


def _has_begun(run: Path) -> bool:
    """Whether emptying the folder would lose anything: a run that failed early leaves only empty files."""
    log, own = run / METRICS, (MARKER, METRICS, GRADIENTS, TRACKED, LEDGER, "checkpoints", "wandb")
    others = [
        path
        for path in run.iterdir()
        if path.name not in own and ".tfevents." not in path.name and not path.name.endswith(PART)
    ]
    saved = any(not is_hidden(path.name) for path in (run / "checkpoints").glob("*"))
    return bool(others) or saved or (log.is_file() and log.stat().st_size > 0)


def claim_by_settings(
    out: Path, marker: str, settings: dict[str, Any], *, what: str, overwrite: bool, needed: Iterable[Path]
) -> None:
    """Claim a folder for work that continues where it stopped, if its settings are the same.

    ``overwrite`` empties the folder only if its settings differ, so that a command with ``--overwrite`` can
    be continued too. Only a folder whose marker this project wrote is emptied.

    Args:
        marker: the name of the file that holds the settings.
        what: name of the work in messages, such as "a demo".
        needed: files that the work reads; they must not be in a folder that is emptied.

    Raises:
        UserError: it holds work with other settings and may not be overwritten, or something else; or
            another command is writing it.
    """
    hold_alone(out)
    settings = {MADE_BY: "dsm", **settings}
    file = out / marker
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file, not a folder; choose another --out.")
    if out.is_dir() and any(out.iterdir()):
        earlier = read_object(file)
        if earlier is None or earlier.get(MADE_BY) != "dsm":
            raise UserError(f"{out} is not empty and is not {what}; choose another --out.")
        if earlier != settings:
            if not overwrite:
                raise UserError(
                    f"{out} holds {what} with other settings; choose another --out, or use --overwrite to "
                    "replace it."
                )
            check_outside(needed, out)
            empty_folder(out, marker)
    write_text(file, json.dumps(settings, indent=2) + "\n")


def check_outside(needed: Iterable[Path], out: Path) -> None:
    """Raise UserError where ``--overwrite`` would delete a needed file, directly or through links."""
    named, real = out.absolute(), out.resolve()
    for path in needed:
        if is_url(path):
            continue
        if path.absolute().is_relative_to(named) or path.resolve().is_relative_to(real):
            raise UserError(f"{path} is inside --out, which --overwrite empties; choose another --out.")


def claim_files(*paths: Path | None, overwrite: bool, needed: Iterable[Path | None] = ()) -> None:
    """Make sure files may be written, before any work is done; None stands for no file.

    Args:
        needed: files that the command reads, which ``overwrite`` must not replace.

    Raises:
        UserError: one exists and may not be overwritten, is a folder or is needed, or another command is
            writing it.
    """
    read = {os.path.realpath(path) for path in filter(None, needed) if not is_url(path)}
    for path in filter(None, paths):
        hold_alone(path)
        if os.path.realpath(path) in read:
            raise UserError(f"{path} is read by this command, so it is not replaced; choose another name.")
        if path.is_dir():
            raise UserError(f"{path} is a folder, not a file; name a file to write.")
        if path.exists() and not overwrite:
            raise UserError(f"{path} already exists; choose another name, or use --overwrite to replace it.")
