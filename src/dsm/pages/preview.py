"""The output of ``dsm data preview``: a still picture, an animation or a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsm.evaluate.preview import Frames, Shown
from dsm.intervals import Spread
from dsm.pages.film import COLUMNS, GAP, label, strip, white, write_playing, write_still
from dsm.pages.template import FPS, clip_uri, write_page
from dsm.video.sampling import evenly


class MeanChange(NamedTuple):
    """How much a version changes on average."""

    version: str
    against: str
    """The version that it is compared with."""
    scene: Spread
    motion: Spread


def write_preview(
    path: Path, clips: Sequence[list[Shown]], rows: Sequence[MeanChange], *, measured: int
) -> None:
    """Write the preview; the suffix of ``path`` sets the format.

    Args:
        clips: the versions of each clip; the first is the unchanged clip.
        rows: the mean change of each version but the first.
        measured: the number of clips that these are means over.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".html":
        shown = [
            [
                {
                    "name": one.name,
                    "uri": clip_uri(_over_flow(one, longest)),
                    "scene": f"{one.scene:.0%}" if place else "",
                    "motion": f"{one.motion:.0%}" if place else "",
                }
                for place, one in enumerate(versions)
            ]
            for versions in clips
            for longest in [_longest(versions)]
        ]
        write_page(
            path, "preview.html", title="What the disturbances change", clips=shown,
            rows=[(row.version, "", [row.against, *_percents(row)]) for row in rows],
            message=_message(rows),
            measured="Measured on one clip." if measured == 1 else
            f"Mean ± standard deviation over {measured} clips.",
        )  # fmt: skip
    elif path.suffix == ".png":
        write_still(path, _still(clips))
    else:
        write_playing(path, _moving(clips), FPS)


def _percents(row: MeanChange) -> list[str]:
    return [str(spread).replace(" %", "%") for spread in (row.scene, row.motion)]


def _message(rows: Sequence[MeanChange]) -> str:
    """What the negative changes, as a sentence; without a negative, what to do."""
    for row in rows:
        if row.version == "negative":
            changed = f"scene by {row.scene.mean:.0%} and its motion by {row.motion.mean:.0%}"
            return f"Here, the {row.version} changes the {row.against}'s {changed}."
    return "Check both on your own clips."


def _longest(versions: Sequence[Shown]) -> float:
    """The motion with full saturation: the 98th percentile of the unchanged clip, at least 0.5 pixels."""
    return max(float(np.percentile(np.hypot(versions[0].flow[:, 0], versions[0].flow[:, 1]), 98)), 0.5)


def _over_flow(one: Shown, longest: float) -> Frames:
    """(T, 2 S + 4, S, 3): the clip above its flow."""
    gap = white(len(one.frames), GAP, one.frames.shape[2])
    return np.concatenate([one.frames, gap, one.flow_frames(longest)], axis=1)


def _still(clips: Sequence[list[Shown]]) -> NDArray[np.uint8]:
    """One band per version of each clip: its name, its frames, and below them its flow."""
    bands = []
    for versions in clips:
        longest = _longest(versions)
        for one in versions:
            tall = _over_flow(one, longest)
            frames = strip(tall[evenly(len(tall), COLUMNS)])
            bands += [label(one.name, frames.shape[1]), frames]
        bands.append(white(3 * GAP, bands[-1].shape[1]))
    return np.concatenate(bands)


def _moving(clips: Sequence[list[Shown]]) -> Frames:
    """An animation with one row per clip and one column per version."""
    rows = []
    for versions in clips:
        longest = _longest(versions)
        columns = []
        for one in versions:
            tall = _over_flow(one, longest)
            words = label(one.name, tall.shape[2])
            name = np.broadcast_to(words, (len(tall), *words.shape))
            gap = white(len(tall), tall.shape[1] + len(words), GAP)
            columns += [np.concatenate([name, tall], axis=1), gap]
        rows.append(np.concatenate(columns, axis=2))
    return np.concatenate(rows, axis=1)
