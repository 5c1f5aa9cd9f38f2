"""``dsm data features``: features that another tool made -> a file for retrieve, probe, search and embed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from dsm.datasets.classes import names_of
from dsm.datasets.lists import UNLABELLED, read_list
from dsm.engine.progress import console
from dsm.engine.runfolder import claim_file
from dsm.errors import UserError
from dsm.evaluate.feature_files import check_suffix, save_features
from dsm.evaluate.other_features import Keys, features_of, read_arrays
from dsm.notes import many


@dataclass(frozen=True)
class FeaturesConfig:
    """Settings of `dsm data features`."""

    file: tyro.conf.Positional[Path]
    """An .npz, .npy, .h5 or .parquet (the last two are extras: hdf5, parquet)."""
    out: Path
    """File to write: .npz or .parquet, for `dsm retrieve`, `probe`, `search` and `embed`."""
    features: str | None = None
    """What the features, (n, d) numbers, are called in it; left out, the only ones there are."""
    labels: str | None = None
    """What the labels, (n,), are called; left out, the only whole numbers there are, one a row."""
    paths: str | None = None
    """What the videos' names, (n,), are called; left out, the only texts there are, one a row."""
    videos: Path | None = None
    """A list of the same videos in the same order, for paths and labels that the file has not."""
    classes: Path | None = None
    """Names of all classes in order, one a line, where the labels are names."""
    root: Path | None = None
    """Folder that paths count from, for clips in pages, and to know a video that is in two files."""
    run: str | None = None
    """What to call these features in tables; left out, the file's name."""
    overwrite: bool = False
    """Replace an existing file."""


def features(config: FeaturesConfig) -> None:
    """Read, check, say what was taken for what, write."""
    claim_file(config.out, overwrite=config.overwrite)
    check_suffix(config.out)
    if config.out.suffix == ".npy":
        raise UserError(f"{config.out}: a bare array has neither paths nor labels; write .npz or .parquet.")
    classes = None
    if config.classes is not None:
        if not config.classes.is_file():
            raise UserError(f"{config.classes}: no such file (--classes).")
        classes = config.classes.read_text(encoding="utf-8").split("\n")
        classes = [name.strip() for name in classes if name.strip()]
    keys = Keys(config.features, config.labels, config.paths)
    found, taken = features_of(config.file, read_arrays(config.file), keys, classes)
    told = {"features": taken.features, "labels": taken.labels, "paths": taken.paths}
    root = config.root
    if config.videos is not None:
        videos = read_list(config.videos, config.root)
        if len(videos) != len(found):
            raise UserError(
                f"{config.videos}: has {many(len(videos), 'video')}, and {config.file} "
                f"{many(len(found), 'row')}; they must "
                "be the same in the same order."
            )
        root = videos.root
        if taken.paths is None:
            found, told["paths"] = replace(found, paths=list(videos.paths)), str(config.videos)
        if taken.labels is None and (videos.labels != UNLABELLED).any():
            found, told["labels"] = replace(found, labels=videos.labels), str(config.videos)
            classes = names_of(videos)
    meta: dict[str, Any] = {
        "run": config.run or config.file.stem,
        "list": config.file.stem,
        "weights": None,
        "seed": 0,
    }
    if classes:
        meta["classes"] = classes
    if root is not None:
        meta["root"] = str(root.absolute())
    save_features(config.out, replace(found, meta=meta))
    taken_for = ", ".join(f"{what} from {name}" for what, name in told.items() if name is not None)
    console.print(
        f"{config.out}: {many(len(found), 'row')} x {many(found.dim, 'dimension')}; {taken_for}",
        highlight=False,
    )
    lacking = [what for what in ("labels", "paths") if told[what] is None]
    if lacking:
        instead = {"labels": "unlabelled", "paths": "called by their number"}
        console.print(
            f"no {' and no '.join(lacking)} in it: rows are {' and '.join(instead[one] for one in lacking)}; "
            "--videos LIST of the same videos in the same order has them.",
            style="yellow",
        )
    known = np.unique(found.labels[found.labels >= 0])
    if len(known) and known[0] == 1 and len(known) == known[-1]:
        console.print(f"labels are from 1 to {known[-1]}, and stay so.", style="yellow")
