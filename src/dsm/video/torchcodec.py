"""A second backend: frames by torchcodec, where it is installed (an extra; it needs the system's FFmpeg)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from dsm.errors import UserError
from dsm.video.convert import Converter
from dsm.video.source import Source, VideoError, name_of, said


def read_by_torchcodec(
    source: Source, indices: NDArray[np.int64], short_side: int | None, device: str = "cpu"
) -> NDArray[np.uint8]:
    """As :func:`dsm.video.decode.read_frames`.

    Args:
        device: where frames are decoded; ``cuda`` uses the GPU's own decoder, and not in loader workers.

    Raises:
        UserError: torchcodec cannot be imported. VideoError: it cannot decode the file.
    """
    try:
        decoder = _decoder_class()(
            source if isinstance(source, bytes) else Path(source),
            dimension_order="NHWC",
            num_ffmpeg_threads=1,
            device=device,
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


def _decoder_class() -> Any:
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"torchcodec cannot be used here ({reason}): pip install 'dsm-video[torchcodec]', in the version "
            "that fits torch, and FFmpeg; or leave --data.decoder at pyav."
        ) from None
    return VideoDecoder
