"""Computing features of videos with one or several encoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dsm.data.clips import EvaluationClips
from dsm.data.lists import VideoList
from dsm.data.loading import load_clips
from dsm.data.settings import ClipConfig
from dsm.devices import algorithms
from dsm.errors import UserError
from dsm.evaluate.features import Features
from dsm.models.precision import channels_last, encode
from dsm.models.settings import Precision
from dsm.render import to_network
from dsm.video.settings import READING_TIME
from dsm.video.source import BadVideo
from dsm.views import ModalityName


def extract_features(
    encoder: nn.Module,
    videos: VideoList,
    clip: ClipConfig,
    *,
    windows: int = 3,
    batch_size: int = 16,
    workers: int = 1,
) -> Features:
    """Run an encoder over videos; a video's feature is the mean over its windows.

    Args:
        encoder: normalised clips (B, C, T, H, W) -> (B, D); used in evaluation mode, on its own device.
        windows: clips per video, evenly spread over its length.
        batch_size: videos per batch.

    Raises:
        VideoError: a video cannot be read.
    """
    (features,) = extract_by_all(
        [encoder], videos, clip, windows=windows, batch_size=batch_size, workers=workers
    )
    return features


def extract_by_all(
    encoders: Sequence[nn.Module],
    videos: VideoList,
    clip: ClipConfig,
    *,
    windows: int = 3,
    crops: int = 1,
    batch_size: int = 16,
    workers: int = 1,
    seconds: float | None = READING_TIME,
    precision: Precision = "fp32",
    on_progress: Callable[[int], None] = lambda done: None,
    on_bad: Callable[[BadVideo], None] | None = None,
) -> list[Features]:
    """:func:`extract_features` for several encoders at once; each video is decoded only once.

    Args:
        crops: crops per clip, 1 in the middle or 3 along its longer side; a video's feature is their mean.
        seconds: time limit for reading a video; None for no limit.
        precision: number format of the encoders' computation.
        on_progress: called with the number of videos done.
        on_bad: called with each unreadable video, which is left out; without it the first unreadable video
            raises an error.

    Raises:
        VideoError: a video cannot be read, without ``on_bad``. UserError: no video can be read.
    """
    encoders = [channels_last(one.eval()) for one in encoders]
    device = next(encoders[0].parameters()).device
    clips = EvaluationClips(videos, clip, windows, crops, seconds=seconds, workers=workers)
    rows: list[list[NDArray[np.float32]]] = [[] for _ in encoders]
    index: list[int] = []
    done = 0
    batches = load_clips(
        clips, batch_size, workers=workers, pin_memory=device.type == "cuda", past_bad=on_bad is not None
    )
    with algorithms(device.type, deterministic=torch.are_deterministic_algorithms_enabled()):
        for batch in batches:
            for one in batch["bad"]:
                if on_bad is not None:
                    on_bad(one)
            done += len(batch["index"]) + len(batch["bad"])
            on_progress(done)
            if not batch["index"]:
                continue
            index += batch["index"]
            x = to_input(batch["clips"], clip.modality, device)
            for encoder, row in zip(encoders, rows, strict=True):
                row.append(means(as_array(encoder, x, precision), batch["counts"]))
    if not index:
        raise UserError(f"{videos.source}: none of the videos can be read; `dsm data check` shows why.")
    paths = [videos.paths[place] for place in index]
    return [Features(np.concatenate(row), videos.labels[index], paths) for row in rows]


def to_input(clips: Tensor, modality: ModalityName, device: torch.device) -> Tensor:
    """Convert clips as read, (B, T, H, W, C), to a network's input: (B, C, T, H, W), normalised."""
    x = clips.to(device, non_blocking=True).permute(0, 4, 1, 2, 3)
    x = x.float() / 255 if x.dtype == torch.uint8 else x.float()
    return to_network(x, modality).contiguous(memory_format=torch.channels_last_3d)


@torch.no_grad()
def as_array(encoder: nn.Module, x: Tensor, precision: Precision = "fp32") -> NDArray[np.float32]:
    """The features (B, D) of network inputs by :func:`dsm.models.precision.encode`, without gradients."""
    return encode(encoder, x, precision).float().cpu().numpy()


def means(rows: NDArray[np.float32], counts: Sequence[int]) -> NDArray[np.float32]:
    """The mean of each video's rows: (sum of counts, D) -> (len(counts), D)."""
    parts = np.split(rows, np.cumsum(counts)[:-1])
    return np.stack([part.mean(0) for part in parts])
