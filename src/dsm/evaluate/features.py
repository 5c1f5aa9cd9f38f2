"""Features: one vector a video, in files that any tool can read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader

from dsm.datasets.clips import EvaluationClips, collate, raise_errors
from dsm.datasets.lists import VideoList
from dsm.datasets.reading import ClipConfig
from dsm.errors import UserError
from dsm.files import written_aside
from dsm.modality import to_network
from dsm.models.precision import channels_last


@dataclass(frozen=True)
class Features:
    """The features of a list of videos."""

    features: NDArray[np.float32]
    """(n, d)."""
    labels: NDArray[np.int64]
    """(n,), -1 where unlabelled."""
    paths: list[str]
    meta: dict[str, Any] = field(default_factory=dict)
    """Where they come from: weights, list, clip, windows."""

    def __len__(self) -> int:
        return len(self.features)


def extract_features(
    encoder: nn.Module,
    videos: VideoList,
    clip: ClipConfig,
    *,
    windows: int = 3,
    batch_size: int = 16,
    workers: int = 1,
    meta: dict[str, Any] | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Features:
    """Run an encoder over videos; a video's feature is the mean over its windows.

    Args:
        encoder: normalised clips (B, C, T, H, W) -> (B, D); used in evaluation mode, where it lies.
        windows: clips a video, evenly spread over its length.
        batch_size: videos at a time.
        on_progress: called with the number of videos done.
    """
    (features,) = extract_by_all(
        [encoder], videos, clip,
        windows=windows, batch_size=batch_size, workers=workers, on_progress=on_progress,
    )  # fmt: skip
    return replace(features, meta=meta or {})


@torch.no_grad()
def extract_by_all(
    encoders: Sequence[nn.Module],
    videos: VideoList,
    clip: ClipConfig,
    *,
    windows: int = 3,
    crops: int = 1,
    batch_size: int = 16,
    workers: int = 1,
    on_progress: Callable[[int], None] = lambda done: None,
) -> list[Features]:
    """As :func:`extract_features` by each of several encoders; the videos are decoded but once.

    ``crops``: of each clip, 1 in the middle or 3 along its longer side; a video's feature is the mean of all.
    """
    device = next(encoders[0].parameters()).device
    encoders = [channels_last(one.eval()) for one in encoders]
    loader = DataLoader(
        EvaluationClips(videos, clip, windows, crops),
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=device.type == "cuda",
    )
    rows: list[list[NDArray[np.float32]]] = [[] for _ in encoders]
    done = 0
    for batch in raise_errors(loader):  # (B, W, T, S, S, C)
        count = len(batch)
        x = batch.flatten(0, 1).to(device).permute(0, 4, 1, 2, 3)
        x = x.float() / 255 if x.dtype == torch.uint8 else x.float()
        x = to_network(x, clip.modality).contiguous(memory_format=torch.channels_last_3d)
        for encoder, row in zip(encoders, rows, strict=True):
            row.append(encoder(x).float().unflatten(0, (count, windows * crops)).mean(1).cpu().numpy())
        done += count
        on_progress(done)
    return [Features(np.concatenate(row), videos.labels, list(videos.paths)) for row in rows]


def save_features(path: str | Path, features: Features) -> None:
    """Write ``.npz`` (features, labels, paths, meta), or with the ending ``.npy`` the bare array."""
    path = Path(path)
    if path.suffix not in (".npz", ".npy"):
        raise UserError(f"{path}: features are written as .npz (with labels and paths) or .npy (bare).")
    with written_aside(path) as aside, aside.open("wb") as file:
        if path.suffix == ".npy":
            np.save(file, features.features)
        else:
            np.savez(
                file,
                features=features.features,
                labels=features.labels,
                paths=np.array(features.paths, dtype=np.str_),
                meta=np.array(json.dumps(features.meta)),
            )


def load_features(path: str | Path) -> Features:
    """Read an ``.npz`` that :func:`save_features` wrote; pickled objects in it are refused.

    Raises:
        UserError: no such file, or not such a file.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such features file. `dsm extract` makes one.")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            features = np.ascontiguousarray(arrays["features"], dtype=np.float32)
            labels, paths = arrays["labels"].astype(np.int64), [str(name) for name in arrays["paths"]]
            meta = json.loads(str(arrays["meta"]))
    except Exception:  # a stranger's bytes can make the reader fail in any way
        raise UserError(
            f"{path}: is not a features file (.npz with features, labels, paths and meta)."
        ) from None
    shapes = (features.ndim, labels.ndim, len(labels), len(paths))
    if shapes != (2, 1, len(features), len(features)) or not isinstance(meta, dict):
        raise UserError(f"{path}: its features, labels and paths do not belong together.")
    if not np.isfinite(features).all():
        raise UserError(f"{path}: some features are not finite numbers; extract them again.")
    return Features(features, labels, paths, meta)
