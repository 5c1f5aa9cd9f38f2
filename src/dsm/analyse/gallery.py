"""Queries and their neighbours as playing clips, right and wrong marked: one self-contained page."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from dsm.analyse.index_clips import clip_of, told
from dsm.analyse.page import clip_uri, write_page
from dsm.evaluate.features import Features
from dsm.evaluate.results import command_line
from dsm.evaluate.retrieval import Retrieval

NEIGHBOURS = 5
FPS = 8


def write_gallery(path: Path, gallery: Features, queries: Features, found: Retrieval, shown: int) -> None:
    """Write the page, of ``shown`` queries drawn at random, the same ones every time.

    Raises:
        UserError: a video cannot be read.
    """

    @lru_cache(maxsize=256)
    def uri(row: int) -> str:
        return clip_uri(clip_of(gallery, row), fps=FPS)

    rows = []
    for query in sorted(np.random.default_rng(0).permutation(len(queries))[:shown].tolist()):
        near = [
            {
                "uri": uri(int(place)),
                "told": told(gallery, int(place)),
                "label": int(gallery.labels[place]),
                "cosine": f"{found.similarities[query, rank]:.2f}",
                "right": bool(found.right[query, rank]),
            }
            for rank, place in enumerate(found.neighbours[query, :NEIGHBOURS])
            if place >= 0
        ]
        rows.append(
            {
                "uri": clip_uri(clip_of(queries, query), fps=FPS),
                "told": told(queries, query),
                "label": int(queries.labels[query]),
                "near": near,
            }
        )
    write_page(
        path, "gallery.html", title="Neighbours", rows=rows, command=command_line(),
        count=len(gallery), recall=f"{found.recall(1).mean():.1%}", queries=len(queries),
    )  # fmt: skip
