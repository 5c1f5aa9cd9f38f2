"""The pictures of the page of ``dsm report``, as data URIs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dsm.pages.figures import picture_of
from dsm.pages.picture_texts import BARS, VARIANTS, describe_gradients
from dsm.pages.report_content import Given, Measured
from dsm.pages.run_figures import draw_gradients
from dsm.pages.template import data_uri
from dsm.runs.logs import read_gradients
from dsm.runs.record import RunRecord

ROOM = {
    "neighbours": 8_000_000,
    "maps": 4_000_000,
    "embedding": 4_000_000,
    "bias": 2_000_000,
    "pictures": 4_000_000,
}
"""Most characters of all clips and pictures of a section."""
PICTURE_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif"}
"""Formats of pictures that the page includes."""


def picture_uri(path: Path, room: float = math.inf) -> str | None:
    """A picture as a data URI; None if it would exceed ``room`` characters."""
    if path.stat().st_size * 4 / 3 > room:  # without reading the file
        return None
    uri = data_uri(PICTURE_TYPES[path.suffix.lower()], path.read_bytes())
    return uri if len(uri) <= room else None


def gradients_picture(run: RunRecord) -> tuple[str, str] | None:
    """The picture of a run's gradients as a data URI, and its description."""
    figure = draw_gradients(run.folder, run.name)
    if figure is None:
        return None
    description = describe_gradients(run.name, read_gradients(run.folder))
    return data_uri("image/png", picture_of(figure, "png")), description


def bias_pictures(
    measured: Mapping[str, Measured],
) -> tuple[list[tuple[str, str, str]], list[str]]:
    """Each run's bias pictures (heading, picture, description), the variants only once and last; and notes
    on omitted ones.

    The bars are not included: one chart shows those of all runs.
    """
    room = ROOM["bias"]
    shown: list[tuple[str, str, str]] = []
    last: list[tuple[str, str, str]] = []
    left: list[str] = []
    for name, results in measured.items():
        for path, description in results.bias:
            if path.name == BARS:
                continue
            variants = path.name == VARIANTS
            if variants and last:
                continue
            uri = picture_uri(path, room)
            if uri is None:
                left.append(f"{name}: {path.name} of bias, because the page would grow too large")
                continue
            room -= len(uri)
            if variants:
                last.append(("Variants of one test video", uri, description))
            else:
                shown.append((name, uri, description))
    return shown + last, left


def given_pictures(every: Sequence[Given]) -> list[dict[str, Any]]:
    """The given results for the page's template; pictures that do not fit are named in ``too_large``."""
    room, shown = ROOM["pictures"], []
    for one in every:
        kept, left = [], []
        for path, description in one.pictures:
            uri = picture_uri(path, room)
            if uri is None:
                left.append(path.name)
                continue
            room -= len(uri)
            kept.append((path.name, uri, description))
        shown.append(
            {"name": one.name, "command": one.command, "pictures": kept, "too_large": ", ".join(left)}
        )
    return shown
