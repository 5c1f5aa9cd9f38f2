"""What the monitor of a run measures: on a labelled list, or without labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from dsm.data.lists import VideoList, read_list
from dsm.data.settings import ClipConfig
from dsm.errors import UserError
from dsm.evaluate.balance import BALANCE, InOtherScenes, balance, batch_without_single
from dsm.evaluate.extract import extract_by_all
from dsm.evaluate.retrieval import kept_apart, knn_probe, retrieve
from dsm.models.settings import Precision
from dsm.terminal import many, warn
from dsm.train.adaptation import Retention
from dsm.train.config import MonitorConfig
from dsm.video.decode import probe
from dsm.video.source import BadVideo, VideoError

OPENED = 8
BATCH = 16
"""Most videos that are encoded at once."""


def check_readable(videos: VideoList) -> None:
    """Open the first videos of a list, so that a wrong root is reported now and not after hours.

    Some others too, in case only the first ones are broken.

    Raises:
        UserError: none of them can be read.
    """
    errors = []
    count = min(len(videos), OPENED)
    spread = np.linspace(0, len(videos) - 1, count).astype(int).tolist()
    for place in dict.fromkeys([*range(count), *spread]):
        try:
            probe(videos.file(place))
        except VideoError as error:
            errors.append(error)
        else:
            return
    remedy = " Is --data.root right?" if all(error.verdict == "missing" for error in errors) else ""
    raise UserError(
        f"{videos.source}: none of its first videos can be read; the first error: {errors[0]}{remedy}"
    )


def monitored_videos(config: MonitorConfig, root: Path | None = None) -> VideoList | None:
    """The list to evaluate on, if any; ``root`` is used if the settings name none.

    Raises:
        UserError: the list or its first videos cannot be read, or it has no labels or only one class.
    """
    if config.list is None:
        return None
    videos = read_list(config.list, config.root or root)
    videos.need_classes("--monitor.list")
    check_readable(videos)
    return videos


def sampled(videos: VideoList, count: int) -> VideoList | None:
    """``count`` videos of a list, always the same ones in the same order; None if fewer than two."""
    count = min(count, len(videos))
    if count < 2:
        return None
    chosen = np.random.default_rng(0).choice(len(videos), count, replace=False)
    paths = [videos.paths[place] for place in chosen]
    return replace(videos, paths=paths, labels=videos.labels[chosen], frames=videos.frames[chosen])


def videos_at_once(clips: int, windows: int, most: int = BATCH) -> int:
    """How many videos of so many clips each to encode at once, so that these are ``clips`` or fewer."""
    return max(min(clips // windows, most), 1)


def compare_scenes(
    encoder: nn.Module,
    videos: VideoList,
    clip: ClipConfig,
    *,
    workers: int,
    seconds: float | None = None,
    precision: Precision = "fp32",
    at_once: int = BATCH,
    on_progress: Callable[[int], None] = lambda done: None,
    retention: Retention | None = None,
) -> dict[str, float]:
    """The balance of motion and scene of an encoder of RGB clips, measured on one clip of each video.

    Videos that cannot be read are left out. The other arguments: see :func:`knn_and_recall`.
    """
    scenes = InOtherScenes(encoder)
    (features,) = extract_by_all(
        [scenes], videos, clip, windows=1, workers=workers, seconds=seconds, precision=precision,
        batch_size=batch_without_single(len(videos), min(at_once, BATCH)), on_progress=on_progress,
        on_bad=lambda bad: None,
    )  # fmt: skip
    rows = torch.from_numpy(features.features)
    own = rows.chunk(3, 1)[0]
    kept = retention(replace(features, features=own.numpy())) if retention else {}
    lent = rows[torch.tensor(scenes.lent)].chunk(3, 1)
    return {BALANCE: balance(*lent) if len(lent[0]) else 0.0, **kept}


def knn_and_recall(
    encoder: nn.Module,
    videos: VideoList,
    clip: ClipConfig,
    *,
    windows: int,
    workers: int,
    seconds: float | None = None,
    precision: Precision = "fp32",
    at_once: int = BATCH,
    on_progress: Callable[[int], None] = lambda done: None,
    retention: Retention | None = None,
) -> dict[str, float]:
    """R@1 and the nearest-neighbour accuracy of ``dsm probe``, each video against the others, in [0, 1].

    Args:
        seconds: how long reading one video may take.
        precision: number format of the encoder's computation.
        at_once: most clips to encode at once, but at least those of one video.
        on_progress: called with the number of videos done.
        retention: compares the features with those from before adaptation.
    """
    bad: list[BadVideo] = []
    (features,) = extract_by_all(
        [encoder], videos, clip, windows=windows, workers=workers, seconds=seconds, precision=precision,
        batch_size=videos_at_once(at_once, windows), on_progress=on_progress, on_bad=bad.append,
    )  # fmt: skip
    if bad:
        warn(f"{many(len(bad), 'video')} of --monitor.list cannot be read; the first error: {bad[0].reason}")
    apart = kept_apart(features, features)
    neighbours = retrieve(features, features, 1, apart=apart)
    votes = knn_probe(features, features, apart=apart)
    kept = retention(features) if retention else {}
    return {"knn": float(votes.mean()), "R@1": float(neighbours.recall(1).mean()), **kept}
