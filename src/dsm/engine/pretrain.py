"""Self-supervised pretraining: from a list of videos to a run folder with checkpoints."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from lightning_fabric import Fabric
from torch import Tensor

from dsm.augment import Augment
from dsm.datasets.clips import EpochBatches, TrainingClips
from dsm.datasets.lists import VideoList, read_list
from dsm.datasets.reading import ClipConfig
from dsm.disturb.views import render_view
from dsm.engine.bad_videos import BadVideos
from dsm.engine.checkpoint import save_checkpoint
from dsm.engine.interrupt import Interrupted, stop_flag
from dsm.engine.loading import Batches
from dsm.engine.optim import OptimConfig, build_optimizer, learning_rate
from dsm.engine.progress import Clock, console, progress
from dsm.engine.runfolder import RunLog, claim_folder, flat, git_revision, plain, versions
from dsm.errors import UserError, nearest
from dsm.evaluate.results import command_line
from dsm.files import write_text
from dsm.methods import METHODS, MethodSettings, create_method
from dsm.modality import MODALITIES
from dsm.models.pooling import Pooling
from dsm.models.precision import Precision, channels_last, compute_in
from dsm.models.weights import list_checkpoints, read_checkpoint
from dsm.models.zoo import check_name, create_model
from dsm.video.decode import Decoder


@dataclass(frozen=True)
class DataConfig:
    """Which videos, and how they reach the network."""

    train: Path
    """List of training videos; labels are not needed and not looked at."""
    root: Path | None = None
    """Folder put before relative paths; left out, the list's own."""
    batch_size: int = 16
    """Videos a step."""
    workers: int = 1
    """Processes that decode; 0 decodes in between. The batches are the same whatever the number."""
    cache_mb: int = 0
    """Memory in MB, a worker, to keep decoded videos in: what fits is decoded in the first epoch only."""
    decoder: Decoder = "pyav"
    """What decodes files; torchcodec is an extra, and torchcodec-cuda wants a GPU and `--data.workers 0`."""
    max_bad: float = 0.05
    """Share of the videos that may turn out to be unreadable; others are taken in their place."""
    timeout: float = 60.0
    """Seconds that reading one video may take; a worker that hangs on one longer is replaced."""


@dataclass(frozen=True)
class PretrainConfig:
    """Settings of one pretraining run."""

    data: DataConfig
    out: Path
    """Run folder to write."""
    method: str = "dsm"
    """dsm, dsm-triplet or moco; each has settings of its own below."""
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
    settings: Annotated[MethodSettings, tyro.conf.arg(name="")] = field(default_factory=MethodSettings)
    precision: Precision = "fp32"
    """What the encoder computes in: bf16 is twice as fast where the machine has instructions for it."""
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
    overwrite: bool = False
    """Replace the run in `out`."""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UserError(f"unknown method '{self.method}'{nearest(self.method, METHODS)}")
        check_name(self.backbone)
        if self.resume and self.overwrite:
            raise UserError("--resume and --overwrite exclude each other: go on, or begin anew?")
        if min(self.epochs, self.log_every, self.save_every, self.keep) < 1:
            raise UserError("epochs, log-every, save-every and keep must be at least 1.")
        if self.data.batch_size < 2 or min(self.data.workers, self.data.cache_mb, self.seed) < 0:
            raise UserError(
                "data.batch-size must be at least 2; data.workers, data.cache-mb and seed at least 0."
            )
        if not 0 <= self.data.max_bad <= 1 or not self.data.timeout > 0:
            raise UserError("data.max-bad must be from 0 to 1, data.timeout above 0 seconds.")
        if self.steps is not None and self.steps < 1:
            raise UserError(f"steps must be at least 1, not {self.steps}.")


def pretrain(config: PretrainConfig) -> Path:
    """Train an encoder and write its run folder.

    Returns:
        The run folder.

    Raises:
        UserError: something the user can mend; found before anything is written where possible.
        Interrupted: stopped by a signal; a checkpoint was written.
    """
    videos = read_list(config.data.train, config.data.root)
    if len(videos) < config.data.batch_size:
        remedy = f"set --data.batch-size {len(videos)}." if len(videos) > 1 else "at least two are needed."
        raise UserError(
            f"{videos.source}: {len(videos)} videos are too few for a batch of "
            f"{config.data.batch_size}; {remedy}"
        )
    if config.resume and not list_checkpoints(config.out):
        raise UserError(f"{config.out}: holds no checkpoint to resume from; leave --resume out to begin.")
    if not config.resume:
        claim_folder(config.out, overwrite=config.overwrite)
        record = {
            "command": command_line(),
            "config": plain(config),
            "versions": versions(),
            "revision": git_revision(),
        }
        write_text(config.out / "config.json", json.dumps(record, indent=2) + "\n")
    _Trainer(config, videos).run()
    return config.out


class _Trainer:
    """One run: what is set up once, and the loop."""

    def __init__(self, config: PretrainConfig, videos: VideoList) -> None:
        self.config = config
        self.fabric = Fabric(accelerator="auto", devices=1)
        torch.manual_seed(config.seed)
        model_settings: dict[str, Any] = {"in_channels": MODALITIES[config.clip.modality].channels}
        if config.pooling:
            model_settings["pooling"] = config.pooling
        encoder = create_model(config.backbone, **model_settings)
        if hasattr(encoder, "pooling"):
            model_settings["pooling"] = encoder.pooling
        method = create_method(config.method, encoder, config.settings)
        channels_last(method)
        self.method = method
        optimizer = build_optimizer(config.optim, method.parameters())
        self.module, self.optimizer = self.fabric.setup(method, optimizer)
        per_epoch = len(videos) // config.data.batch_size
        self.total = config.steps or config.epochs * per_epoch
        self.step = 0
        self.saved_config = {
            "method": config.method,
            "backbone": config.backbone,
            "model": model_settings,
            "clip": plain(config.clip),
            "head": method.query.spec,
            "settings": lasting_settings(config, videos),
        }
        if config.resume:
            self._load()
        self.batches = self._build_batches(videos)
        self.bad = BadVideos(config.out, videos, config.data.max_bad)

    def _build_batches(self, videos: VideoList) -> Batches:
        c, d = self.config, self.config.data
        clips = TrainingClips(
            videos, c.clip, c.augment, self.method.views, c.seed, d.cache_mb, d.timeout, d.workers, d.decoder
        )
        order = EpochBatches(len(videos), d.batch_size, c.seed, self.step, self.total)
        return Batches(clips, order, d.workers, d.timeout, pin_memory=self.fabric.device.type == "cuda")

    def run(self) -> None:
        c = self.config
        log = RunLog(c.out, keep_steps=self.step)
        title = f"{c.method} on {c.backbone}"
        self.module.train()
        with stop_flag() as stop, progress(title, self.total, start=self.step) as bar:
            try:
                clock, timing = Clock(), {}
                for batch in self.batches:
                    clock.lap("wait")
                    self.bad.add(batch.pop("bad"))
                    metrics = self._train_step(batch)
                    clock.lap("work")
                    self.step += 1
                    if self.step % c.log_every == 0 or self.step == self.total:
                        timing = clock.read(c.data.batch_size)
                        log.write(self.step, {**metrics, **timing})
                    bar.update(self.step, _note(metrics, timing) + self.bad.note())
                    if self.step % c.save_every == 0 and self.step < self.total:
                        self._save()
                    if stop.signal and self.step < self.total:
                        self._save()
                        raise Interrupted(
                            f"stopped at step {self.step} of {self.total} and saved; "
                            f"the same command with --resume goes on.",
                            stop.signal,
                        )
                    clock.restart()
                self._save()
            finally:
                log.close()

    def _train_step(self, batch: dict[str, Any]) -> dict[str, float]:
        lr = learning_rate(self.config.optim, self.step, self.total)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        batch = self.fabric.to_device(batch)
        views: dict[str, Tensor] = {
            view.name: render_view(
                view, batch["clips"][view.name], batch["parameters"][view.name], self.config.clip.modality
            ).contiguous(memory_format=torch.channels_last_3d)
            for view in self.method.views
        }
        with compute_in(self.config.precision, self.fabric.device.type):
            output = self.module(views)
        self.optimizer.zero_grad()
        self.fabric.backward(output.loss)
        self.optimizer.step()
        self.method.after_step(output, progress=(self.step + 1) / self.total)
        loss = float(output.loss.detach())
        if not math.isfinite(loss):
            raise UserError(
                f"the loss became {loss} at step {self.step + 1}; try a lower --optim.lr, "
                f"or --resume from the newest checkpoint in {self.config.out}."
            )
        return {"loss": loss, "lr": lr, **{name: float(value) for name, value in output.metrics.items()}}

    def _save(self) -> None:
        state = {
            "config": json.dumps(self.saved_config),
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": torch.get_rng_state(),
        }
        save_checkpoint(self.config.out, self.step, state, keep=self.config.keep)

    def _same_settings(self, path: Path, state: dict[str, Any]) -> None:
        was, now = json.loads(state["config"]).get("settings", {}), self.saved_config["settings"]
        for name in sorted(was.keys() | now.keys()):
            if was.get(name) != now.get(name):
                raise UserError(
                    f"{path}: was trained with {name} {was.get(name)}, not {now.get(name)}; "
                    "--resume needs the same settings."
                )

    def _load(self) -> None:
        """Take up the newest checkpoint that can be read."""
        for path in reversed(list_checkpoints(self.config.out)):
            try:
                state = read_checkpoint(path)
            except UserError as error:
                console.print(f"{error} It is set aside; trying the one before.", style="yellow")
                path.rename(path.with_suffix(".unreadable"))
                continue
            self._same_settings(path, state)
            self.method.load_state_dict(state["method"])
            self.optimizer.load_state_dict(state["optimizer"])
            torch.set_rng_state(state["rng"])
            self.step = int(state["step"])
            return
        raise UserError(
            f"{self.config.out}: none of its checkpoints can be read; begin anew with --overwrite."
        )


def lasting_settings(config: PretrainConfig, videos: VideoList) -> dict[str, Any]:
    """What must stay as it was for a run to go on as if never stopped, by the names of its flags."""
    free = {"out", "epochs", "steps", "log_every", "save_every", "keep", "resume", "overwrite"}
    settings = {name: value for name, value in plain(config).items() if name not in free}
    settings["data"] = {"batch_size": config.data.batch_size, "videos": len(videos)}
    settings |= settings.pop("settings")  # on the command line, methods have no common prefix
    return flat(settings)


def _note(metrics: dict[str, float], timing: dict[str, float]) -> str:
    motion = f"  motion {metrics['motion']:.0%}" if "motion" in metrics else ""
    speed = "  {clips_per_second:.1f} clips/s  waiting {data_wait:.0%}".format(**timing) if timing else ""
    return f"loss {metrics['loss']:.3f}{motion}  lr {metrics['lr']:.1e}{speed}"
