"""What every training has in common: its settings, its processes, its folder."""

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
from dsm.models.checkpoint_file import list_checkpoints
from dsm.models.pooling import Pooling
from dsm.models.precision import Precision
from dsm.models.weights import RANDOM
from dsm.models.zoo import check_name
from dsm.runs.card import about_videos
from dsm.runs.checkpoint import UNREADABLE
from dsm.runs.folder import claim_folder, git_revision, plain, versions
from dsm.runs.results import RESULTS, command_line
from dsm.terminal import console, many
from dsm.train.optim import OptimConfig
from dsm.video.decode import Decoder
from dsm.video.source import READING_TIME
from dsm.views import Augment


@dataclass(frozen=True)
class DataConfig:
    """Which videos, and how they reach the network."""

    train: Path
    """List of training videos."""
    root: Path | None = None
    """Folder put before relative paths; left out, the list's own."""
    batch_size: int = 16
    """Videos a step, of all processes and parts (`--optim.accumulate`) together."""
    workers: int = 1
    """Processes that decode, for each that trains; 0 decodes in between. The batches are always the same."""
    cache_mb: int = 0
    """Memory in MB, of each worker, to keep decoded videos in. With one worker or none each is decoded once;
    every other worker keeps videos of its own, so that with many `dsm data pack` is better."""
    decoder: Decoder = "pyav"
    """What decodes files; torchcodec is an extra, and torchcodec-cuda wants a GPU and `--data.workers 0`."""
    max_bad: float = 0.05
    """Share of the videos that may turn out to be unreadable; others are taken in their place."""
    timeout: float = READING_TIME
    """Seconds that reading one video may take; a worker that hangs on one longer is replaced."""


@dataclass(frozen=True)
class RunConfig:
    """Settings of any training run."""

    data: DataConfig
    out: Path
    """Run folder to write."""
    backbone: str = "i3d"
    """What to train; `dsm models` lists them."""
    pooling: Pooling | None = None
    """How a feature map becomes one vector; left out, the backbone's own way."""
    epochs: int = 240
    """How often every video is seen."""
    steps: int | None = None
    """Stop after so many steps instead."""
    clip: ClipConfig = field(default_factory=ClipConfig)
    augment: Augment = field(default_factory=Augment)
    optim: OptimConfig = field(default_factory=OptimConfig)
    precision: Precision = "fp32"
    """What the encoder computes in: bf16 is twice as fast where the machine has instructions for it; fp16 is
    for older GPUs, and its loss is scaled."""
    recompute: bool = False
    """Compute activations anew in the backward pass: half the memory or less, for a second forward pass."""
    compile: bool = False
    """Compile the encoder (torch.compile): slower to begin, faster on GPUs; nothing gained on CPUs."""
    devices: int = 1
    """Processes on this machine, one a GPU, or sharing the cores; for several machines there is torchrun."""
    nonfinite: Literal["stop", "skip"] = "stop"
    """What to do at a step whose numbers are not finite: stop, or leave it out and count it."""
    seed: int = 0
    """Seeds the weights, the order and every draw of every sample."""
    log_every: int = 10
    """Steps between logged lines."""
    save_every: int = 200
    """Steps between checkpoints; there is one at the end in any case."""
    keep: int = 2
    """How many of the newest checkpoints stay."""
    resume: bool = False
    """Go on from the newest good checkpoint in `out`."""
    extend: bool = False
    """With `resume`: go on to other `steps` or `epochs` than the run had; from there on the learning rate is
    that of the new schedule."""
    overwrite: bool = False
    """Replace the run in `out`."""

    def __post_init__(self) -> None:
        check_name(self.backbone)
        if self.resume and self.overwrite:
            raise UserError("--resume and --overwrite exclude each other: go on, or begin anew?")
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
    """Call ``function(config)`` in as many processes as the run is to have.

    Raises:
        UserError: what the function raises; or one of many processes has gone.
    """
    if config.devices > 1 and not begun_from_outside():
        check_batch(config, config.devices)
        in_processes(config.devices, function, config)
        return
    try:
        function(config)
    except RuntimeError as error:
        if not begun_from_outside() or not lost_contact(error):
            raise
        time.sleep(2)  # whoever began the processes is to see first which of them has gone
        raise UserError(
            f"process {os.environ['RANK']} of {os.environ['WORLD_SIZE']} has lost another one: it ended, "
            f"was killed, or its machine is gone. {GOES_ON}"
        ) from None


def train_once(config: Config, train: Callable[[Config], object]) -> None:
    """Begin a run that is a part of larger work, go on with it, or see that it is done.

    Args:
        config: of the run; its folder belongs to the larger work, which has seen that the settings are the
            same as before.
        train: what trains; it returns only from a run that has come to its end.
    """
    found = list_checkpoints(config.out)
    if found and (config.out / RESULTS).is_file():
        steps = int(found[-1].stem.removeprefix("step_"))
        console.print(f"{config.out}: is done ({many(steps, 'step')}).")
        return
    if not found and list((config.out / "checkpoints").glob(f"*{UNREADABLE}")):
        raise UserError(
            f"{config.out}: none of its checkpoints can be read (checkpoints/*{UNREADABLE}); remove this "
            "folder to train it anew, or give one that is sound its old name."
        )
    # Without a checkpoint there is at most a run that has not got so far.
    train(replace(config, resume=bool(found), overwrite=not found))


def check_batch(config: RunConfig, world: int) -> None:
    """Raise UserError where the batch cannot be divided among the processes and parts."""
    batch, parts = config.data.batch_size, world * config.optim.accumulate
    if batch % parts or batch // parts < 2:
        raise UserError(
            f"--data.batch-size {batch} is divided among {world} processes and --optim.accumulate "
            f"{config.optim.accumulate}: it must be a multiple of {parts}, and at least {2 * parts}."
        )


def begin(config: RunConfig, videos: VideoList, watched: VideoList | None) -> None:
    """See that the run can be, take its folder and write down what it is.

    What else could be wrong (weights, the method) is found before: ``--overwrite`` empties the folder here.

    Raises:
        UserError: too few videos, a batch that cannot be divided, a folder that is not to be written to.
    """
    if config.precision == "fp16" and trains_on_cpu():
        raise UserError("--precision fp16 wants a GPU; on the CPU bf16 is the fast one.")
    check_batch(config, int(os.environ.get("WORLD_SIZE", "1")))
    batch = config.data.batch_size
    if len(videos) < batch:
        remedy = f"set --data.batch-size {len(videos)}." if len(videos) > 1 else "at least two are needed."
        raise UserError(
            f"{videos.source}: {many(len(videos), 'video is', 'videos are')} too few for a batch "
            f"of {batch}; {remedy}"
        )
    if config.resume and not list_checkpoints(config.out):
        raise UserError(f"{config.out}: holds no checkpoint to resume from; leave --resume out to begin.")
    if config.resume or not is_first():
        return
    weights = Path(getattr(config, "weights", RANDOM))
    claim_folder(config.out, overwrite=config.overwrite, needed=needed(videos, watched, weights))
    write_record(config, videos)


def write_record(config: RunConfig, videos: VideoList) -> None:
    """Write down what a run is: when it begins, and when it goes on, since some settings may be others then.

    The command is one that makes the whole run anew.
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
