"""Maps laid over their clips: a film strip, or playing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dsm.analyse.film import GAP, LABEL, paragraph, spread, strip, white, write_playing, write_still
from dsm.augment import LUMA

Colours = Literal["inferno", "magma", "viridis", "cividis"]
"""Colour maps of matplotlib whose lightness rises evenly: they read in grey and to the colour-blind."""
Frames = NDArray[np.uint8]

FORMATS = (".png", ".jpg", ".gif", ".mp4")
FPS = 8
SMALLEST = 176
"""Pixels of a frame's side in the pictures, at least; smaller clips are enlarged."""
# How much of the colours is laid over the grey frame where the map is 0, and where it is 1.
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
    """What is to be said of it in a few words."""


def overlay(frames: Frames, maps: NDArray[np.float32], colours: Colours = "inferno") -> Frames:
    """A map in colours over the clip in grey, so that all colour is the map's.

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
    """Write what the ending of ``path`` says.

    Args:
        looks: clips of one size, one beneath the other in a film strip, side by side when they play.
        title: the line on top. scale: what the colours mean: "raises the similarity".
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    looks = [enlarged(one) for one in looks]
    if path.suffix in (".png", ".jpg"):
        write_still(path, film_strip(looks, title=title, scale=scale, colours=colours))
    else:
        write_playing(path, playing(looks, title=title, scale=scale, colours=colours), FPS)


def film_strip(looks: Sequence[Looked], *, title: str, scale: str, colours: Colours) -> NDArray[np.uint8]:
    """(H, W, 3): of each clip its frames, and beneath them the same with the map."""
    bands = []
    for one in looks:
        places = spread(len(one.frames))
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
    """(T, H, W, 3): a column a clip, it over the same with its map; of one clip the two are side by side."""
    across = 2 if len(looks) == 1 else 1
    columns = []
    lines = max(len(paragraph(_caption(one), one.frames.shape[2])) // LABEL for one in looks)
    for one in looks:
        count, height, width = one.frames.shape[:3]
        gap = white(count, height, GAP) if across == 2 else white(count, GAP, width)
        pair = np.concatenate([one.frames, gap, overlay(one.frames, one.map, colours)], axis=across)
        words = paragraph(_caption(one), pair.shape[2], lines)
        columns += [np.concatenate([_still(words, count), pair], axis=1)]
        columns += [white(count, columns[-1].shape[1], GAP)]
    body = np.concatenate(columns, axis=2)
    top = paragraph(title, body.shape[2])
    bottom = _legend(body.shape[2], scale, colours)
    return np.concatenate([_still(top, len(body)), body, _still(bottom, len(body))], axis=1)


def _still(picture: NDArray[np.uint8], count: int) -> Frames:
    return np.broadcast_to(picture, (count, *picture.shape))


def _caption(one: Looked) -> str:
    return f"{one.name}: {one.note}" if one.note else one.name


def _legend(width: int, scale: str, colours: Colours) -> NDArray[np.uint8]:
    """The colours as they look over middle grey, and what they mean: (H, width, 3)."""
    long = min(width - 2 * GAP, 240)
    ramp = np.broadcast_to(np.linspace(0, 1, long, dtype=np.float32), (1, BAR, long))
    bar = overlay(np.full((1, BAR, long, 3), 128, np.uint8), ramp, colours)[0]
    band = white(BAR + GAP, width)
    band[GAP:, GAP : GAP + long] = bar
    return np.concatenate([band, paragraph(f"0 … 1 of the strongest place: {scale}", width)])


def enlarged(one: Looked) -> Looked:
    """The same at a size at which things can be made out."""
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
