"""Self-supervised pretraining: from a list of videos to a run folder with checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dsm.data.lists import VideoList, read_list
from dsm.devices import reading_workers
from dsm.distributed import process_count
from dsm.errors import UserError
from dsm.evaluate.balance import BALANCE
from dsm.methods.registry import create_method
from dsm.models.tuning import tuned
from dsm.runs.folder import plain
from dsm.storage.cache import set_cache
from dsm.terminal import note
from dsm.train.adaptation import Adaptation, Retention
from dsm.train.config import PretrainConfig
from dsm.train.encoder import starting_encoder
from dsm.train.evaluations import Evaluation
from dsm.train.monitor import compare_scenes, knn_and_recall, monitored_videos, sampled
from dsm.train.resuming import steps_of
from dsm.train.start import begin, clips_at_once, in_its_processes
from dsm.train.trainer import Trainer

BEFORE = "before.npz"
"""In a run that adapts an encoder: features of the monitored videos before the first step."""


def pretrain(config: PretrainConfig) -> Path:
    """Train an encoder and write its run folder.

    Returns:
        The run folder.

    Raises:
        UserError: a mistake that the user can fix, reported before anything is written where possible.
        Interrupted: stopped by a signal; a checkpoint was written.
    """
    in_its_processes(config, _pretrain)
    return config.out


def _pretrain(config: PretrainConfig) -> None:
    build_trainer(config).run()


def build_trainer(config: PretrainConfig, *, channels_last: bool = True, fused: bool = True) -> Trainer:
    """Build the trainer of this process and claim the run folder; the last two as for ``Trainer``."""
    set_cache(config.data.cache_folder, config.data.cache_gb)
    videos = read_list(config.data.train, config.data.root)
    torch.manual_seed(config.seed)
    encoder, made, clip = starting_encoder(config)
    config = replace(config, backbone=made["backbone"], clip=clip)  # record what is actually trained
    flow = config.clip.modality == "flow"
    bending = config.settings.without_mixing()
    if flow and bending != config.settings:
        note("with optical flow, SLD only bends the frames: pictures cannot be mixed into flow.")
        config = replace(config, settings=bending)
    evaluation = _evaluation(config, videos)
    if config.tune is not None:
        if evaluation is None:
            remedy = "--monitor.list" if flow else "--monitor.list or --monitor.videos 200"
            note(
                f"nothing is evaluated, so the run cannot say whether adapting helps; {remedy} tells.",
                about=f"adapting in {config.out}",
            )
        encoder, added = tuned(encoder, config.tune, config.rank)
        made = {**made, **added}
    method = create_method(config.method, encoder, config.settings)
    mixed = {name for view in method.views if view.spatial for name in view.spatial.mixes}
    if flow and mixed:
        raise UserError(
            f"{config.method}: its SLD mixes pictures ({', '.join(sorted(mixed))}) into clips, which optical "
            "flow does not allow; use only kinds that bend frames, or --clip.modality rgb."
        )
    if any(view.spatial and view.spatial.lends for view in method.views):
        _note_few_lenders(config)
    begin(config, videos, evaluation.videos if evaluation else None, method)
    about = {
        "method": config.method,
        **made,
        "clip": plain(config.clip),
        "head": method.query.spec,
    }
    return Trainer(config, videos, method, about, evaluation, channels_last=channels_last, fused=fused)


FEW = 8
"""With fewer clips in a part of a batch, the scenes that they lend each other are too few to be new."""


def _note_few_lenders(config: PretrainConfig) -> None:
    clips, parts = clips_at_once(config), config.optim.accumulate
    if clips < FEW:
        same = "; with two, anchor and positive get the same one" if clips == 2 else ""
        note(
            f"clips get the scenes of other clips of their own part of a batch, which has only {clips} "
            f"({config.data.batch_size} in {process_count()} x {parts} parts, --devices x --optim.accumulate)"
            f"{same}; {FEW} or more are better."
        )


def _evaluation(config: PretrainConfig, videos: VideoList) -> Evaluation | None:
    monitor, data = config.monitor, config.data
    retention = None if config.tune is None else Retention(config.out / BEFORE)

    def adapting(score: str) -> Adaptation | None:
        if retention is None:
            return None
        return Adaptation(retention, config.weights, score, monitor.patience)

    every = steps_of(None, monitor.every, len(videos), data.batch_size)
    workers, at_once = reading_workers(data.workers, data.decoder), clips_at_once(config)
    listed = monitored_videos(monitor, data.root)
    if listed:

        def ask(method: nn.Module, on_progress: Callable[[int], None]) -> dict[str, float]:
            encoder: Any = method.query.encoder  # type: ignore[union-attr]
            return knn_and_recall(
                encoder, listed, config.clip, windows=monitor.windows, workers=workers,
                seconds=data.timeout, precision=config.precision, at_once=at_once,
                on_progress=on_progress, retention=retention,
            )  # fmt: skip

        return Evaluation(ask, every, best="knn", videos=listed, adapting=adapting("knn"))
    some = sampled(videos, monitor.videos) if config.clip.modality == "rgb" else None
    if some is None:
        return None

    def compare(method: nn.Module, on_progress: Callable[[int], None]) -> dict[str, float]:
        encoder: Any = method.query.encoder  # type: ignore[union-attr]
        return compare_scenes(
            encoder, some, config.clip, workers=workers, seconds=data.timeout,
            precision=config.precision, at_once=at_once,
            on_progress=on_progress, retention=retention,
        )  # fmt: skip

    return Evaluation(compare, every, best=BALANCE, videos=some, adapting=adapting(BALANCE))
