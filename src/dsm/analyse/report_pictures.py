"""Pictures of the page of ``dsm report``, as data URIs, each with what it shows in words."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dsm.analyse.alt_texts import gradients_told
from dsm.analyse.figures import DOTS
from dsm.analyse.report_content import Given, Measured
from dsm.analyse.run_figures import draw_gradients
from dsm.analyse.run_record import RunRecord
from dsm.engine.runfolder import read_gradients

ROOM = {
    "neighbours": 8_000_000,
    "maps": 4_000_000,
    "embedding": 4_000_000,
    "bias": 2_000_000,
    "pictures": 4_000_000,
}
"""Characters that clips and pictures may take of them."""
KINDS = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif"}
"""Pictures that are taken to the page."""
VARIANTS = "variants.png"


def picture_uri(path: Path) -> str:
    """A picture as a data URI."""
    kind = KINDS[path.suffix.lower()]
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def gradients_picture(run: RunRecord) -> tuple[str, str] | None:
    """The picture, and what it shows in words."""
    figure = draw_gradients(run.folder, run.name)
    if figure is None:
        return None
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=DOTS, format="png")
    uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return uri, gradients_told(run.name, read_gradients(run.folder))


def bias_pictures(
    measured: Mapping[str, Measured],
) -> tuple[list[tuple[str, list[tuple[str, str]]]], list[str]]:
    """Of each run its pictures of bias with their words, the variants but once; and what found no room."""
    room, shown, left, seen = ROOM["bias"], [], [], False
    for name, found in measured.items():
        kept = []
        for path, told in found.bias:
            variants = path.name == VARIANTS
            if variants and seen:
                continue
            uri = picture_uri(path)
            if len(uri) > room:
                left.append(f"{name}: no room for {path.name} of bias")
                continue
            room -= len(uri)
            seen = seen or variants
            kept.append((uri, told))
        if kept:
            shown.append((name, kept))
    return shown, left


def given_pictures(every: Sequence[Given]) -> list[dict[str, Any]]:
    """For the page; pictures that find no room are named."""
    room, shown = ROOM["pictures"], []
    for one in every:
        kept, left = [], []
        for path, told in one.pictures:
            uri = picture_uri(path)
            if len(uri) > room:
                left.append(path.name)
                continue
            room -= len(uri)
            kept.append((path.name, uri, told))
        shown.append(
            {"name": one.name, "command": one.command, "pictures": kept, "too_large": ", ".join(left)}
        )
    return shown
