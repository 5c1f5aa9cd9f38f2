"""What must stay as it was for a run to go on: its settings, and how long it is to be."""

from __future__ import annotations

from dataclasses import MISSING, fields, replace
from typing import Any

from dsm.data.lists import VideoList
from dsm.distributed import is_first
from dsm.errors import UserError
from dsm.runs.folder import flat, plain, read_record
from dsm.terminal import warn
from dsm.train.config import DataConfig, RunConfig
from dsm.train.optim import learning_rate

FREE = frozenset(
    ("out", "epochs", "steps", "log_every", "save_every", "keep", "resume", "extend", "overwrite", "devices",
     "monitor", "compile", "recompute", "nonfinite")
)  # fmt: skip
"""Settings that a resumed run may change: they do not touch the numbers, but for epochs and steps, of which
:func:`check_length` has its own say."""
WITHOUT_PREFIX = ("settings", "head")
"""Parts whose settings stand on the command line without the part's name."""


def lasting_settings(config: RunConfig, videos: VideoList) -> dict[str, Any]:
    """What must stay as it was for a run to go on as if never stopped, by the names of its flags."""
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
    """As :func:`lasting_settings`, of the same method, where nobody says anything.

    Checkpoints once did not say what decoded; the run's own record does.
    """
    plain_ = {one.name: one.default for one in fields(config) if one.default is not MISSING}
    made = {one.name: one.default_factory() for one in fields(config) if one.default_factory is not MISSING}
    chosen = {"method": config.method} if hasattr(config, "method") else {}
    settings = lasting_settings(replace(config, **{**plain_, **made, **chosen}), videos)
    recorded = ((read_record(config.out) or {}).get("config", {}).get("data") or {}).get("decoder")
    return {**settings, "data.decoder": recorded or DataConfig.decoder}


def steps_of(steps: int | None, epochs: int, videos: int, batch_size: int) -> int:
    """How long a training is: so many steps, or so many times all videos."""
    return steps or epochs * (videos // batch_size)


def check_length(config: RunConfig, videos: VideoList, began: int | None, done: int, *, ramped: bool) -> None:
    """See that a resumed run is as long as it was to be: learning rate and momentum go by its length.

    Args:
        began: steps it was to have, by its checkpoint; None in one of older versions, whose record tells.
        done: steps it has made.
        ramped: whether the method changes something over the training's length too.

    Raises:
        UserError: it was to be of another length, and ``--extend`` does not say that this is meant.
    """
    batch = config.data.batch_size
    total = steps_of(config.steps, config.epochs, len(videos), batch)
    if began is None:
        was = (read_record(config.out) or {}).get("config", {})
        epochs = was.get("epochs", config.epochs)
        began = steps_of(was.get("steps"), epochs, len(videos), batch)
    steady = config.optim.schedule == "step" and not config.optim.milestones
    if began == total or (steady and not ramped):
        return
    before, now = (
        learning_rate(config.optim, done, length, batch) if done < length else 0 for length in (began, total)
    )
    if not config.extend:
        raise UserError(
            f"{config.out}: was to have {began} steps, not {total}, and its schedules go by that; "
            f"--steps {began} goes on as it began, --extend goes on to step {total} by the learning rate of "
            f"such a run (at step {done} {now:.3g}, not {before:.3g})."
        )
    if is_first():
        warn(
            f"the run was to have {began} steps and goes on to {total}: the learning rate is that of such a "
            f"run, {now:.3g} at step {done}, not {before:.3g}."
        )
