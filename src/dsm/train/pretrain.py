"""Self-supervised pretraining: from a list of videos to a run folder with checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import nn

from dsm.data.lists import read_list
from dsm.errors import UserError, nearest
from dsm.methods import METHODS, MethodSettings, create_method
from dsm.models.weights import RANDOM
from dsm.runs.folder import plain
from dsm.train.config import RunConfig, begin, in_its_processes
from dsm.train.encoder import starting_encoder
from dsm.train.monitor import MonitorConfig, Watch, look
from dsm.train.trainer import Trainer


@dataclass(frozen=True)
class PretrainConfig(RunConfig):
    """Settings of one pretraining run. Labels are neither needed nor used."""

    method: str = "dsm"
    """dsm, dsm-triplet, moco, be or simclr; each has its own settings below."""
    settings: Annotated[MethodSettings, tyro.conf.arg(name="")] = field(default_factory=MethodSettings)
    weights: str = RANDOM
    """Run or checkpoint whose encoder and backbone to start from; `none` starts from random weights."""
    monitor: MonitorConfig = field(default_factory=MonitorConfig)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UserError(f"unknown method '{self.method}'{nearest(self.method, METHODS)}")
        super().__post_init__()


def pretrain(config: PretrainConfig) -> Path:
    """Train an encoder and write its run folder.

    Returns:
        The run folder.

    Raises:
        UserError: the user can fix it; raised before anything is written where possible.
        Interrupted: stopped by a signal; a checkpoint was written.
    """
    in_its_processes(config, _pretrain)
    return config.out


def _pretrain(config: PretrainConfig) -> None:
    build_trainer(config).run()


def build_trainer(config: PretrainConfig) -> Trainer:
    """Build the trainer of this process and claim the run folder."""
    videos = read_list(config.data.train, config.data.root)
    watch = _watch(config, len(videos) // config.data.batch_size)
    torch.manual_seed(config.seed)
    encoder, made = starting_encoder(config, config.weights)
    config = replace(config, backbone=made["backbone"])  # record the backbone that is trained
    method = create_method(config.method, encoder, config.settings)
    if config.clip.modality == "flow" and any(view.spatial and view.spatial.mixes for view in method.views):
        raise UserError(
            f"{config.method}: its SLD mixes in pictures (replace, background), which optical flow does not "
            "have; set the weight of those kinds to 0, or use --clip.modality rgb."
        )
    begin(config, videos, watch.videos if watch else None)
    about = {
        "method": config.method,
        **made,
        "clip": plain(config.clip),
        "head": method.query.spec,
    }
    return Trainer(config, videos, method, about, watch)


def _watch(config: PretrainConfig, steps_an_epoch: int) -> Watch | None:
    monitor = config.monitor
    watched = monitor.read(config.data.root)
    if watched is None:
        return None

    def ask(method: nn.Module, on_progress: Callable[[int], None]) -> dict[str, float]:
        encoder: Any = method.query.encoder  # type: ignore[union-attr]
        return look(
            encoder, watched, config.clip, windows=monitor.windows, workers=config.data.workers,
            seconds=config.data.timeout, on_progress=on_progress,
        )  # fmt: skip

    return Watch(ask, every=monitor.every * max(steps_an_epoch, 1), best="knn", videos=watched)
