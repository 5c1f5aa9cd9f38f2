"""``dsm search``: find the videos of an archive nearest to a query, near-duplicates, or serve a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsm.data.cameras import cameras_of
from dsm.errors import UserError
from dsm.evaluate.archive import open_archive
from dsm.evaluate.duplicates import all_pairs
from dsm.evaluate.explore import linked
from dsm.evaluate.features import Features
from dsm.evaluate.footage import footage_of
from dsm.evaluate.search import ArchiveIndex, Filters, Hit, QueryEncoder, rows_of_file, rows_with, told_apart
from dsm.files import csv_text, write_text
from dsm.pages.duplicates import write_duplicates_page
from dsm.pages.film import COLUMNS, label, strip, write_still
from dsm.pages.gallery import clip_frames, row_text
from dsm.pages.search_page import HOST, PageServer
from dsm.runs.claims import claim_files
from dsm.settings import takes_settings
from dsm.terminal import console, many, progress, warn
from dsm.verbs.result import Result, plain_table
from dsm.verbs.settings.exploring import SearchConfig
from dsm.video.sampling import evenly
from dsm.video.source import VideoError

MAX_PAIRS_SHOWN = 20
"""Most pairs that are printed if no file is written."""
Span = tuple[float, float]


@dataclass(frozen=True)
class FoundVideo:
    """A video of the archive, found by its nearest clip."""

    path: str
    """Path, as in the list that the index was extracted from."""
    label: int
    """-1 if the list has no label for it."""
    times: Span | None
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
    times: tuple[Span | None, Span | None]
    """First and last second of each clip; None if the index holds whole videos."""
    rows: tuple[int, int]
    """Their rows in the index."""
    group: int = 0
    """Pairs of one group, from 1 on, are linked, directly or through others."""


@dataclass(frozen=True)
class SearchResult(Result):
    """The videos found, nearest first; or the pairs of duplicates."""

    hits: Sequence[FoundVideo] = ()
    duplicates: Sequence[DuplicatePair] = ()


@takes_settings(SearchConfig)
def search(config: SearchConfig) -> SearchResult:
    """Find the videos nearest to a query, or near-duplicates; or serve a search page until stopped."""
    if config.out is not None:
        claim_files(config.out, overwrite=config.overwrite)
    archive = open_archive(config.index, config.root)
    features = archive.features
    if config.duplicates:
        return _duplicates(config, features)
    index = ArchiveIndex(features, archive.engine(config.engine))
    cameras: Sequence[str] = ()
    if config.serve or config.camera:  # takes a minute for ten million names
        cameras, _ = cameras_of(features.paths, file=config.cameras, regex=config.camera_regex)
    among = rows_with(features, cameras, Filters(config.path, config.camera, config.label))
    if config.query is None:
        _serve(config, index, cameras, among)
        return SearchResult()
    query = QueryEncoder(features, config.weights)(config.query, config.time)
    files, lines = [], []
    own = rows_of_file(features, config.query)
    if own.any() and not config.itself:
        among = ~own if among is None else among & ~own
        lines.append(f"{config.query}: is in the index, and left out of the results; --itself includes it")
    skip = (config.page - 1) * config.k
    hits = index.search(query, config.k, among=among, skip=skip)
    numbers = told_apart([hit.cosine for hit in hits])
    ranked = [
        (f"{rank:3d}", number, row_text(features, hit.row))
        for rank, (hit, number) in enumerate(zip(hits, numbers, strict=True), start=skip + 1)
    ]
    if not hits:
        lines.append(
            "no other video is left to find"
            + (f" on page {config.page}" if config.page > 1 else "")
            + (f"; {config.out} is not written" if config.out is not None else "")
        )
    elif config.out is not None:
        _contact_sheet(config.out, features, hits, ranked)
        files = [config.out]
        lines.append(f"{config.out}: a contact sheet of the results")
    return SearchResult(
        files=files,
        tables=[plain_table(ranked)],
        lines=lines,
        hits=[
            FoundVideo(
                features.paths[hit.row],
                int(features.labels[hit.row]),
                features.times_of(hit.row),
                hit.cosine,
                hit.row,
            )
            for hit in hits
        ],
    )


def _contact_sheet(
    out: Path, features: Features, hits: list[Hit], ranked: Sequence[tuple[str, str, str]]
) -> None:
    """Write a picture with one row of frames per hit, under its rank, cosine and path."""
    rows = []
    for hit, told in zip(hits, ranked, strict=True):
        try:
            frames = clip_frames(features, hit.row)
        except VideoError as error:
            warn(f"not drawn: {error}")
            continue
        picture = strip(frames[evenly(len(frames), COLUMNS)])
        rows.append([label("  ".join(told).strip(), picture.shape[1]), picture])
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
    found = all_pairs(features, config.threshold)
    one, two = (np.array([pair[side] for pair in found], np.int64) for side in (0, 1))
    group_of = {row: group[0] for group in linked(len(features), one, two) for row in group}
    number: dict[int, int] = {}
    for row in one.tolist():  # groups are numbered by their nearest pair
        number.setdefault(group_of[row], len(number) + 1)
    pairs = [
        DuplicatePair(
            features.paths[a], features.paths[b], cosine, (features.times_of(a), features.times_of(b)),
            (a, b), number[group_of[a]],
        )
        for a, b, cosine in found
    ]  # fmt: skip
    pairs.sort(key=lambda pair: pair.group)  # stable: within a group the nearest first
    written = told_apart([pair.cosine for pair in pairs], 4)
    cells = [
        (str(pair.group), cosine, *(row_text(features, row) for row in pair.rows))
        for pair, cosine in zip(pairs, written, strict=True)
    ]
    where, files, tables = "", [], []
    if config.out is not None:
        if config.out.suffix == ".html":
            _duplicates_page(config, features, pairs)
        else:
            write_text(config.out, csv_text([["group", "cosine", "one", "other"], *cells], delimiter="\t"))
        where, files = f"; all are in {config.out}", [config.out]
    elif pairs:
        tables = [plain_table(cells[:MAX_PAIRS_SHOWN])]
        where = (
            "; --out FILE.tsv writes all, --out FILE.html shows them"
            if len(pairs) > MAX_PAIRS_SHOWN
            else "; --out FILE.html shows them"
        )
    count = (
        f"{many(len(pairs), 'pair')} in {many(len(number), 'group')} of different videos with a cosine of "
        f"{config.threshold:g} or more{where}"
    )
    return SearchResult(files=files, tables=tables, lines=[count], duplicates=pairs)


def _duplicates_page(config: SearchConfig, features: Features, pairs: Sequence[DuplicatePair]) -> None:
    assert config.out is not None
    members: dict[int, dict[int, None]] = {}
    best: dict[int, float] = {}
    for pair in pairs:
        members.setdefault(pair.group, {}).update(dict.fromkeys(pair.rows))
        best[pair.group] = max(best.get(pair.group, -1.0), pair.cosine)
    rows = np.array(sorted({row for group in members.values() for row in group}), np.int64)
    place = {row: number for number, row in enumerate(rows.tolist())}
    with progress("files", len(rows)) as bar:
        footage = footage_of(features.part(rows), on_progress=bar.update)
    groups = [[place[row] for row in group] for group in members.values()]
    write_duplicates_page(
        config.out, footage, groups, told_apart(list(best.values()), 4), threshold=config.threshold
    )


def _serve(
    config: SearchConfig, index: ArchiveIndex, cameras: Sequence[str], among: NDArray[np.bool_] | None
) -> None:
    encode = None
    try:
        encode = QueryEncoder(index.features, config.weights)
    except UserError as error:
        warn(f"the page cannot search with videos of your own: {error}")
    server = PageServer(index, encode, config.port, cameras=cameras, among=among, k=config.k)
    console.print(f"http://{HOST}:{server.server_address[1]} (press Ctrl-C to stop)")
    with server:
        server.serve_forever()
