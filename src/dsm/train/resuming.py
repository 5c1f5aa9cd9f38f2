"""Checks before resuming a run: its settings and its length must not have changed."""

from __future__ import annotations

from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from dsm.data.lists import VideoList
from dsm.distributed import greatest, is_first
from dsm.errors import UserError
from dsm.runs.folder import HOW_IT_TRAINS, flat, plain, read_record
from dsm.terminal import warn
from dsm.train.config import DataConfig, RunConfig
from dsm.train.optim import learning_rate

FREE = HOW_IT_TRAINS | {"monitor", "test_every", "test_windows", "epochs", "steps"}
"""Settings that a resumed run may change: they do not affect what is learned, except epochs and steps, which
:func:`check_length` checks, and devices: each process mixes only the clips of its own part of a batch."""
EARLIER = {"dsm-triplet.joint": False}
"""What runs did before these settings existed, where it differs from their default now."""
WITHOUT_PREFIX = ("settings", "head")
"""Groups of settings whose flags omit the group's name."""


def lasting_settings(config: RunConfig, videos: VideoList) -> dict[str, Any]:
    """The settings, by flag, that must not change for a run to resume as if it had never stopped."""
    settings = {name: value for name, value in plain(config).items() if name not in FREE}
    listed = f"list {videos.digest(rooted=False)[:12]} (paths, labels, frames)"
    settings["data"] = {
        "batch_size": config.data.batch_size,
        "videos": len(videos),
        "train": listed,
        "decoder": config.data.decoder,
    }
    for part in WITHOUT_PREFIX:
        settings |= settings.pop(part, {})
    return flat(settings)


def default_settings(config: RunConfig, videos: VideoList) -> dict[str, Any]:
    """:func:`lasting_settings` of the same method with default settings.

    Old checkpoints do not record the decoder; the run's own record does.
    """
    values = {one.name: one.default for one in fields(config) if one.default is not MISSING}
    made = {one.name: one.default_factory() for one in fields(config) if one.default_factory is not MISSING}
    method = {"method": config.method} if hasattr(config, "method") else {}
    settings = lasting_settings(replace(config, **{**values, **made, **method}), videos)
    recorded = ((read_record(config.out) or {}).get("config", {}).get("data") or {}).get("decoder")
    own = f"{getattr(config, 'method', '')}."
    earlier = {name: value for name, value in EARLIER.items() if name.startswith(own)}
    return {**settings, **earlier, "data.decoder": recorded or DataConfig.decoder}


def check_alike(fabric: Fabric, out: Path, step: int) -> None:
    """Check that all processes read the same checkpoint; every process must call this.

    Raises:
        UserError: their steps differ. All processes raise it.
    """
    last, first = greatest(fabric, step, -step)
    if last != -first:
        raise UserError(
            f"{out}: the processes resume from different checkpoints, of step {-first} and of step {last}; "
            "--out must be one folder that all machines share. If it is, the machines do not yet see the "
            "same files in it: run the same command again."
        )


def steps_of(steps: int | None, epochs: int, videos: int, batch_size: int) -> int:
    """Length of a training in steps, from ``steps`` or else ``epochs``: as many clips as that many passes.

    An epoch's last, short batch is dropped, so whole epochs could be as few as half as many clips.
    """
    return steps or max(round(epochs * videos / batch_size), 1)


def _whole_batches(epochs: int, videos: int, batch_size: int) -> int:
    """The same in older versions, which counted an epoch's whole batches."""
    return epochs * (videos // batch_size)


def check_length(config: RunConfig, videos: VideoList, began: int | None, done: int, *, ramped: bool) -> int:
    """Check that a resumed run keeps its planned length, on which the schedules depend.

    Args:
        began: planned steps in its checkpoint; None in old checkpoints, where the run's record gives them.
        done: steps already trained.
        ramped: whether the method has a schedule over the length of the training.

    Returns:
        Its length in steps.

    Raises:
        UserError: the length differs, and ``--extend`` is not set; or it is less than what is done.
    """
    batch = config.data.batch_size
    total = steps_of(config.steps, config.epochs, len(videos), batch)
    was = (read_record(config.out) or {}).get("config", {})
    epochs = was.get("epochs", config.epochs)
    older = _whole_batches(epochs, len(videos), batch)
    began = began or was.get("steps") or older
    if began == older and not config.steps and not was.get("steps") and epochs == config.epochs:
        total = began  # planned by an older version
    if total < done:
        raise UserError(
            f"{config.out}: {done} steps are done, more than {total}; set --steps or --epochs to more, or "
            f"begin another run."
        )
    steady = config.optim.schedule == "step" and not config.optim.milestones
    if began == total or (steady and not ramped):
        return total
    before, now = (
        learning_rate(config.optim, done, length, batch) if done < length else 0 for length in (began, total)
    )
    if not config.extend:
        raise UserError(
            f"{config.out} was planned for {began} steps, not {total}, and its schedules depend on that; "
            f"--steps {began} continues as planned, --extend continues to step {total} with the learning "
            f"rate of a run of that length (at step {done} {now:.3g}, not {before:.3g})."
        )
    if is_first():
        warn(
            f"the run was planned for {began} steps and now continues to {total}, with the learning rate of "
            f"a run of that length: {now:.3g} at step {done}, not {before:.3g}."
        )
    return total
