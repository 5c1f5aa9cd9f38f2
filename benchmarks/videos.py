"""Videos for benchmarks: 320x240, with the codecs of common data sets."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

LENGTH, HEIGHT, WIDTH = 300, 240, 320

VIDEOS: dict[str, tuple[str, str, dict[str, str]]] = {
    "h264-gop12": ("mp4", "libx264", {"g": "12"}),
    "h264-gop250": ("mp4", "libx264", {"g": "250"}),
    "mpeg4-avi": ("avi", "mpeg4", {"g": "12", "b": "800k"}),
    "mpeg4-avi-b": (
        "avi",
        "mpeg4",
        {"g": "12", "b": "800k", "bf": "2", "flags": "+cgop", "sc_threshold": "1000000000"},
    ),
}


def make_video(path: Path, codec: str, options: dict[str, str], length: int = LENGTH, seed: int = 0) -> None:
    """A panning texture under a swinging patch, so that every kind of prediction is used."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (60, 70, 3)).repeat(10, 0).repeat(10, 1)
    picture = np.clip(coarse + rng.normal(0, 12, coarse.shape), 0, 255).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(length):
            x, y = int(150 + 120 * np.sin(number / 20)), int(100 + 90 * np.cos(number / 33))
            frame = picture[y : y + HEIGHT, x : x + WIDTH].copy()
            at = int(160 + 100 * np.sin(number / 9))
            frame[80:140, at - 30 : at + 30] = 255 - frame[80:140, at - 30 : at + 30]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
