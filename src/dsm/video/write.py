"""Writing clips: H.264 mp4 files, and the same into memory for reports."""

from __future__ import annotations

import io
from pathlib import Path
from typing import IO

import av
import numpy as np
from numpy.typing import NDArray

from dsm.files import written_aside


def _encode(target: str | IO[bytes], frames: NDArray[np.uint8], fps: int, crf: int, gop: int) -> None:
    _, height, width, _ = frames.shape
    with av.open(target, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.gop_size = gop
        # One thread, so that the same frames give the same bytes on every machine.
        stream.codec_context.thread_count = 1
        # Written once, read every epoch: a quarter cheaper to decode, and a quarter larger.
        # And no macroblock tree: on processors with AVX-512 x264 reads memory there that nobody has
        # written, so that now and then the same frames were encoded otherwise.
        stream.options = {
            "crf": str(crf), "preset": "veryfast", "tune": "fastdecode", "bf": "0", "x264-params": "mbtree=0",
        }  # fmt: skip
        for image in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_video(
    path: str | Path, frames: NDArray[np.uint8], *, fps: int = 24, crf: int = 18, gop: int = 12
) -> None:
    """Write a clip as an H.264 mp4 file, whole or not at all (written aside, then renamed).

    Args:
        path: where to; its folder is made where it is missing.
        frames: uint8 RGB, shape (T, H, W, 3), with T >= 1 and H, W even (4:2:0 colour needs it).
        fps: frames a second.
        crf: x264's quality: 0 lossless, 18 hard to tell from the original, 28 coarse.
        gop: the most frames between two keyframes.
    """
    with written_aside(path) as aside:
        # An absolute path: FFmpeg would take what stands before a colon for a protocol.
        _encode(str(aside.absolute()), frames, fps, crf, gop)


def mp4_bytes(frames: NDArray[np.uint8], *, fps: int = 12, crf: int = 26) -> bytes:
    """The same as :func:`write_video` into memory, small enough to embed in a page."""
    buffer = io.BytesIO()
    _encode(buffer, frames, fps, crf, gop=len(frames))
    return buffer.getvalue()
