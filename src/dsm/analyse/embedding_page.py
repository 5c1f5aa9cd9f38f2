"""Videos on a map, to be looked into: hover, tap or walk by keys, and the clip under a dot plays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from dsm.analyse.embedding import Embedded
from dsm.analyse.embedding_figure import LOOKS, RIGHT_WRONG
from dsm.analyse.index_clips import clip_of
from dsm.analyse.page import clip_uri, render_page, write_page
from dsm.analyse.result_tables import Cell
from dsm.errors import UserError
from dsm.evaluate.features import Features
from dsm.evaluate.results import Row, command_line

FPS = 8
MEANINGS = {
    "rank": "how many dimensions the features spread along",
    "agreement": "the nearest other video has the same name",
    "silhouette": "from -1 to 1, 0 without order",
    "scatter": "share of the spread that lies between names",
}
"""By the last word of a metric's name."""
TITLES = {"tsne": "t-SNE", "umap": "UMAP"}


def embedding_section(embedded: Sequence[Embedded], clips: Mapping[int, str], *, name: str = "map") -> Markup:
    """Style, markup and script of the maps of one or more encoders, of the same videos; escaped.

    Args:
        clips: by row, the clip as a data URI; a row without one shows its words alone.
        name: of this section; two sections of one page need two.
    """
    first = embedded[0]
    data = {
        "runs": [one.run for one in embedded],
        "maps": {which: [np.round(one.maps[which], 4).tolist() for one in embedded] for which in first.maps},
        "colourings": {how: [one.colourings[how] for one in embedded] for how in first.colourings},
        "near": [one.neighbours.tolist() for one in embedded],
        "paths": first.paths,
        "clips": {str(row): uri for row, uri in clips.items()},
        "looks": LOOKS,
        "judged": RIGHT_WRONG,
    }
    maps = [(which, TITLES[which]) for which in first.maps]
    return Markup(
        render_page(
            "_embedding.html", name=name, data=data, maps=maps, colourings=list(first.colourings),
            runs=data["runs"], count=len(first.paths),
        )
    )  # fmt: skip


def write_embedding_page(
    path: Path, embedded: Sequence[Embedded], clips: Mapping[int, str], rows: Sequence[Row]
) -> None:
    """The section on a page of its own, over a table of the numbers."""
    write_page(
        path, "embedding.html", title="Embedding", section=embedding_section(embedded, clips),
        lines=number_lines(rows, [one.run for one in embedded]), runs=[one.run for one in embedded],
        command=command_line(),
    )  # fmt: skip


def number_table(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A line a metric, a cell a run: its value, its interval, and what chance would give."""
    chances = {
        (row.run, row.metric.removesuffix("_chance")): row.value for row in rows if "_chance" in row.metric
    }
    lines: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row.metric.endswith("_chance"):
            continue
        line = lines.setdefault(row.metric, {"metric": row.metric.replace("_", " "), "cells": {}})
        plain = row.metric == "effective_rank"
        interval = "" if row.low is None or row.high is None else f"{row.low:.2f} to {row.high:.2f}"
        chance = chances.get((row.run, row.metric))
        line["cells"][row.run] = {
            "value": f"{row.value:.1f}" if plain else f"{row.value:.3f}",
            "interval": interval,
            "chance": "" if chance is None else f"chance {chance:.2f}",
        }
    return list(lines.values())


def number_lines(rows: Sequence[Row], runs: Sequence[str]) -> list[tuple[str, str, list[Cell | None]]]:
    """The same for a table of a page."""
    lines = []
    for line in number_table(rows):
        cells = [line["cells"].get(run) for run in runs]
        lines.append(
            (
                line["metric"],
                MEANINGS.get(line["metric"].split()[-1], ""),
                [
                    cell and Cell(cell["value"], f"{cell['interval']} {cell['chance']}".strip(), False)
                    for cell in cells
                ],
            )
        )
    return lines


def clips_of(features: Features, most: int, seed: int = 0) -> dict[int, str]:
    """Playing clips of at most so many videos, drawn at random; one that cannot be read has none."""
    drawn = np.random.default_rng(seed).permutation(len(features))[:most]
    found = {}
    for row in sorted(drawn.tolist()):
        try:
            found[row] = clip_uri(clip_of(features, row), fps=FPS)
        except UserError:
            continue
    return found
