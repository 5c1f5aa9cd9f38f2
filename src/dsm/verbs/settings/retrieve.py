"""Settings of `dsm retrieve`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dsm.errors import UserError
from dsm.inputs import FeaturesFile, GroupsTable


@dataclass(frozen=True)
class RetrieveConfig:
    """Settings of `dsm retrieve`."""

    gallery: FeaturesFile
    """Features to search in (usually the training videos)."""
    queries: FeaturesFile
    """Features to search for (usually the test videos)."""
    out: Path
    """Folder for results.json, neighbours.tsv, classes.csv and gallery.html."""
    groups: GroupsTable | None = None
    """Table (.tsv, .csv: a header, path first, group last) of which videos are alike: intervals are over
    groups of queries, and left out, of clips over their videos."""
    group_regex: str = ""
    """The same by an expression that finds the group in a path."""
    across_groups: bool = False
    """Count neighbours of other groups only."""
    shown: int = 12
    """Queries in gallery.html, with their neighbours, as playing clips; 0 leaves it out."""
    overwrite: bool = False
    """Replace the results in `out`."""

    def __post_init__(self) -> None:
        if self.shown < 0:
            raise UserError("shown must not be below 0.")
        if self.across_groups and not (self.groups or self.group_regex):
            raise UserError("--across-groups needs --groups or --group-regex, which say what the groups are.")
