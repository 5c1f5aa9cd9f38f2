"""Resumable extraction of features from a list of any size, by one or several processes.

A list is divided into parts of a few videos. Each finished part is a small file in ``OUT.parts``; at the end
the parts are joined into one file, row by row, and removed. The result does not depend on which process or
call computed a part: the same videos always go through the network together. A part keeps marks of its files;
if one has another size when the extraction continues, the part is computed again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dsm.data.clips import EvaluationClips, collate_clips
from dsm.data.file_marks import BY_URL, marks_of, replaced
from dsm.data.lists import VideoList, needed
from dsm.data.loading import Batches, InTurn, batched
from dsm.data.settings import ClipConfig
from dsm.devices import reading_workers
from dsm.distributed import is_first, make_fabric, wait_for_all
from dsm.errors import UserError
from dsm.evaluate.attentive import Tokens
from dsm.evaluate.extract import as_array, means, to_input
from dsm.evaluate.feature_files import check_suffix, write_features
from dsm.evaluate.features import Features
from dsm.evaluate.settings import ExtractSettings
from dsm.files import remove, written_aside
from dsm.models.precision import channels_last, check_precision
from dsm.models.zoo import check_takes
from dsm.runs.bad_videos import LEFT_OUT, save_left_out, verdict_of
from dsm.runs.claims import claim_by_settings
from dsm.runs.folder import lasting
from dsm.seals import is_intact_zip, seal_zip
from dsm.terminal import progress
from dsm.video.ledger import Verdict
from dsm.video.source import BadVideo


@dataclass(frozen=True)
class Part:
    """Rows of consecutive videos of a list."""

    features: NDArray[np.float32]
    """(rows, D)."""
    index: NDArray[np.int64]
    """(rows,): the list index of each row's video."""
    seconds: NDArray[np.float32] | None
    """(rows, 2): start and end of each clip in seconds; None if rows are videos."""
    bad: list[BadVideo]
    """Unreadable videos, and those with lost frames, with the verdict ``damaged``."""
    untimed: Sequence[int] = ()
    """With ``every``: videos without frame times."""
    cut_short: Sequence[int] = ()
    """With ``every``: videos whose clips are farther apart, because there would be too many."""
    marks: Sequence[str] = ()
    """Of the files of all its videos, before they were read (``data/file_marks.py``)."""


@dataclass(frozen=True)
class Extracted:
    """A summary of an extraction."""

    rows: int
    dim: int
    bad: list[Verdict]
    untimed: int = 0
    """Number of videos without frame times, if clips are asked for every few seconds."""
    cut_short: int = 0
    """Number of videos cut short at the maximum number of clips."""
    damaged: Sequence[Verdict] = ()
    """Videos with lost frames; their features come from the frames that can be decoded."""


def together(parts: Sequence[Part]) -> Part:
    """Join several parts into one."""
    full = [part for part in parts if len(part.index)] or parts[:1]
    seconds = [part.seconds for part in full if part.seconds is not None]
    return Part(
        np.concatenate([part.features for part in full]),
        np.concatenate([part.index for part in full]),
        np.concatenate(seconds) if seconds else None,
        [video for part in parts for video in part.bad],
        [video for part in parts for video in part.untimed],
        [video for part in parts for video in part.cut_short],
    )


def save_part(file: Path, part: Part) -> None:
    """Write a part, whole or not at all."""
    arrays: dict[str, Any] = {"features": part.features, "index": part.index}
    arrays |= {name: np.array(getattr(part, name)) for name in ("untimed", "cut_short", "marks")}
    if part.seconds is not None:
        arrays["seconds"] = part.seconds
    bad = np.array(json.dumps([asdict(video) for video in part.bad]))
    with written_aside(file) as aside:
        with aside.open("wb") as opened:
            np.savez(opened, **arrays, bad=bad)
        seal_zip(aside)


def join(
    out: Path,
    files: Sequence[Path],
    size: int,
    videos: VideoList,
    meta: dict[str, Any],
    *,
    half: bool = False,
) -> Extracted:
    """Write one file of all parts, and beside it a ledger of the bad videos, if there are any.

    Args:
        out: receives the rows of the readable videos; a bare ``.npy``, a row for every video of the list,
            NaN for unreadable ones.
        size: videos per part.
        half: write float16.

    Raises:
        UserError: no video could be read.
    """
    indices, seconds, bad, dim = [], [], [], 0
    untimed, cut_short, marks = 0, 0, list[str]()
    for file in files:
        with np.load(file, allow_pickle=False) as part:
            indices.append(part["index"])
            untimed += len(part["untimed"])
            cut_short += len(part["cut_short"])
            marks += part["marks"].tolist()
            if "seconds" in part.files:
                seconds.append(part["seconds"])
            bad += [BadVideo(**video) for video in json.loads(str(part["bad"]))]
            dim = max(dim, part["features"].shape[1])
    index = np.concatenate(indices)
    damaged = [verdict_of(video, videos) for video in bad if video.verdict == "damaged"]
    bad = [video for video in bad if video.verdict != "damaged"]
    if not len(index):
        raise UserError(
            f"{videos.source}: none of the videos can be read. The first failure: {bad[0].reason}"
        )
    times = np.concatenate(seconds) if seconds else None
    bare = out.suffix == ".npy" and times is None
    rows = len(videos) if bare else len(index)
    shape: NDArray[Any] = np.broadcast_to(np.zeros((), "f2" if half else "f4"), (rows, dim))  # no memory
    meta = meta | {"files": " ".join(marks)}
    about = Features(shape, videos.labels[index], [videos.paths[place] for place in index], meta, times)
    verdicts = [verdict_of(video, videos) for video in bad]
    save_left_out(out.with_name(out.name + LEFT_OUT), verdicts)
    # Last: the file marks the extraction as finished.
    write_features(out, about, _rows(files, size, len(videos), dim) if bare else _read(files))
    return Extracted(rows, dim, verdicts, untimed, cut_short, damaged)


def _read(files: Sequence[Path]) -> Iterator[NDArray[np.float32]]:
    for file in files:
        with np.load(file, allow_pickle=False) as part:
            if len(part["index"]):
                yield part["features"]


def _rows(files: Sequence[Path], size: int, videos: int, dim: int) -> Iterator[NDArray[np.float32]]:
    """A row for every video, NaN for unreadable ones."""
    for number, file in enumerate(files):
        first = number * size
        rows = np.full((min(size, videos - first), dim), np.nan, np.float32)
        with np.load(file, allow_pickle=False) as part:
            if len(part["index"]):
                rows[part["index"] - first] = part["features"]
        yield rows


BATCHES_A_PART = 8
LOOK_EVERY = 0.5
"""Seconds between checks for parts that other processes have computed."""
LATE = 120
"""Seconds until a network disk must show the files of another machine."""


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
    """Extract a list's features into a file; unreadable videos are left out and reported.

    A bare ``.npy`` has a row for every video of the list; the rows of unreadable videos are NaN.

    ``title``: the label of the progress bar.

    Returns:
        A summary; None in all processes but the first, which writes the file for all.

    Raises:
        UserError: the network does not take such clips; no video can be read; or ``OUT.parts`` holds an
            extraction with other settings.
    """
    check_suffix(out)
    if settings.half and out.suffix != ".npz":
        raise UserError(f"{out}: --half is for .npz.")
    check_takes(encoder, clip.input_shape)
    folder = parts_of(out)
    extraction = extraction_of(encoder, videos, clip, settings)
    fabric = make_fabric()
    if fabric.is_global_zero:
        claim_by_settings(
            folder, "extraction.json", extraction, what="an extraction",
            overwrite=overwrite, needed=needed(videos),
        )  # fmt: skip
    wait_for_all(fabric)
    size = settings.batch_size * BATCHES_A_PART
    files = [folder / f"{part:06d}.npz" for part in range(-(-len(videos) // size))]
    mine = [part for part in range(len(files)) if part % fabric.world_size == fabric.global_rank]
    marks, places = marks_of(videos), batched(range(len(videos)), size)
    left = [part for part in mine if not _is_current(files[part], [marks[place] for place in places[part]])]
    for part in left:
        files[part].unlink(missing_ok=True)  # damaged, or of replaced files
    done, bad = sum(min(size, len(videos) - n * size) for n, file in enumerate(files) if file.exists()), 0
    title = title or f"features by {meta.get('run', 'encoder')}"
    with progress(title, len(videos), start=done, shown=is_first()) as bar:
        batches = {part: batched(places[part], settings.batch_size) for part in left}
        work = _work(encoder, videos, clip, settings, InTurn(list(chain(*batches.values()))), fabric.device)
        for part in left:
            pieces: list[Part] = []
            for rows in islice(work, len(batches[part])):
                pieces.append(rows)
                bad += sum(video.verdict != "damaged" for video in rows.bad)
                done += settings.batch_size * fabric.world_size  # the other processes are about as far
                bar.update(min(done, len(videos)), f"  {bad} cannot be read" if bad else "")
            save_part(files[part], replace(together(pieces), marks=[marks[place] for place in places[part]]))
        if fabric.world_size > 1:
            bar.update(min(done, len(videos)), "  waiting for other processes")
        wait_for_all(fabric)
        if not fabric.is_global_zero:
            return None
        _wait_for(folder, files)
    try:
        made_by = {"encoder": extraction["encoder"], "extraction": extraction}
        extracted = join(out, files, size, videos, meta | made_by, half=settings.half)
    except UserError:
        remove(folder)  # no video was read, perhaps because the disk was missing: the next call retries
        raise
    remove(folder)
    return extracted


def _is_current(file: Path, marks: Sequence[str]) -> bool:
    """Whether a part is intact, and no file of its videos has another size since."""
    if not is_intact_zip(file):
        return False
    with np.load(file, allow_pickle=False) as part:
        before = part["marks"].tolist() if "marks" in part.files else []
    return len(before) == len(marks) and not replaced(before, marks, by_size=True)


def parts_of(out: Path) -> Path:
    """The folder of the parts of an extraction that is not finished."""
    return out.with_name(f"{out.name}.parts")


def _wait_for(folder: Path, files: Sequence[Path]) -> None:
    """Wait until the disk shows all parts, which other processes have written.

    Raises:
        UserError: a part does not appear.
    """
    give_up = time.monotonic() + LATE
    while missing := [file for file in files if not file.exists()]:
        if not folder.is_dir() or time.monotonic() > give_up:
            raise UserError(
                f"{missing[0]} was written but does not appear; make sure that all processes see the same "
                "disk, and run the command again to compute it again."
            )
        time.sleep(LOOK_EVERY)


def _work(
    encoder: nn.Module,
    videos: VideoList,
    clip: ClipConfig,
    settings: ExtractSettings,
    order: InTurn,
    device: torch.device,
) -> Iterator[Part]:
    """The features of each batch."""
    encoder = channels_last(encoder.to(device).eval())
    check_precision(settings.precision, device.type)
    workers = reading_workers(settings.workers)
    clips = EvaluationClips(
        videos, clip, settings.windows, settings.crops,
        every=settings.every, timed=settings.per_clip, seconds=settings.timeout, workers=workers,
    )  # fmt: skip
    batches = Batches(
        clips, order, workers, settings.timeout,
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
        [
            as_array(encoder, to_input(some, clip.modality, device), settings.precision)
            for some in batch["clips"].split(at_once)
        ]
    )
    seconds, cut_short = batch["seconds"], batch["cut_short"]
    firsts = np.cumsum([0, *counts[:-1]])
    untimed = index[np.isnan(seconds[firsts, 0])].tolist() if settings.every else []
    if settings.crops > 1:  # crops of one clip are one row
        rows = rows.reshape(-1, settings.crops, rows.shape[1]).mean(1)
        seconds, counts = seconds[:: settings.crops], [count // settings.crops for count in counts]
    bad = batch["bad"] + batch["damaged"]
    if settings.per_clip:
        return Part(rows, np.repeat(index, counts), seconds, bad, untimed, cut_short)
    return Part(means(rows, counts), index, None, bad, untimed, cut_short)


def extraction_of(
    encoder: nn.Module, videos: VideoList, clip: ClipConfig, settings: ExtractSettings
) -> dict[str, Any]:
    """What the rows of an extraction depend on: encoder, list, clips and settings, as JSON types."""
    # Identify the encoder by what it computes, not its name: a run's weights change while it trains.
    inner = encoder.encoder if isinstance(encoder, Tokens) else encoder
    made_by = {"encoder": digest(inner), "list": videos.digest(), "clip": asdict(clip)}
    return made_by | lasting(settings)


_CALLED = {"encoder": "weights", "list": "videos", "clip": "clips"}


def differences(made: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """What differs between two :func:`extraction_of`, named for a sentence; the batch size may differ."""
    other = [name for name in wanted if name != "batch_size" and made.get(name) != wanted[name]]
    return [_CALLED.get(name, f"--{name.replace('_', '-')}") for name in other]


def replaced_since(meta: dict[str, Any], videos: VideoList) -> list[str] | None:
    """The videos of an extraction whose files were replaced since; None if its metadata cannot tell."""
    before = str(meta.get("files", "")).split()
    if len(before) != len(videos) or BY_URL in before:
        return None
    return [videos.paths[place] for place in replaced(before, marks_of(videos))]


def digest(encoder: nn.Module) -> str:
    """A fingerprint of an encoder: its tensors, and what its modules note in ``not_in_tensors``."""
    sha = hashlib.sha256()
    for module in encoder.modules():
        if settings := getattr(module, "not_in_tensors", None):
            sha.update(json.dumps(settings, sort_keys=True).encode())
    for name, tensor in encoder.state_dict().items():
        sha.update(name.encode())
        sha.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()
