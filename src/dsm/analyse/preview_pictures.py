"""The pictures of ``dsm data preview``: still, moving, or a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dsm.analyse.change import Frames
from dsm.analyse.page import clip_uri, write_page
from dsm.analyse.preview import Shown
from dsm.files import written_aside
from dsm.video.write import write_video

FORMATS = (".png", ".gif", ".mp4", ".html")
FPS = 8
COLUMNS = 8
"""Frames of a clip in a still picture, evenly spread."""
GAP, LABEL, INK = 4, 18, 30

Row = tuple[str, str, str, str]


def write_preview(path: Path, clips: Sequence[list[Shown]], rows: Sequence[Row], *, measured: int) -> None:
    """Write what the ending of ``path`` says.

    Args:
        clips: for each clip its versions, the first as it is.
        rows: name of a version, of what it is compared with, change of scene, change of motion.
        measured: clips over which these are means.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".html":
        shown = [
            [
                {
                    "name": one.name,
                    "uri": clip_uri(_even(_over_flow(one, longest)), fps=FPS),
                    "scene": f"{one.scene:.0%}" if place else "",
                    "motion": f"{one.motion:.0%}" if place else "",
                }
                for place, one in enumerate(versions)
            ]
            for versions in clips
            for longest in [_longest(versions)]
        ]
        write_page(path, "preview.html", title="Disturbances", clips=shown, rows=rows, measured=measured)
    elif path.suffix == ".png":
        with written_aside(path) as aside:
            Image.fromarray(_still(clips)).save(aside, "PNG", optimize=True)
    elif path.suffix == ".gif":
        first, *rest = (Image.fromarray(frame) for frame in _moving(clips))
        with written_aside(path) as aside:
            first.save(aside, "GIF", save_all=True, append_images=rest, duration=1000 // FPS, loop=0)
    else:
        write_video(path, _even(_moving(clips)), fps=FPS)


def _longest(versions: Sequence[Shown]) -> float:
    """The motion that gets full colour: what all but one in fifty pixels of the clip as it is stay below."""
    return max(float(np.percentile(np.hypot(versions[0].flow[:, 0], versions[0].flow[:, 1]), 98)), 0.5)


def _over_flow(one: Shown, longest: float) -> Frames:
    """(T, 2 S + 4, S, 3): the clip over its flow."""
    gap = np.full((len(one.frames), GAP, *one.frames.shape[2:]), 255, np.uint8)
    return np.concatenate([one.frames, gap, one.flow_frames(longest)], axis=1)


def _still(clips: Sequence[list[Shown]]) -> NDArray[np.uint8]:
    """A band for each version of each clip: its name, its frames, and beneath them its flow."""
    bands = []
    for versions in clips:
        longest = _longest(versions)
        for one in versions:
            places = np.linspace(0, len(one.frames) - 1, min(COLUMNS, len(one.frames))).round().astype(int)
            tall = _over_flow(one, longest)[places]
            gap = np.full((*tall.shape[1:2], GAP, 3), 255, np.uint8)
            strip = np.concatenate([part for frame in tall for part in (frame, gap)], axis=1)
            bands += [_label(one.name, strip.shape[1]), strip]
        bands.append(np.full((3 * GAP, bands[-1].shape[1], 3), 255, np.uint8))
    return np.concatenate(bands)


def _moving(clips: Sequence[list[Shown]]) -> Frames:
    """A row for each clip and a column for each version, playing."""
    rows = []
    for versions in clips:
        longest = _longest(versions)
        columns = []
        for one in versions:
            tall = _over_flow(one, longest)
            label = np.broadcast_to(_label(one.name, tall.shape[2]), (len(tall), LABEL, tall.shape[2], 3))
            gap = np.full((len(tall), tall.shape[1] + LABEL, GAP, 3), 255, np.uint8)
            columns += [np.concatenate([label, tall], axis=1), gap]
        rows.append(np.concatenate(columns, axis=2))
    return np.concatenate(rows, axis=1)


def _label(text: str, width: int) -> NDArray[np.uint8]:
    image = Image.new("RGB", (width, LABEL), "white")
    ImageDraw.Draw(image).text((2, 2), text, fill=(INK,) * 3, font=ImageFont.load_default(12))
    return np.asarray(image)


def _even(frames: Frames) -> Frames:
    """Cut to even sides, which H.264 needs."""
    return frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2]
