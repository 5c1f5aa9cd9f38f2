"""Supervised training of a classifier: fine-tuning, a linear probe, or training from scratch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from dsm.data.classes import check_class_names, class_names, named, names_of
from dsm.data.lists import VideoList, read_list
from dsm.devices import reading_workers
from dsm.errors import UserError
from dsm.evaluate.video_test import check_labels, predict
from dsm.methods.classify import Classify
from dsm.runs.folder import plain
from dsm.storage.cache import set_cache
from dsm.train.config import FinetuneConfig, FinetuneData
from dsm.train.encoder import starting_encoder
from dsm.train.evaluations import Evaluation
from dsm.train.monitor import check_readable, videos_at_once
from dsm.train.resuming import steps_of
from dsm.train.start import begin, clips_at_once, in_its_processes
from dsm.train.trainer import Trainer


def finetune(config: FinetuneConfig) -> Path:
    """Train a classifier and write its run folder.

    Raises:
        UserError: a mistake that the user can fix, reported before anything is written where possible.
        Interrupted: stopped by a signal; a checkpoint was written.
    """
    in_its_processes(config, _finetune)
    return config.out


def _finetune(config: FinetuneConfig) -> None:
    build_trainer(config).run()


def build_trainer(config: FinetuneConfig) -> Trainer:
    """Build the trainer of this process and claim the run folder."""
    videos, tests = read_lists(config.data)
    counts = torch.from_numpy(np.bincount(videos.labels))
    torch.manual_seed(config.seed)
    encoder, about, clip = starting_encoder(config)
    config = replace(config, backbone=about["backbone"], clip=clip)  # record what is actually trained
    method = Classify(encoder, config.head, counts)
    if tests is not None:
        check_readable(tests)
    begin(config, videos, tests, method)
    saved = {
        "method": "linear-probe" if config.head.linear_probe else "finetune",
        **about,
        "clip": plain(config.clip),
        "classes": class_names(videos, len(counts)),
    }
    evaluation = None
    if tests is not None:
        every = steps_of(None, config.test_every, len(videos), config.data.batch_size)
        evaluation = _evaluation(config, tests, len(counts), every)
    return Trainer(config, videos, method, saved, evaluation)


MOST_TRAINED = 100_000
"""Most classes of a classifier: more would exhaust memory, and are a mistake in the list."""


def read_lists(data: FinetuneData) -> tuple[VideoList, VideoList | None]:
    """The videos to train on and, if given, to test on.

    Raises:
        UserError: a list cannot be read, has no labels, or has classes to test but not to train on.
    """
    set_cache(data.cache_folder, data.cache_gb)
    videos = read_list(data.train, data.root)
    videos.need_classes("fine-tuning")
    if videos.labels.max() >= MOST_TRAINED:
        raise UserError(
            f"{videos.source}: its labels go up to {videos.labels.max()}, but the limit is "
            f"{MOST_TRAINED - 1}; number the classes from 0."
        )
    if data.test is None:
        return videos, None
    classes = int(videos.labels.max()) + 1
    tests = read_list(data.test, data.root, like=named(names_of(videos), data.train))
    check_labels(tests, classes)
    check_class_names(tests, class_names(videos, classes), str(data.train))
    return videos, tests


def _evaluation(config: FinetuneConfig, tests: VideoList, classes: int, every: int) -> Evaluation:
    workers = reading_workers(config.data.workers, config.data.decoder)

    def ask(method: nn.Module, on_progress: Callable[[int], None]) -> dict[str, float]:
        predictions = predict(
            method.query, tests, config.clip,  # type: ignore[arg-type]
            classes=classes, windows=config.test_windows, workers=workers,
            seconds=config.data.timeout, precision=config.precision,
            batch_size=videos_at_once(clips_at_once(config), config.test_windows, 4), on_progress=on_progress,
        )  # fmt: skip
        unread = {"unread": float(predictions.unread)} if predictions.unread else {}
        top1, top5 = float(predictions.top(1).mean()), float(predictions.top(5).mean())
        return {"top1": top1, "top5": top5, **unread}

    return Evaluation(ask, every=every, best="top1", videos=tests)
