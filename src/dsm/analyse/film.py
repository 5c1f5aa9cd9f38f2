"""Frames put together to pictures that play or stand still: captions, even sides, and their files."""

from __future__ import annotations

import textwrap
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dsm.files import written_aside
from dsm.video.write import write_video

Frames = NDArray[np.uint8]
GAP, LABEL, INK = 4, 18, 30
LETTER = 7
"""Pixels of a letter, rather more than it mostly has."""
FONT = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
"""It knows more letters than Pillow's own."""
COLUMNS = 8
"""Frames of a clip in a still picture, evenly spread."""


def label(text: str, width: int) -> NDArray[np.uint8]:
    """A line of text, dark on white: (LABEL, width, 3)."""
    image = Image.new("RGB", (width, LABEL), "white")
    ImageDraw.Draw(image).text((2, 2), text, fill=(INK,) * 3, font=ImageFont.truetype(FONT, 11))
    return np.asarray(image)


def paragraph(text: str, width: int, lines: int = 1) -> NDArray[np.uint8]:
    """As :func:`label`, broken into as many lines as it needs, and ``lines`` at least."""
    wrapped = textwrap.wrap(text, max(width // LETTER, 1))
    return np.concatenate([label(line, width) for line in wrapped + [""] * (lines - len(wrapped))])


def white(*shape: int) -> NDArray[np.uint8]:
    """Empty space of this height and width, or so many frames of it."""
    return np.full((*shape, 3), 255, np.uint8)


def strip(frames: Frames) -> NDArray[np.uint8]:
    """Frames (T, H, W, 3) side by side, each with a gap behind it."""
    gap = white(frames.shape[1], GAP)
    return np.concatenate([part for frame in frames for part in (frame, gap)], axis=1)


def spread(count: int) -> NDArray[np.int64]:
    """Which of so many frames a still picture shows."""
    return np.linspace(0, count - 1, min(COLUMNS, count)).round().astype(np.int64)


def write_still(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a picture as .jpg, a fifth of the size, or else as PNG."""
    with written_aside(path) as aside:
        if path.suffix == ".jpg":
            Image.fromarray(picture).save(aside, "JPEG", quality=85, optimize=True)
        else:
            Image.fromarray(picture).save(aside, "PNG", optimize=True)


def write_playing(path: Path, frames: Frames, fps: int) -> None:
    """Write frames as an endless .gif, or else as H.264."""
    if path.suffix == ".gif":
        # A palette that reaches all colours; the usual one has few for what is rare, such as a map's peak.
        method = Image.Quantize.MAXCOVERAGE
        first, *rest = (Image.fromarray(frame).quantize(256, method) for frame in frames)
        with written_aside(path) as aside:
            first.save(aside, "GIF", save_all=True, append_images=rest, duration=1000 // fps, loop=0)
    else:
        write_video(path, even(frames), fps=fps)


def even(frames: Frames) -> Frames:
    """Cut to even sides, which H.264 needs."""
    return frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2]
