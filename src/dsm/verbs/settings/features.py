"""Settings of `dsm data features`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True)
class FeaturesConfig:
    """Settings of `dsm data features`."""

    file: tyro.conf.Positional[Path]
    """File to read: .npz, .npy, .h5 or .parquet (the last two need the extras hdf5 and parquet)."""
    out: Path
    """File to write for `dsm retrieve`, `probe`, `search` and `embed`: .npz or .parquet."""
    features: str | None = None
    """Name of the features array, (n, d) numbers; may be left out if only one array fits."""
    labels: str | None = None
    """Name of the labels array, (n,); may be left out if only one array of whole numbers fits."""
    paths: str | None = None
    """Name of the array of video names, (n,); may be left out if only one array of texts fits."""
    videos: Path | None = None
    """List of the same videos in the same order, for paths and labels that the file lacks."""
    classes: Path | None = None
    """Names of all classes in order, one per line; needed if the labels are names."""
    root: Path | None = None
    """Folder that paths are relative to; needed to show clips, and to recognise a video in two files."""
    run: str | None = None
    """Name of these features in tables; by default the file's name."""
    overwrite: bool = False
    """Replace an existing file."""
