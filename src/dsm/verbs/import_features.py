"""``dsm data features``: another tool's features -> a file for retrieve, probe, search and embed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from dsm.data.classes import check_class_names, class_lines, names_of
from dsm.data.list_format import UNLABELLED
from dsm.data.lists import read_list
from dsm.errors import UserError
from dsm.evaluate.feature_files import check_suffix, save_features
from dsm.evaluate.features import places_of
from dsm.evaluate.import_features import Keys, features_from, read_arrays
from dsm.runs.claims import claim_files
from dsm.settings import takes_settings
from dsm.terminal import many, warn
from dsm.untrusted import read_text
from dsm.urls import absolute
from dsm.verbs.result import Result
from dsm.verbs.settings.data import FeaturesConfig


@takes_settings(FeaturesConfig)
def features(config: FeaturesConfig) -> Result:
    """Read features that another tool wrote, and write them for retrieve, probe, search and embed."""
    claim_files(config.out, overwrite=config.overwrite, needed=[config.file])
    check_suffix(config.out)
    if config.out.suffix == ".npy":
        raise UserError(f"{config.out}: an .npy file has no paths or labels; write .npz or .parquet.")
    classes = None
    if config.classes is not None:
        if not config.classes.is_file():
            raise UserError(f"{config.classes}: no such file (--classes).")
        try:
            names = read_text(config.classes, encoding="utf-8-sig")
        except ValueError:
            raise UserError(
                f"{config.classes}: must be UTF-8 text with one class name per line (--classes)."
            ) from None
        classes = class_lines(names, config.classes)
    keys = Keys(config.features, config.labels, config.paths)
    imported, taken = features_from(config.file, read_arrays(config.file), keys, classes)
    sources = {"features": taken.features, "labels": taken.labels, "paths": taken.paths}
    places = {"root": absolute(config.root)} if config.root else {}
    if config.videos is not None:
        videos = read_list(config.videos, config.root)
        if len(videos) != len(imported):
            raise UserError(
                f"{config.videos} has {many(len(videos), 'video')}, but {config.file} has "
                f"{many(len(imported), 'row')}; "
                "give a list of the same videos in the same order."
            )
        places = places_of(videos)
        if taken.paths is None:
            imported, sources["paths"] = replace(imported, paths=list(videos.paths)), str(config.videos)
        if taken.labels is None and (videos.labels != UNLABELLED).any():
            imported, sources["labels"] = replace(imported, labels=videos.labels), str(config.videos)
            if classes is not None:
                check_class_names(videos, classes, str(config.classes))
            classes = classes or names_of(videos)
    meta: dict[str, Any] = {
        "run": config.run or config.file.stem,
        "list": config.file.stem,
        "weights": None,
        "seed": 0,
    }
    if classes:
        meta["classes"] = classes
    meta |= places
    save_features(config.out, replace(imported, meta=meta))
    lacking = [what for what in ("labels", "paths") if sources[what] is None]
    if lacking:
        instead = {"labels": "unlabelled", "paths": "named by their number"}
        warn(
            f"no {' and no '.join(lacking)} in {config.file}: rows are "
            f"{' and '.join(instead[what] for what in lacking)}; "
            "add them with --videos LIST, a list of the same videos in the same order."
        )
    known = np.unique(imported.labels[imported.labels >= 0])
    if len(known) and known[0] == 1 and len(known) == known[-1]:
        warn(
            f"labels go from 1 to {known[-1]}, so class 0 is empty; if they count from 1, subtract 1 before "
            "importing, or class names are off by one."
        )
    taken_from = ", ".join(f"{what} from {name}" for what, name in sources.items() if name is not None)
    line = f"{config.out}: {many(len(imported), 'row')} x {many(imported.dim, 'dimension')}; {taken_from}"
    return Result(files=[config.out], lines=[line])
