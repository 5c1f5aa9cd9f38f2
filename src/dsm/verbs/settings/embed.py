"""Settings of `dsm embed`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dsm.errors import UserError
from dsm.evaluate.settings import MapName
from dsm.inputs import FeaturesFile, GroupsTable


@dataclass(frozen=True)
class EmbedConfig:
    """Settings of `dsm embed`."""

    features: tyro.conf.Positional[tuple[FeaturesFile, ...]]
    """One or more feature files: the same labelled videos, encoded by different models."""
    out: Path
    """Folder for embedding.html, embedding.png and results.json."""
    gallery: tuple[FeaturesFile, ...] = ()
    """For each file, features to search for a video's nearest neighbour, which decides whether it is drawn as
    right or wrong (usually the training videos, same model); by default the other videos of the file."""
    colour: tuple[str, ...] = ()
    """More colourings, as NAME=TABLE (.tsv or .csv with a header; path first, name last), such as
    `place=places.tsv`. The scenes of MotionScenes are added automatically."""
    map: tuple[MapName, ...] = ("tsne",)
    """`tsne`, `umap` (an extra: pip install 'dsm-video[umap]'), or both."""
    groups: GroupsTable | None = None
    """Table with the group of each video; confidence intervals then resample whole groups."""
    group_regex: str = ""
    """Regular expression that finds the group in a path, instead of a table."""
    most: Annotated[int, tyro.conf.arg(metavar="VIDEOS")] = 2000
    """Use at most this many videos, drawn at random."""
    clips: int = 150
    """Videos that play in the page; the others are shown as text."""
    seed: int = 0
    """Seed of the maps and of random choices."""
    overwrite: bool = False
    """Overwrite the files in `out`."""

    def __post_init__(self) -> None:
        if not self.features:
            raise UserError("give one or more feature files, as written by `dsm extract`.")
        if self.gallery and len(self.gallery) != len(self.features):
            raise UserError(
                f"{len(self.gallery)} of --gallery for {len(self.features)} files; each file needs its own."
            )
        if min(self.clips, self.seed) < 0 or self.most < 1 or not self.map:
            raise UserError("clips and seed must not be negative; most must be at least 1; give a map.")
