"""``dsm search``: find the videos of an archive nearest to a query, near-duplicates, or serve a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dsm.errors import UserError
from dsm.evaluate.features import Features, load_features
from dsm.evaluate.search import ArchiveIndex, Hit, QueryEncoder, find_duplicates
from dsm.files import csv_text, write_text
from dsm.pages.film import label, spread, strip, write_still
from dsm.pages.gallery import clip_of, row_text
from dsm.pages.search_page import HOST, make_server
from dsm.runs.folder import claim_file
from dsm.settings import takes_settings
from dsm.terminal import console, many, warn
from dsm.verbs.result import Result, plain_table
from dsm.verbs.settings.evaluation import SearchConfig
from dsm.video.source import VideoError

MAX_PAIRS_SHOWN = 20
"""Pairs that are shown where no file takes them all."""
MOST_PAIRS = 1_000_000
Times = tuple[float, float]


@dataclass(frozen=True)
class FoundVideo:
    """A video of the archive, found by its nearest clip."""

    path: str
    """As in the list that the index was extracted from."""
    label: int
    """-1 if the list has no label for it."""
    times: Times | None
    """First and last second of the clip; None if the index holds whole videos."""
    cosine: float
    """Similarity to the query."""
    row: int
    """Its row in the index."""


@dataclass(frozen=True)
class DuplicatePair:
    """Two rows of the index, of different videos, that are nearly the same."""

    one: str
    other: str
    cosine: float
    times: tuple[Times | None, Times | None]
    """First and last second of each clip; None if the index holds whole videos."""
    rows: tuple[int, int]
    """Their rows in the index."""


@dataclass(frozen=True)
class SearchResult(Result):
    """The videos found, nearest first; or the pairs of duplicates."""

    hits: Sequence[FoundVideo] = ()
    duplicates: Sequence[DuplicatePair] = ()


@takes_settings(SearchConfig)
def search(config: SearchConfig) -> SearchResult:
    """Find the videos nearest to a query, or near-duplicates; or serve a search page until stopped."""
    if config.out is not None:
        claim_file(config.out, overwrite=config.overwrite)
    features = load_features(config.index)
    if config.root is not None:
        meta = features.meta | {"root": str(config.root.absolute())}
        features = replace(features, meta=meta, within=config.root)
    if config.duplicates:
        return _duplicates(config, features)
    index = ArchiveIndex(features, faiss=config.faiss)
    if config.query is None:
        _serve(config, index)
        return SearchResult()
    query = QueryEncoder(features, config.weights)(config.query, config.time)
    hits = index.search(query, config.k)
    ranked = [
        (f"{rank:3d}", f"{hit.cosine:6.3f}", row_text(features, hit.row))
        for rank, hit in enumerate(hits, start=1)
    ]
    files, lines = [], []
    if config.out is not None:
        _contact_sheet(config.out, features, hits)
        files, lines = [config.out], [f"{config.out}: their frames"]
    return SearchResult(
        files=files,
        tables=[plain_table(ranked)],
        lines=lines,
        hits=[
            FoundVideo(
                features.paths[hit.row],
                int(features.labels[hit.row]),
                _times_of(features, hit.row),
                hit.cosine,
                hit.row,
            )
            for hit in hits
        ],
    )


def _times_of(features: Features, row: int) -> Times | None:
    if features.times is None or not np.isfinite(features.times[row]).all():
        return None
    begin, end = features.times[row].tolist()
    return begin, end


def _contact_sheet(out: Path, features: Features, hits: list[Hit]) -> None:
    """Write a picture with one row of frames per hit."""
    rows = []
    for rank, hit in enumerate(hits, start=1):
        try:
            frames = clip_of(features, hit.row)
        except VideoError as error:
            warn(f"not drawn: {error}")
            continue
        picture = strip(frames[spread(len(frames))])
        rows.append(
            [label(f"{rank}  {hit.cosine:.3f}  {row_text(features, hit.row)}", picture.shape[1]), picture]
        )
    if not rows:
        raise UserError("none of the videos found can be read; give --root if they have moved.")
    width = max(picture.shape[1] for _, picture in rows)
    wide = [
        np.pad(part, ((0, 0), (0, width - part.shape[1]), (0, 0)), constant_values=255)
        for row in rows
        for part in row
    ]
    write_still(out, np.concatenate(wide))


def _duplicates(config: SearchConfig, features: Features) -> SearchResult:
    pairs: list[DuplicatePair] = []
    for one, other, cosine in find_duplicates(features, config.threshold):
        if len(pairs) == MOST_PAIRS:
            raise UserError(f"more than {MOST_PAIRS} pairs; raise --threshold.")
        times = _times_of(features, one), _times_of(features, other)
        pairs.append(DuplicatePair(features.paths[one], features.paths[other], cosine, times, (one, other)))

    def cells(some: Iterable[DuplicatePair]) -> list[tuple[str, ...]]:
        return [(f"{pair.cosine:.4f}", *(row_text(features, row) for row in pair.rows)) for pair in some]

    where, files, tables = "", [], []
    if config.out is not None:
        write_text(config.out, csv_text([["cosine", "one", "other"], *cells(pairs)], delimiter="\t"))
        where, files = f"; all are in {config.out}", [config.out]
    elif pairs:
        tables = [plain_table(cells(pairs[:MAX_PAIRS_SHOWN]))]
        where = "; --out FILE.tsv writes all" if len(pairs) > MAX_PAIRS_SHOWN else ""
    count = (
        f"{many(len(pairs), 'pair')} of different videos with a cosine of {config.threshold:g} or more{where}"
    )
    return SearchResult(files=files, tables=tables, lines=[count], duplicates=pairs)


def _serve(config: SearchConfig, index: ArchiveIndex) -> None:
    encode = None
    try:
        encode = QueryEncoder(index.features, config.weights)
    except UserError as error:
        warn(f"the page cannot take videos of your own: {error}")
    server = make_server(index, encode, config.port)
    console.print(f"http://{HOST}:{server.server_address[1]} (press Ctrl-C to stop)")
    with server:
        server.serve_forever()
