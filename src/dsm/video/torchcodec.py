"""A second backend: frames by torchcodec, where it is installed (an extra; it needs the system's FFmpeg)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from dsm.errors import UserError
from dsm.extras import load_extra
from dsm.video.convert import Converter
from dsm.video.source import Source, VideoError, name_of, said


def read_by_torchcodec(
    source: Source, indices: NDArray[np.int64], short_side: int | None, *, cuda: bool = False
) -> NDArray[np.uint8]:
    """As :func:`dsm.video.decode.read_frames`, but with no limit of time: a read cannot be broken off.

    Args:
        cuda: decode on the GPU, by its own decoder; frames come back to the CPU, where they are resized.

    Raises:
        UserError: torchcodec cannot be imported, or there is no GPU here.
        VideoError: the file cannot be decoded.
    """
    if cuda and not _may_use_cuda():
        raise UserError("decoding on the GPU needs CUDA, and --data.workers 0: a worker process has none.")
    try:
        decoder = _decoder_class()(
            source if isinstance(source, bytes) else Path(source),
            dimension_order="NHWC",
            num_ffmpeg_threads=1,
            device="cuda" if cuda else "cpu",
            seek_mode="exact",
        )
        total = len(decoder)
        wanted, back = np.unique(np.asarray(indices) % max(total, 1), return_inverse=True)
        frames = decoder.get_frames_at(wanted.tolist()).data.cpu().numpy()
    except (RuntimeError, ValueError, IndexError, OSError) as error:
        raise VideoError(f"{name_of(source)}: cannot be decoded by torchcodec ({said(error)}).") from None
    convert = Converter(short_side)
    images = [convert(VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")) for frame in frames]
    return np.stack(images)[back]


def _may_use_cuda() -> bool:
    # Imported here: it takes a second, which each process that only counts or checks would pay.
    import torch
    from torch.utils.data import get_worker_info

    return torch.cuda.is_available() and get_worker_info() is None


def _decoder_class() -> Any:
    return load_extra(
        "torchcodec.decoders",
        "torchcodec",
        package="torchcodec",
        name="VideoDecoder",
        wanted_by="--data.decoder torchcodec",
        hint=", in the version that fits torch, and FFmpeg; or leave --data.decoder at pyav",
    )
