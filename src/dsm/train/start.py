"""Starting a run: its processes, its folder and its record."""

from __future__ import annotations

import os
import shlex
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from dsm.data.lists import VideoList, needed
from dsm.data.loading import allow_handles
from dsm.devices import reading_workers
from dsm.distributed import (
    begun_from_outside,
    check_gpus,
    is_first,
    lost_contact,
    process_count,
    trains_on_cpu,
)
from dsm.errors import UserError
from dsm.files import json_text, write_text
from dsm.launch import GOES_ON, in_processes
from dsm.locks import work
from dsm.models.checkpoint_file import list_checkpoints, step_of
from dsm.models.precision import check_precision
from dsm.models.settings import RANDOM
from dsm.runs.card import about_videos
from dsm.runs.checkpoint import UNREADABLE
from dsm.runs.claims import claim_folder, hold_alone
from dsm.runs.copies import begin_copy
from dsm.runs.folder import git_revision, plain, read_record, run_id, versions
from dsm.runs.results import RESULTS, command_line
from dsm.runs.trackers import check_trackers
from dsm.terminal import console, many
from dsm.train.config import RunConfig
from dsm.train.monitor import check_readable
from dsm.train.prepare import check_processes
from dsm.video.decode import check_decoder
from dsm.video.flow import opencv, saved_flow
from dsm.video.frame_folder import is_folder
from dsm.video.source import VideoError
from dsm.views import View
from dsm.weights_names import path_of

FETCHING = 1800.0
"""Seconds that a process waits for another on its machine to fetch the copy of the run."""
Config = TypeVar("Config", bound=RunConfig)


def in_its_processes(config: Config, function: Callable[[Config], Any]) -> None:
    """Call ``function(config)`` in each of the run's processes.

    Raises:
        UserError: raised by the function; or one of several processes died.
    """
    if config.copy_to:
        _begin_copy(config, config.copy_to)
    if config.devices > 1 and not begun_from_outside():
        check_batch(config, config.devices)
        check_gpus(config.devices)
        in_processes(config.devices, function, config)
        return
    try:
        with work():
            function(config)
    except RuntimeError as error:
        if not begun_from_outside() or not lost_contact(error):
            raise
        time.sleep(2)  # let the launcher notice first which process died
        raise UserError(
            f"process {os.environ['RANK']} of {os.environ['WORLD_SIZE']} lost contact with another process, "
            f"which ended, was killed, or lost its machine. {GOES_ON}"
        ) from None


def _begin_copy(config: RunConfig, url: str) -> None:
    """Check the run's copy in storage, and fetch it where the run folder is missing.

    With a launcher such as torchrun, the first process of each machine fetches it and the others wait.
    """
    if os.environ.get("LOCAL_RANK", "0") == "0":
        checkpoints = list_checkpoints(config.out)
        newest = step_of(checkpoints[-1]) if checkpoints else -1
        try:
            begin_copy(config.out, url, newest, resume=config.resume, overwrite=config.overwrite)
        except UserError:  # on a disk that machines share, the first of them may have fetched it meanwhile
            if newest >= 0 or not (config.resume and list_checkpoints(config.out)):
                raise
    elif config.resume:
        until = time.monotonic() + FETCHING
        while not list_checkpoints(config.out) and time.monotonic() < until:
            time.sleep(1)


def train_once(config: Config, train: Callable[[Config], object]) -> None:
    """Start or resume a run that is part of a larger job; skip it if it is done.

    Args:
        config: settings of the run. The job owns its folder, and has checked that the settings have
            not changed.
        train: trains; returns only when the run is complete.
    """
    checkpoints = list_checkpoints(config.out)
    if checkpoints and (config.out / RESULTS).is_file():
        console.print(f"{config.out} is done ({many(step_of(checkpoints[-1]), 'step')}).")
        return
    if not checkpoints and list((config.out / "checkpoints").glob(f"*{UNREADABLE}")):
        raise UserError(
            f"{config.out}: none of its checkpoints can be read (checkpoints/*{UNREADABLE}); remove this "
            f"folder to train again, or remove {UNREADABLE} from the name of an intact one."
        )
    # Without a checkpoint, the folder has at most a run that stopped before its first one.
    train(replace(config, resume=bool(checkpoints), overwrite=not checkpoints))


def check_batch(config: RunConfig, world: int) -> None:
    """Raise UserError if the batch cannot be divided among the processes and parts."""
    batch, parts = config.data.batch_size, world * config.optim.accumulate
    if batch % parts or batch // parts < 2:
        raise UserError(
            f"--data.batch-size {batch} must be a multiple of {parts} ({world} processes x "
            f"--optim.accumulate {config.optim.accumulate}), and at least {2 * parts}."
        )


def clips_at_once(config: RunConfig) -> int:
    """How many clips a process encodes at once: those of its share of a part of a batch."""
    return config.data.batch_size // (process_count() * config.optim.accumulate)


def check_reading(config: RunConfig, videos: VideoList, views: Sequence[View]) -> None:
    """Check what reading the training videos needs: the videos, their decoder, OpenCV, open files.

    Raises:
        UserError: something is missing.
    """
    workers = reading_workers(config.data.workers, config.data.decoder)
    allow_handles(workers)
    check_decoder(config.data.decoder, workers)
    flow = config.clip.modality == "flow"
    if flow and _has_saved_flow(videos.file(0)):  # needs neither frames nor OpenCV
        return
    check_readable(videos)
    if flow or any(view.temporal and view.temporal.flow for view in views):
        opencv()


def _has_saved_flow(video: Path) -> bool:
    try:
        return is_folder(video) and saved_flow(video) is not None
    except VideoError:  # pictures are missing; reading it will tell
        return True


def begin(config: RunConfig, videos: VideoList, watched: VideoList | None, method: Any) -> None:
    """Check the settings and the machine, claim the run folder and record the run in it.

    Check everything else (weights, the method) first: with ``--overwrite`` this empties the folder.

    Args:
        method: see :class:`dsm.methods.step.Method`.

    Raises:
        UserError: too few videos, or none that can be read; a batch that cannot be divided; a package or a
            GPU that is missing; a network that several processes cannot train; a folder that must not be
            overwritten.
    """
    check_gpus(int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    check_precision(config.precision, "cpu" if trains_on_cpu() else "cuda")
    processes = process_count()
    check_batch(config, processes)
    check_processes(method, processes)
    batch = config.data.batch_size
    if len(videos) < batch:
        remedy = f"set --data.batch-size {len(videos)}." if len(videos) > 1 else "use at least two."
        raise UserError(
            f"{videos.source}: {many(len(videos), 'video is', 'videos are')} too few for a batch "
            f"of {batch}; {remedy}"
        )
    if config.resume and not list_checkpoints(config.out):
        raise UserError(
            f"{config.out}: has no checkpoint to resume from; remove --resume to start a new run."
        )
    if not config.resume:
        check_reading(config, videos, method.views)
    if not is_first():
        return
    check_trackers(config.track)
    if config.resume:
        hold_alone(config.out)
        return
    weights = path_of(getattr(config, "weights", RANDOM))
    claim_folder(config.out, overwrite=config.overwrite, needed=needed(videos, watched, weights))
    write_record(config, videos)


def write_record(config: RunConfig, videos: VideoList) -> None:
    """Record the run in ``config.json`` when it starts and when it resumes: settings may have changed.

    The recorded command repeats the whole run from the start.
    """
    words = [word for word in shlex.split(command_line()) if word not in ("--resume", "--extend")]
    known = run_id(read_record(config.out)) if config.resume else None
    record = {
        "id": known or uuid.uuid4().hex,
        "command": shlex.join(words),
        "config": plain(replace(config, resume=False, extend=False)),
        "data": about_videos(videos),
        "versions": versions(),
        "revision": git_revision(),
    }
    write_text(config.out / "config.json", json_text(record, indent=2) + "\n")
