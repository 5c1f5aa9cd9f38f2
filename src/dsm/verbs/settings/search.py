"""Settings of `dsm search`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dsm.errors import UserError
from dsm.inputs import FeaturesFile


@dataclass(frozen=True)
class SearchConfig:
    """Settings of `dsm search`."""

    index: FeaturesFile
    """Features of the archive, written by `dsm extract` (preferably with `--per-clip`)."""
    query: Path | None = None
    """A video to search for."""
    time: float | None = None
    """Search with the clip around this second of the query; by default with the mean over its windows."""
    k: int = 10
    """Number of videos to find."""
    out: Path | None = None
    """File to write: a contact sheet of the hits (.png, .jpg), or a table of duplicates (.tsv)."""
    duplicates: bool = False
    """Instead of a query: find pairs of videos in the index that are nearly the same."""
    threshold: float = 0.99
    """Smallest cosine of two duplicates."""
    serve: bool = False
    """Instead of a query: serve a search page, reachable from this machine only, until stopped."""
    port: int = 8077
    """Port of the page; 0 picks a free one."""
    weights: str | None = None
    """Where the weights are now, if they have moved since the index was extracted."""
    root: Path | None = None
    """Where the videos are now, if they have moved since then."""
    faiss: bool = False
    """Search with FAISS (an extra): beyond a million rows faster, but approximate."""
    overwrite: bool = False
    """Overwrite `out` if it exists."""

    def __post_init__(self) -> None:
        if (self.query is not None) + self.duplicates + self.serve != 1:
            raise UserError("give exactly one of --query VIDEO, --duplicates and --serve.")
        if self.k < 1 or not -1 <= self.threshold <= 1 or not 0 <= self.port < 65536:
            raise UserError("k must be at least 1, threshold from -1 to 1, port from 0 to 65535.")
        if self.time is not None and self.query is None:
            raise UserError("--time needs --query VIDEO.")
        endings = (".tsv",) if self.duplicates else (".png", ".jpg")
        if self.out is not None and self.out.suffix not in endings:
            raise UserError(f"{self.out}: --out must end in {' or '.join(endings)}.")
