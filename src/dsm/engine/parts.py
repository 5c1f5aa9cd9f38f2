"""Parts of an extraction: small files that are joined to one, a part at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsm.datasets.evaluation_clips import MOST_CLIPS
from dsm.datasets.lists import VideoList
from dsm.datasets.reading_state import BadVideo
from dsm.engine.bad_videos import LEFT_OUT, save_left_out, verdict_of
from dsm.errors import UserError
from dsm.evaluate.feature_files import write_features
from dsm.evaluate.features import Features
from dsm.files import written_aside
from dsm.video.ledger import Verdict


@dataclass(frozen=True)
class Part:
    """Rows of some videos that follow one another in a list."""

    features: NDArray[np.float32]
    """(rows, D)."""
    index: NDArray[np.int64]
    """(rows,): which video of the list each is of."""
    seconds: NDArray[np.float32] | None
    """(rows, 2), of clips; None where rows are videos."""
    bad: list[BadVideo]
    """That cannot be read; and those of which pictures are lost, with the verdict ``damaged``."""


@dataclass(frozen=True)
class Extracted:
    """What came out."""

    rows: int
    dim: int
    bad: list[Verdict]
    untimed: int = 0
    """Videos that do not say when their frames are shown, where clips have rows."""
    cut_short: int = 0
    """Videos of which there are as many clips as are taken of one."""
    damaged: Sequence[Verdict] = ()
    """Videos of which pictures are lost; what can be decoded of them is in."""


def together(parts: Sequence[Part]) -> Part:
    """One part of several."""
    full = [part for part in parts if len(part.index)] or parts[:1]
    seconds = [part.seconds for part in full if part.seconds is not None]
    return Part(
        np.concatenate([part.features for part in full]),
        np.concatenate([part.index for part in full]),
        np.concatenate(seconds) if seconds else None,
        [video for part in parts for video in part.bad],
    )


def save_part(file: Path, part: Part) -> None:
    """Write a part, whole or not at all."""
    arrays: dict[str, Any] = {"features": part.features, "index": part.index}
    if part.seconds is not None:
        arrays["seconds"] = part.seconds
    bad = np.array(json.dumps([asdict(video) for video in part.bad]))
    with written_aside(file) as aside, aside.open("wb") as opened:
        np.savez(opened, **arrays, bad=bad)


def join(out: Path, files: Sequence[Path], size: int, videos: VideoList, meta: dict[str, Any]) -> Extracted:
    """Write one file of all parts, and beside it a ledger of the bad videos, where there are any.

    Args:
        out: rows are those of the videos that could be read; of a bare ``.npy`` those of the list, NaN
            where a video could not be read.
        size: videos a part.

    Raises:
        UserError: not one video could be read.
    """
    indices, seconds, bad, dim = [], [], [], 0
    for file in files:
        with np.load(file, allow_pickle=False) as part:
            indices.append(part["index"])
            if "seconds" in part.files:
                seconds.append(part["seconds"])
            bad += [BadVideo(**video) for video in json.loads(str(part["bad"]))]
            dim = max(dim, part["features"].shape[1])
    index = np.concatenate(indices)
    damaged = [verdict_of(video, videos) for video in bad if video.verdict == "damaged"]
    bad = [video for video in bad if video.verdict != "damaged"]
    if not len(index):
        raise UserError(f"{videos.source}: not one video can be read; the first: {bad[0].reason}")
    times = np.concatenate(seconds) if seconds else None
    bare = out.suffix == ".npy" and times is None
    rows = len(videos) if bare else len(index)
    shape = np.broadcast_to(np.float32(0), (rows, dim))  # takes no memory
    about = Features(shape, videos.labels[index], [videos.paths[place] for place in index], meta, times)
    write_features(out, about, _rows(files, size, len(videos), dim) if bare else _read(files))
    verdicts = [verdict_of(video, videos) for video in bad]
    save_left_out(out.with_name(out.name + LEFT_OUT), verdicts)
    untimed = len(np.unique(index[np.isnan(times[:, 0])])) if times is not None else 0
    cut_short = int(np.sum(np.unique(index, return_counts=True)[1] >= MOST_CLIPS))
    return Extracted(rows, dim, verdicts, untimed, cut_short, damaged)


def _read(files: Sequence[Path]) -> Iterator[NDArray[np.float32]]:
    for file in files:
        with np.load(file, allow_pickle=False) as part:
            if len(part["index"]):
                yield part["features"]


def _rows(files: Sequence[Path], size: int, videos: int, dim: int) -> Iterator[NDArray[np.float32]]:
    """A row for every video, read or not."""
    for number, file in enumerate(files):
        first = number * size
        rows = np.full((min(size, videos - first), dim), np.nan, np.float32)
        with np.load(file, allow_pickle=False) as part:
            if len(part["index"]):
                rows[part["index"] - first] = part["features"]
        yield rows
