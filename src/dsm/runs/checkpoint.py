"""Checkpoints: everything that resuming a run and loading its encoder need.

A file is written under another name and then renamed, so a checkpoint is never incomplete; older ones are
removed once it is on the disk. It contains only
tensors, numbers and text, and is read with ``weights_only=True``: nothing in it is executed. A checksum, its
seal, detects a changed file, which is set aside; a run then resumes from the checkpoint before.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from dsm.errors import UserError
from dsm.files import written_aside
from dsm.models.about import parse_about
from dsm.models.checkpoint_file import NoCheckpointError, checkpoint_of, list_checkpoints
from dsm.models.weights import FORMAT, read_checkpoint
from dsm.seals import seal_zip
from dsm.terminal import warn

BEST = "best.pt"
UNREADABLE = ".unreadable"


def save_checkpoint(run: Path, step: int, state: dict[str, Any], *, keep: int) -> Path:
    """Write ``checkpoints/step_NNNNNNNN.pt`` and remove all but the newest ``keep``.

    Raises:
        UserError: it cannot be written, for example to a full disk. Earlier checkpoints are kept.
    """
    path = checkpoint_of(run, step)
    try:
        with written_aside(path, lasting=True) as aside:
            torch.save({"format": FORMAT, "step": step, **state}, aside)
            seal_zip(aside)
    except (OSError, RuntimeError) as error:  # torch's writer turns a full disk into a RuntimeError
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "the disk may be full"
        free = shutil.disk_usage(run).free / 1e6
        kept = list_checkpoints(run)
        newest = f"the newest is {kept[-1].name}" if kept else "there is none yet"
        raise UserError(
            f"{path}: cannot be written ({reason}; {free:,.0f} MB free). Earlier checkpoints are kept; "
            f"{newest}."
        ) from None
    for old in list_checkpoints(run)[:-keep]:
        old.unlink()
    return path


def keep_best(path: Path) -> None:
    """Keep a checkpoint as ``checkpoints/best.pt``, even when newer ones replace the original."""
    with written_aside(path.with_name(BEST), lasting=True) as aside:
        try:
            aside.hardlink_to(path)  # uses no extra space
        except OSError:
            shutil.copyfile(path, aside)


def newest_good(
    run: Path,
    settings: dict[str, Any],
    defaults: dict[str, Any],
    digest: str | None = None,
    *,
    rename: bool = True,
) -> dict[str, Any]:
    """The newest readable checkpoint of a run; unreadable ones are set aside.

    Args:
        settings: settings that a run must not change, by the names of their flags.
        defaults: the defaults of those settings.
        digest: of the weights to begin with. If the run began with the same, they may lie elsewhere now.
        rename: whether this process may rename files.

    Raises:
        UserError: no checkpoint can be read now or by this version, or the run had other settings.
    """
    for path in reversed(list_checkpoints(run)):
        if not path.is_file():  # another process has just set it aside
            continue
        try:
            state = read_checkpoint(path)
        except NoCheckpointError as error:
            if rename:
                warn(f"{error} It is set aside; trying the previous one.")
                path.rename(path.with_suffix(UNREADABLE))
            continue
        try:
            about = parse_about(state["config"])
        except ValueError as error:
            raise UserError(f"{path}: its record of the run cannot be read ({error}).") from None
        trained = dict(about.get("settings", {}))
        if digest is not None and about.get("digest") == digest:
            trained["weights"] = settings.get("weights")
        _same_settings(path, trained, settings, defaults)
        return state
    raise UserError(f"{run}: none of its checkpoints can be read; start again with --overwrite.")


def _same_settings(path: Path, was: dict[str, Any], now: dict[str, Any], defaults: dict[str, Any]) -> None:
    was = {name.removeprefix("head."): value for name, value in was.items()}  # for older checkpoints
    # A setting added since the run had its default value; one without a default (a method's) is not compared.
    was = {name: defaults[name] for name in defaults.keys() & now.keys()} | was
    for name in now:  # in order: a differing number of videos says more than the name of the list
        if name in was and was[name] != now[name]:
            if name == "data.train":
                raise UserError(
                    f"{path}: was trained on another list: paths, labels or frame counts differ. Resume with "
                    "the original list, or start a new run in another --out."
                )
            raise UserError(
                f"{path}: was trained with {name} {was[name]}, not {now[name]}; "
                "--resume needs the same settings."
            )
