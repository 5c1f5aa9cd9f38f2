"""Still and animated pictures of captioned frames, and activation maps drawn over their clips."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dsm.evaluate.settings import Colours
from dsm.files import write_bytes
from dsm.pages.template import FPS
from dsm.video.sampling import evenly
from dsm.video.write import even, write_video
from dsm.views import LUMA

Frames = NDArray[np.uint8]
GAP, INK = 4, 30
FONT = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
"""A font with more characters than Pillow's default."""
THUMBNAIL = 88
"""Side of a small frame, in pixels."""
COLUMNS = 8
"""Number of frames of a clip in a still picture, evenly spread."""


def letters_of(width: int) -> int:
    """Font size in pixels for a picture of ``width``; larger for wide pictures, which are shown smaller."""
    return min(max(width // 64, 12), 24)


def label(text: str, width: int) -> NDArray[np.uint8]:
    """A line of text, dark on white: (H, width, 3), with H 1.6 times the size of its letters."""
    size = letters_of(width)
    image = Image.new("RGB", (width, round(1.6 * size)), "white")
    ImageDraw.Draw(image).text((2, 2), text, fill=(INK,) * 3, font=ImageFont.truetype(FONT, size))
    return np.asarray(image)


def paragraph(text: str, width: int, lines: int = 1) -> NDArray[np.uint8]:
    """Text as by :func:`label`, wrapped to ``width`` and padded to at least ``lines`` lines."""
    wrapped = textwrap.wrap(text, max(int(width / (0.62 * letters_of(width))), 1))
    return np.concatenate([label(line, width) for line in wrapped + [""] * (lines - len(wrapped))])


def white(*shape: int) -> NDArray[np.uint8]:
    """White space of shape (height, width, 3) or (frames, height, width, 3)."""
    return np.full((*shape, 3), 255, np.uint8)


def strip(frames: Frames) -> NDArray[np.uint8]:
    """Frames (T, H, W, 3) side by side, each followed by a gap."""
    gap = white(frames.shape[1], GAP)
    return np.concatenate([part for frame in frames for part in (frame, gap)], axis=1)


def write_named_strips(path: Path, rows: Sequence[tuple[str, Frames]]) -> None:
    """Write a picture: each clip's name, and beside it a row of its frames (T, S, S, 3); T is the same."""
    bands = []
    for name, frames in rows:
        small = np.stack([np.asarray(Image.fromarray(f).resize((THUMBNAIL, THUMBNAIL))) for f in frames])
        words = label(name, 2 * THUMBNAIL)
        above = (THUMBNAIL - len(words)) // 2
        below = THUMBNAIL - len(words) - above
        beside = np.pad(words, ((above, below), (0, 0), (0, 0)), constant_values=255)
        row = np.concatenate([beside, strip(small)], axis=1)
        bands += [row, white(GAP, row.shape[1])]
    write_still(path, np.concatenate(bands))


def write_still(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a picture as JPEG (about a fifth of the size) if the suffix is .jpg, else as PNG."""
    content = io.BytesIO()
    if path.suffix == ".jpg":
        Image.fromarray(picture).save(content, "JPEG", quality=85, optimize=True)
    else:
        Image.fromarray(picture).save(content, "PNG", optimize=True)
    write_bytes(path, content.getvalue())


def write_playing(path: Path, frames: Frames, fps: int) -> None:
    """Write frames as a looping GIF if the suffix is .gif, else as H.264."""
    if path.suffix == ".gif":
        # A palette that covers all colours; the default one has few for rare colours, such as a map's peak.
        method = Image.Quantize.MAXCOVERAGE
        first, *rest = (Image.fromarray(frame).quantize(256, method) for frame in frames)
        content = io.BytesIO()
        first.save(content, "GIF", save_all=True, append_images=rest, duration=1000 // fps, loop=0)
        write_bytes(path, content.getvalue())
    else:
        write_video(path, even(frames), fps=fps)


SMALLEST = 176
"""Smallest side of a frame in the pictures, in pixels; smaller clips are enlarged."""
# Opacity of the colours over the grey frame where the map is 0, and where it is 1.
LEAST_COVER, MOST_COVER = 0.3, 0.8
BAR = 12


@dataclass(frozen=True)
class Looked:
    """A clip and its map."""

    name: str
    frames: Frames
    """(T, H, W, 3)."""
    map: NDArray[np.float32]
    """(T, H, W) in [0, 1]."""
    note: str = ""
    """Text for the caption."""


def overlay(frames: Frames, maps: NDArray[np.float32], colours: Colours = "inferno") -> Frames:
    """A coloured map over the clip in grey, so that all colour comes from the map.

    Args:
        frames: (T, H, W, 3). maps: (T, H, W) in [0, 1].

    Returns:
        (T, H, W, 3).
    """
    grey = (frames / 255 @ np.array(LUMA))[..., None]
    cover = (LEAST_COVER + (MOST_COVER - LEAST_COVER) * maps)[..., None]
    coloured = mpl.colormaps[colours](maps)[..., :3]
    return np.rint(255 * ((1 - cover) * grey + cover * coloured)).astype(np.uint8)


def write_look(
    path: Path, looks: Sequence[Looked], *, title: str, scale: str, colours: Colours = "inferno"
) -> None:
    """Write clips and their maps as a film strip or an animation; the suffix of ``path`` sets the format.

    Args:
        looks: clips of one size, stacked in a film strip, side by side in an animation.
        title: the line on top. scale: what the colours mean: "raises the similarity".
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    looks = [enlarged(one) for one in looks]
    if path.suffix in (".png", ".jpg"):
        write_still(path, still(looks, title=title, scale=scale, colours=colours))
    else:
        write_playing(path, playing(looks, title=title, scale=scale, colours=colours), FPS)


def still(looks: Sequence[Looked], *, title: str, scale: str, colours: Colours) -> NDArray[np.uint8]:
    """(H, W, 3): each clip's frames, and below them the same frames with the map."""
    bands = []
    for one in looks:
        places = evenly(len(one.frames), COLUMNS)
        row = strip(one.frames[places])
        bands += [
            paragraph(_caption(one), row.shape[1]),
            row,
            white(GAP, row.shape[1]),
            strip(overlay(one.frames, one.map, colours)[places]),
            white(GAP, row.shape[1]),
        ]
    width = bands[0].shape[1]
    return np.concatenate([paragraph(title, width), *bands, _legend(width, scale, colours)])


def playing(looks: Sequence[Looked], *, title: str, scale: str, colours: Colours) -> Frames:
    """(T, H, W, 3): one column per clip, with the clip above its map; a single clip is beside its map."""
    across = 2 if len(looks) == 1 else 1
    columns = []
    widths = [one.frames.shape[2] for one in looks]
    lines = max(
        len(paragraph(_caption(one), width)) // len(label("", width))
        for one, width in zip(looks, widths, strict=True)
    )
    for one in looks:
        count, height, width = one.frames.shape[:3]
        gap = white(count, height, GAP) if across == 2 else white(count, GAP, width)
        pair = np.concatenate([one.frames, gap, overlay(one.frames, one.map, colours)], axis=across)
        words = paragraph(_caption(one), pair.shape[2], lines)
        columns += [np.concatenate([_held(words, count), pair], axis=1)]
        columns += [white(count, columns[-1].shape[1], GAP)]
    body = np.concatenate(columns, axis=2)
    top = paragraph(title, body.shape[2])
    bottom = _legend(body.shape[2], scale, colours)
    return np.concatenate([_held(top, len(body)), body, _held(bottom, len(body))], axis=1)


def _held(picture: NDArray[np.uint8], count: int) -> Frames:
    return np.broadcast_to(picture, (count, *picture.shape))


def _caption(one: Looked) -> str:
    return f"{one.name}: {one.note}" if one.note else one.name


def _legend(width: int, scale: str, colours: Colours) -> NDArray[np.uint8]:
    """The colours over middle grey, and their meaning: (H, width, 3)."""
    long = min(width - 2 * GAP, 240)
    ramp = np.broadcast_to(np.linspace(0, 1, long, dtype=np.float32), (1, BAR, long))
    bar = overlay(np.full((1, BAR, long, 3), 128, np.uint8), ramp, colours)[0]
    band = white(BAR + GAP, width)
    band[GAP:, GAP : GAP + long] = bar
    return np.concatenate([band, paragraph(f"from 0 to the maximum of the map; {scale}", width)])


def enlarged(one: Looked) -> Looked:
    """The clip and its map, enlarged so that their shorter side is at least :data:`SMALLEST`."""
    height, width = one.frames.shape[1:3]
    times = -(-SMALLEST // min(height, width))
    if times <= 1:
        return one
    size = width * times, height * times
    frames = np.stack(
        [np.asarray(Image.fromarray(f).resize(size, Image.Resampling.BICUBIC)) for f in one.frames]
    )
    maps = np.stack([np.asarray(Image.fromarray(m).resize(size, Image.Resampling.BILINEAR)) for m in one.map])
    return Looked(one.name, frames, maps.clip(0, 1), one.note)
