"""Settings, processes and the run folder shared by all training."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from dsm.data.lists import VideoList, needed
from dsm.data.reading import ClipConfig
from dsm.distributed import GOES_ON, begun_from_outside, in_processes, is_first, lost_contact, trains_on_cpu
from dsm.errors import UserError
from dsm.files import json_text, write_text
from dsm.locks import work
from dsm.models.checkpoint_file import list_checkpoints
from dsm.models.pooling import Pooling
from dsm.models.precision import Precision
from dsm.models.weights import RANDOM
from dsm.models.zoo import check_name
from dsm.runs.card import about_videos
from dsm.runs.checkpoint import UNREADABLE
from dsm.runs.folder import claim_folder, git_revision, hold_alone, plain, versions
from dsm.runs.results import RESULTS, command_line
from dsm.terminal import console, many
from dsm.train.optim import OptimConfig
from dsm.video.decode import Decoder
from dsm.video.source import READING_TIME
from dsm.views import Augment


@dataclass(frozen=True)
class DataConfig:
    """Which videos to train on, and how to read them."""

    train: Path
    """List of training videos."""
    root: Path | None = None
    """Folder that relative paths start from; by default the list's own folder."""
    batch_size: int = 16
    """Videos per step, over all processes and all `--optim.accumulate` parts."""
    workers: int = 1
    """Decoding processes per training process; 0 decodes in the training process itself. The batches do not
    depend on it."""
    cache_mb: int = 0
    """MB of memory in which each worker keeps decoded videos. With at most one worker each video is decoded
    once; several workers each keep their own copies, so prefer `dsm data pack` then."""
    decoder: Decoder = "pyav"
    """What decodes files. torchcodec is an extra; torchcodec-cuda needs a GPU and `--data.workers 0`."""
    max_bad: float = 0.05
    """Share of the videos that may be unreadable before the run stops; others replace them."""
    timeout: float = READING_TIME
    """Seconds that reading one video may take; a worker that takes longer is replaced."""


@dataclass(frozen=True)
class RunConfig:
    """Settings common to all training runs."""

    data: DataConfig
    out: Path
    """Run folder to write."""
    backbone: str = "i3d"
    """Network to train; `dsm models` lists them."""
    pooling: Pooling | None = None
    """How a feature map becomes one vector; by default as the backbone defines it."""
    epochs: int = 240
    """Passes over all videos."""
    steps: int | None = None
    """Number of steps; replaces `epochs`."""
    clip: ClipConfig = field(default_factory=ClipConfig)
    augment: Augment = field(default_factory=Augment)
    optim: OptimConfig = field(default_factory=OptimConfig)
    precision: Precision = "fp32"
    """Number format of the encoder's computation. bf16 is twice as fast on machines with bf16 instructions;
    fp16, with loss scaling, is for older GPUs."""
    recompute: bool = False
    """Recompute activations in the backward pass: at most half the memory, but a second forward pass."""
    compile: bool = False
    """Compile the encoder (torch.compile): starts slower, then runs faster on GPUs; no gain on CPUs."""
    devices: int = 1
    """Processes on this machine: at most one per GPU, or sharing the CPU cores. For several machines use
    torchrun."""
    nonfinite: Literal["stop", "skip"] = "stop"
    """What to do when a step's loss or gradient is not finite: stop, or skip the step and count it."""
    seed: int = 0
    """Seed of the weights, the order of the videos and all random sampling."""
    log_every: int = 10
    """Steps between log lines."""
    save_every: int = 200
    """Steps between checkpoints; the last step always writes one."""
    keep: int = 2
    """Number of newest checkpoints to keep."""
    resume: bool = False
    """Continue from the newest intact checkpoint in `out`."""
    extend: bool = False
    """With `resume`: allow `steps` or `epochs` to differ from the run's; the learning rate then follows the
    new schedule."""
    overwrite: bool = False
    """Replace the run in `out`."""

    def __post_init__(self) -> None:
        check_name(self.backbone)
        if self.resume and self.overwrite:
            raise UserError("--resume and --overwrite exclude each other: continue the run, or replace it?")
        if min(self.epochs, self.log_every, self.save_every, self.keep, self.devices) < 1:
            raise UserError("epochs, log-every, save-every, keep and devices must be at least 1.")
        if self.data.batch_size < 2 or min(self.data.workers, self.data.cache_mb, self.seed) < 0:
            raise UserError(
                "data.batch-size must be at least 2; data.workers, data.cache-mb and seed at least 0."
            )
        if not 0 <= self.data.max_bad <= 1 or not self.data.timeout > 0:
            raise UserError("data.max-bad must be from 0 to 1, data.timeout above 0 seconds.")
        if self.steps is not None and self.steps < 1:
            raise UserError(f"steps must be at least 1, not {self.steps}.")


Config = TypeVar("Config", bound=RunConfig)


def in_its_processes(config: Config, function: Callable[[Config], Any]) -> None:
    """Call ``function(config)`` in each of the run's processes.

    Raises:
        UserError: raised by the function; or one of several processes died.
    """
    if config.devices > 1 and not begun_from_outside():
        check_batch(config, config.devices)
        in_processes(config.devices, function, config)
        return
    try:
        with work():
            function(config)
    except RuntimeError as error:
        if not begun_from_outside() or not lost_contact(error):
            raise
        time.sleep(2)  # the launcher should notice first which process died
        raise UserError(
            f"process {os.environ['RANK']} of {os.environ['WORLD_SIZE']} lost contact with another process, "
            f"which ended, was killed, or lost its machine. {GOES_ON}"
        ) from None


def train_once(config: Config, train: Callable[[Config], object]) -> None:
    """Start or resume a run that is one part of a larger job; skip it if it is done.

    Args:
        config: settings of the run. Its folder belongs to the job, which has checked that the settings have
            not changed.
        train: trains; returns only when the run is complete.
    """
    checkpoints = list_checkpoints(config.out)
    if checkpoints and (config.out / RESULTS).is_file():
        steps = int(checkpoints[-1].stem.removeprefix("step_"))
        console.print(f"{config.out}: is done ({many(steps, 'step')}).")
        return
    if not checkpoints and list((config.out / "checkpoints").glob(f"*{UNREADABLE}")):
        raise UserError(
            f"{config.out}: none of its checkpoints can be read (checkpoints/*{UNREADABLE}); remove this "
            f"folder to train again, or remove {UNREADABLE} from the name of an intact one."
        )
    # Without a checkpoint the folder holds at most a run that stopped before its first one.
    train(replace(config, resume=bool(checkpoints), overwrite=not checkpoints))


def check_batch(config: RunConfig, world: int) -> None:
    """Raise UserError if the batch cannot be divided among the processes and parts."""
    batch, parts = config.data.batch_size, world * config.optim.accumulate
    if batch % parts or batch // parts < 2:
        raise UserError(
            f"--data.batch-size {batch} is divided among {world} processes and --optim.accumulate "
            f"{config.optim.accumulate}: it must be a multiple of {parts}, and at least {2 * parts}."
        )


def begin(config: RunConfig, videos: VideoList, watched: VideoList | None) -> None:
    """Check the settings, claim the run folder and record the run in it.

    Check everything else (weights, the method) before: ``--overwrite`` empties the folder here.

    Raises:
        UserError: too few videos, a batch that cannot be divided, a folder that must not be overwritten.
    """
    if config.precision == "fp16" and trains_on_cpu():
        raise UserError("--precision fp16 needs a GPU; on the CPU use bf16.")
    check_batch(config, int(os.environ.get("WORLD_SIZE", "1")))
    batch = config.data.batch_size
    if len(videos) < batch:
        remedy = f"set --data.batch-size {len(videos)}." if len(videos) > 1 else "use at least two."
        raise UserError(
            f"{videos.source}: {many(len(videos), 'video is', 'videos are')} too few for a batch "
            f"of {batch}; {remedy}"
        )
    if config.resume and not list_checkpoints(config.out):
        raise UserError(
            f"{config.out}: holds no checkpoint to resume from; drop --resume to start a new run."
        )
    if not is_first():
        return
    if config.resume:
        hold_alone(config.out)
        return
    weights = Path(getattr(config, "weights", RANDOM))
    claim_folder(config.out, overwrite=config.overwrite, needed=needed(videos, watched, weights))
    write_record(config, videos)


def write_record(config: RunConfig, videos: VideoList) -> None:
    """Record the run in ``config.json`` when it starts and when it resumes: settings may have changed.

    The recorded command repeats the whole run from the start.
    """
    words = [word for word in shlex.split(command_line()) if word not in ("--resume", "--extend")]
    record = {
        "command": shlex.join(words),
        "config": plain(replace(config, resume=False, extend=False)),
        "data": about_videos(videos),
        "versions": versions(),
        "revision": git_revision(),
    }
    write_text(config.out / "config.json", json_text(record, indent=2) + "\n")
