"""``dsm search``: the nearest videos of an archive to one, near-duplicates, or a page."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dsm.analyse.film import label, spread, strip, write_still
from dsm.analyse.index_clips import clip_of, told
from dsm.engine.progress import console
from dsm.engine.runfolder import claim_file
from dsm.errors import UserError
from dsm.evaluate.feature_files import load_features
from dsm.evaluate.features import Features
from dsm.evaluate.search import ArchiveIndex, Hit, find_duplicates
from dsm.files import csv_text, write_text
from dsm.notes import many
from dsm.video.source import VideoError

SHOWN = 20
MOST_PAIRS = 1_000_000


@dataclass(frozen=True)
class SearchConfig:
    """Settings of `dsm search`."""

    index: Path
    """Features of the archive, from `dsm extract` (best with `--per-clip`)."""
    query: Path | None = None
    """A video to search for."""
    time: float | None = None
    """Search for the clip around this second of the query; left out, for its windows' mean."""
    k: int = 10
    """Videos to find."""
    out: Path | None = None
    """Contact sheet of what is found (.png, .jpg); of duplicates a table (.tsv)."""
    duplicates: bool = False
    """Instead of a query: pairs of videos in the index that are nearly the same."""
    threshold: float = 0.99
    """Cosine from which two are."""
    serve: bool = False
    """Instead of a query: a page to search with, on this machine only."""
    port: int = 8077
    """Where the page is."""
    weights: str | None = None
    """Where the weights lie now, if not where they lay when the index was extracted."""
    root: Path | None = None
    """Where the videos lie now, if not where they lay."""
    faiss: bool = False
    """Search by FAISS (an extra); beyond a million rows faster and not exact."""
    overwrite: bool = False
    """Replace an existing `out`."""

    def __post_init__(self) -> None:
        if (self.query is not None) + self.duplicates + self.serve != 1:
            raise UserError("give one of --query VIDEO, --duplicates and --serve.")
        if self.k < 1 or not -1 <= self.threshold <= 1 or not 0 <= self.port < 65536:
            raise UserError("k must be at least 1, threshold a cosine, port from 0 to 65535.")
        if self.time is not None and self.query is None:
            raise UserError("--time wants a --query VIDEO.")
        endings = (".tsv",) if self.duplicates else (".png", ".jpg")
        if self.out is not None and self.out.suffix not in endings:
            raise UserError(f"{self.out}: --out must end in {' or '.join(endings)}.")


def search_command(config: SearchConfig) -> None:
    """Search, print, draw."""
    if config.out is not None:
        claim_file(config.out, overwrite=config.overwrite)
    features = load_features(config.index)
    if config.root is not None:
        features = replace(features, meta=features.meta | {"root": str(config.root.absolute())})
    if config.duplicates:
        _duplicates(config, features)
        return
    index = ArchiveIndex(features, faiss=config.faiss)
    if config.serve:
        _serve(config, index)
        return
    from dsm.engine.query import QueryEncoder

    assert config.query is not None
    query = QueryEncoder(features, config.weights)(config.query, config.time)
    hits = index.search(query, config.k)
    for rank, hit in enumerate(hits, start=1):
        print(f"{rank:3d}  {hit.cosine:6.3f}  {told(features, hit.row)}")
    if config.out is not None:
        _contact_sheet(config.out, features, hits)
        console.print(f"{config.out}: their frames")


def _contact_sheet(out: Path, features: Features, hits: list[Hit]) -> None:
    """A row of frames for each hit."""
    rows = []
    for rank, hit in enumerate(hits, start=1):
        try:
            frames = clip_of(features, hit.row)
        except VideoError as error:
            console.print(f"not drawn: {error}", style="yellow")
            continue
        picture = strip(frames[spread(len(frames))])
        rows.append(
            [label(f"{rank}  {hit.cosine:.3f}  {told(features, hit.row)}", picture.shape[1]), picture]
        )
    if not rows:
        raise UserError("none of the videos found can be read; --root says where they lie now.")
    width = max(picture.shape[1] for _, picture in rows)
    wide = [
        np.pad(part, ((0, 0), (0, width - part.shape[1]), (0, 0)), constant_values=255)
        for row in rows
        for part in row
    ]
    write_still(out, np.concatenate(wide))


def _duplicates(config: SearchConfig, features: Features) -> None:
    lines: list[list[str]] = []
    for one, two, cosine in find_duplicates(features, config.threshold):
        if len(lines) == MOST_PAIRS:
            raise UserError(f"more than {MOST_PAIRS} pairs; raise --threshold.")
        lines.append([f"{cosine:.4f}", told(features, one), told(features, two)])
        if config.out is None and len(lines) <= SHOWN:
            print("  ".join(lines[-1]))
    if config.out is not None:
        write_text(config.out, csv_text([["cosine", "one", "other"], *lines], delimiter="\t"))
    count = len(lines)
    where = "; --out FILE.tsv writes all" if count > SHOWN else ""
    where = f"; all are in {config.out}" if config.out else where
    console.print(
        f"{many(count, 'pair')} of different videos with a cosine of {config.threshold:g} or more{where}"
    )


def _serve(config: SearchConfig, index: ArchiveIndex) -> None:
    from dsm.analyse.search_page import HOST, make_server
    from dsm.engine.query import QueryEncoder

    encode = None
    try:
        encode = QueryEncoder(index.features, config.weights)
    except UserError as error:
        console.print(f"no videos of your own can be sent: {error}", style="yellow")
    server = make_server(index, encode, config.port)
    console.print(f"http://{HOST}:{server.server_address[1]} (Ctrl-C ends it)")
    with server:
        server.serve_forever()
