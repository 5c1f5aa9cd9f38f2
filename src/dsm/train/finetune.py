"""Supervised training on an encoder: fine-tuning, a linear probe, or from scratch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from torch import nn

from dsm.data.classes import check_class_names, class_names, named, names_of
from dsm.data.lists import VideoList, read_list
from dsm.errors import UserError
from dsm.evaluate.video_test import check_labels, predict
from dsm.methods.classify import Classify, ClassifyConfig
from dsm.models.weights import RANDOM
from dsm.runs.folder import plain
from dsm.train.config import DataConfig, RunConfig, begin, in_its_processes
from dsm.train.encoder import starting_encoder
from dsm.train.monitor import Watch, check_readable
from dsm.train.optim import OptimConfig
from dsm.train.trainer import Trainer


@dataclass(frozen=True)
class FinetuneData(DataConfig):
    """Labelled videos to train on, and to look at as the training goes."""

    test: Path | None = None
    """Labelled list by which the run is watched and its best checkpoint kept; it trains nothing."""


@dataclass(frozen=True)
class FinetuneConfig(RunConfig):
    """Settings of `dsm finetune`; the paper's are sgd, lr 0.001, 45 epochs of 64 frames, batch 4."""

    data: FinetuneData
    weights: str = RANDOM
    """What the encoder begins with, whose backbone it is: a run folder or a checkpoint; `none` trains from
    scratch."""
    epochs: int = 45
    """How often every video is seen."""
    # SGD, the paper's, is for long schedules; its recipes have it.
    optim: OptimConfig = field(default_factory=lambda: OptimConfig("adamw", lr=1e-3, weight_decay=1e-4))
    head: Annotated[ClassifyConfig, tyro.conf.arg(name="")] = field(default_factory=ClassifyConfig)
    test_every: int = 5
    """Epochs between two looks at `data.test`; there is one at the end in any case."""
    test_windows: int = 3
    """Clips a video when it is looked at; `dsm test` takes ten."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.test_every < 1 or self.test_windows < 1:
            raise UserError("test-every and test-windows must be at least 1.")


def finetune(config: FinetuneConfig) -> Path:
    """Train a classifier and write its run folder.

    Raises:
        UserError: something the user can mend; found before anything is written where possible.
        Interrupted: stopped by a signal; a checkpoint was written.
    """
    in_its_processes(config, _finetune)
    return config.out


def _finetune(config: FinetuneConfig) -> None:
    build_trainer(config).run()


def classified_encoder(config: FinetuneConfig) -> tuple[nn.Module, dict[str, Any]]:
    """The encoder that is begun with (see ``train/encoder.py``); of some settings a part of it is frozen."""
    frozen = config.head.linear_probe or config.head.train_from is not None
    return starting_encoder(config, config.weights, frozen=frozen)


def build_trainer(config: FinetuneConfig) -> Trainer:
    """What a run is made of, in this process; its folder is taken."""
    videos, tests = read_lists(config.data)
    counts = torch.from_numpy(np.bincount(videos.labels))
    torch.manual_seed(config.seed)
    encoder, about = classified_encoder(config)
    config = replace(config, backbone=about["backbone"])  # what is written down is what is trained
    method = Classify(encoder, config.head, counts)
    begin(config, videos, tests)
    saved = {
        "method": "linear-probe" if config.head.linear_probe else "finetune",
        **about,
        "clip": plain(config.clip),
        "classes": class_names(videos, len(counts)),
    }
    watch = None
    if tests is not None:
        check_readable(tests)
        watch = _watch(config, tests, len(counts), len(videos) // config.data.batch_size)
    return Trainer(config, videos, method, saved, watch)


MOST_TRAINED = 100_000
"""Classes of a classifier: more are a slip in a list, and would take all memory."""


def read_lists(data: FinetuneData) -> tuple[VideoList, VideoList | None]:
    """The videos to train on and, where given, to look at.

    Raises:
        UserError: a list cannot be read, is unlabelled, or is labelled with classes that are not trained.
    """
    videos = read_list(data.train, data.root)
    videos.need_classes("fine-tuning")
    if videos.labels.max() >= MOST_TRAINED:
        raise UserError(
            f"{videos.source}: its labels go up to {videos.labels.max()}, and each number up to there is a "
            "class that is trained; number them from 0 on."
        )
    if data.test is None:
        return videos, None
    classes = int(videos.labels.max()) + 1
    tests = read_list(data.test, data.root, like=named(names_of(videos), data.train))
    check_labels(tests, classes)
    check_class_names(tests, class_names(videos, classes), str(data.train))
    return videos, tests


def _watch(config: FinetuneConfig, tests: VideoList, classes: int, steps_an_epoch: int) -> Watch:
    def ask(method: nn.Module, on_progress: Callable[[int], None]) -> dict[str, float]:
        found = predict(
            method.query, tests, config.clip,  # type: ignore[arg-type]
            classes=classes, windows=config.test_windows, workers=config.data.workers,
            seconds=config.data.timeout, on_progress=on_progress,
        )  # fmt: skip
        unread = {"unread": float(found.unread)} if found.unread else {}
        return {"top1": float(found.top(1).mean()), "top5": float(found.top(5).mean()), **unread}

    return Watch(ask, every=config.test_every * max(steps_an_epoch, 1), best="top1", videos=tests)
