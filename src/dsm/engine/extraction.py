"""Extraction of a set of any size: it can be stopped and goes on, and any number of processes share it.

A list is cut into parts of a few videos. Each part that is done is a small file in ``OUT.parts``; at the end
they are joined to one file, row by row, and removed. Who does a part, and in which run, makes no
difference to it: the same videos always go through the network together.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dsm.datasets.evaluation_clips import EvaluationClips, collate_clips
from dsm.datasets.lists import VideoList, needed
from dsm.datasets.loading import Batches, InTurn, batched
from dsm.datasets.reading import ClipConfig
from dsm.engine.parts import Extracted, Part, join, save_part, together
from dsm.engine.processes import is_first, make_fabric
from dsm.engine.progress import progress
from dsm.engine.runfolder import claim_by_settings, lasting
from dsm.errors import UserError
from dsm.evaluate.extract import encode, means, to_input
from dsm.evaluate.feature_files import check_suffix
from dsm.models.precision import channels_last
from dsm.models.shapes import check_takes
from dsm.video.source import READING_TIME

BATCHES_A_PART = 8
LOOK_EVERY = 0.5
"""Seconds between two looks for parts that other processes do."""


@dataclass(frozen=True)
class ExtractSettings:
    """How videos become rows."""

    windows: int = 3
    """Clips a video, evenly spread; their features are averaged, unless `per-clip`."""
    per_clip: bool = False
    """A row for each clip, with its times, instead of one for each video."""
    every: float = 0
    """A clip begins every so many seconds (0: `windows`, however long the video); best with `per-clip`."""
    crops: int = 1
    """Crops of each clip: 1 in the middle, or 3 along its longer side."""
    batch_size: int = 8
    """Videos at a time."""
    workers: int = 1
    """Processes that decode."""
    timeout: float = READING_TIME
    """Seconds a video may take to read; of a long one, each 128 clips."""

    def __post_init__(self) -> None:
        if min(self.windows, self.batch_size) < 1:
            raise UserError("windows and batch-size must be at least 1.")
        if self.workers < 0 or not 0 <= self.every < float("inf"):
            raise UserError("workers and every must not be below 0.")
        if self.crops not in (1, 3):
            raise UserError(f"crops must be 1 or 3, not {self.crops}.")
        if not self.timeout > 0:
            raise UserError("timeout must be above 0.")


def extract_to_file(
    out: Path,
    encoder: nn.Module,
    videos: VideoList,
    clip: ClipConfig,
    settings: ExtractSettings,
    meta: dict[str, Any],
    *,
    title: str = "",
    overwrite: bool = False,
) -> Extracted | None:
    """Extract a list's features into a file; videos that cannot be read are left out and told.

    In a bare ``.npy``, whose rows are those of the list, their rows are NaN.

    ``title``: what the progress bar calls the work.

    Returns:
        What came out; None in a process that is not the first: what it did is in the first one's file.

    Raises:
        UserError: the network takes no such clips; not one video can be read; or ``OUT.parts``
            holds an extraction of other settings.
    """
    check_suffix(out)
    check_takes(encoder, clip.input_shape)
    folder = out.with_name(f"{out.name}.parts")
    # By what is in it, not by its name: a run goes on training.
    made_by = {"encoder": digest(encoder), "list": videos.digest(), "clip": asdict(clip)}
    fabric = make_fabric()
    if fabric.is_global_zero:
        claim_by_settings(
            folder, "extraction.json", made_by | lasting(settings), what="an extraction",
            overwrite=overwrite, needed=needed(videos),
        )  # fmt: skip
    fabric.barrier()
    size = settings.batch_size * BATCHES_A_PART
    files = [folder / f"{part:06d}.npz" for part in range(-(-len(videos) // size))]
    mine = [part for part in range(len(files)) if part % fabric.world_size == fabric.global_rank]
    left = [part for part in mine if not files[part].exists()]
    done, bad = len(videos) - _videos_in(files, size, len(videos)), 0
    title = title or f"features by {meta.get('run', 'encoder')}"
    with progress(title, len(videos), start=done, shown=is_first()) as bar:
        parts = batched(range(len(videos)), size)
        batches = {part: batched(parts[part], settings.batch_size) for part in left}
        work = _work(encoder, videos, clip, settings, InTurn(list(chain(*batches.values()))), fabric.device)
        for part in left:
            found: list[Part] = []
            for rows in islice(work, len(batches[part])):
                found.append(rows)
                bad += sum(video.verdict != "damaged" for video in rows.bad)
                done += settings.batch_size * fabric.world_size  # the others are about as far
                bar.update(min(done, len(videos)), f"  {bad} cannot be read" if bad else "")
            save_part(files[part], together(found))
        if not fabric.is_global_zero:
            return None
        while missing := _videos_in(files, size, len(videos)):
            bar.update(len(videos) - missing, "  waiting for other processes")
            time.sleep(LOOK_EVERY)
    try:
        extracted = join(out, files, size, videos, meta | {"encoder": made_by["encoder"]})
    except UserError:
        shutil.rmtree(folder)  # not one video: a disk may not have been there, so the next call looks anew
        raise
    shutil.rmtree(folder)
    return extracted


def _videos_in(files: list[Path], size: int, videos: int) -> int:
    """How many videos are in parts that are not done."""
    return sum(min(size, videos - part * size) for part, file in enumerate(files) if not file.exists())


def _work(
    encoder: nn.Module,
    videos: VideoList,
    clip: ClipConfig,
    settings: ExtractSettings,
    order: InTurn,
    device: torch.device,
) -> Iterator[Part]:
    """What comes of each batch."""
    encoder = channels_last(encoder.to(device).eval())
    clips = EvaluationClips(
        videos, clip, settings.windows, settings.crops,
        every=settings.every, timed=settings.per_clip, seconds=settings.timeout, workers=settings.workers,
    )  # fmt: skip
    batches = Batches(
        clips, order, settings.workers, settings.timeout,
        pin_memory=device.type == "cuda", collate=collate_clips,
    )  # fmt: skip
    at_once = settings.batch_size * settings.windows * settings.crops
    for batch in batches:
        yield _part_of(encoder, batch, clip, settings, at_once)


def _part_of(
    encoder: nn.Module, batch: dict[str, Any], clip: ClipConfig, settings: ExtractSettings, at_once: int
) -> Part:
    index, counts = np.array(batch["index"], np.int64), batch["counts"]
    if not len(index):
        return Part(np.empty((0, 0), np.float32), index, None, batch["bad"] + batch["damaged"])
    device = next(encoder.parameters()).device
    rows = np.concatenate(
        [encode(encoder, to_input(some, clip.modality, device)) for some in batch["clips"].split(at_once)]
    )
    seconds = batch["seconds"]
    if settings.crops > 1:  # crops of one clip are one row
        rows = rows.reshape(-1, settings.crops, rows.shape[1]).mean(1)
        seconds, counts = seconds[:: settings.crops], [count // settings.crops for count in counts]
    if settings.per_clip:
        return Part(rows, np.repeat(index, counts), seconds, batch["bad"] + batch["damaged"])
    return Part(means(rows, counts), index, None, batch["bad"] + batch["damaged"])


def digest(encoder: nn.Module) -> str:
    """A fingerprint of an encoder's tensors."""
    found = hashlib.sha256()
    for name, tensor in encoder.state_dict().items():
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
