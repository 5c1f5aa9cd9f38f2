"""Selects the rows of an index to search: by text in the path, camera and label."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsm.errors import UserError, nearest
from dsm.evaluate.features import Features


@dataclass(frozen=True)
class Filters:
    """Conditions on the videos to search; an empty string sets none."""

    path: str = ""
    """Text in the path or, with * or ?, a pattern for the whole path; case is ignored."""
    camera: str = ""
    label: str = ""
    """A class name, or a number."""


def class_texts(features: Features) -> list[str]:
    """The class names from label 0 on; numbers if the file has no names."""
    names = features.meta.get("classes")
    most = int(features.labels.max(initial=-1)) + 1
    named = isinstance(names, list) and len(names) >= most
    return [str(name) for name in names] if named and names else [str(number) for number in range(most)]


def rows_with(features: Features, cameras: Sequence[str], filters: Filters) -> NDArray[np.bool_] | None:
    """(n,), which rows match; None if there are no conditions.

    Raises:
        UserError: no row has this camera or label, or none matches.
    """
    if filters == Filters():
        return None
    fits = np.ones(len(features), bool)
    if filters.path:
        wanted = filters.path.lower()
        pattern = any(mark in wanted for mark in "*?")
        lower = (path.lower() for path in features.paths)
        fits &= [fnmatch.fnmatchcase(path, wanted) if pattern else wanted in path for path in lower]
    if filters.camera:
        if filters.camera not in cameras:
            raise UserError(
                f"no video is from the camera {filters.camera!r}{nearest(filters.camera, set(cameras))}"
            )
        fits &= np.asarray(cameras) == filters.camera
    if filters.label:
        names = class_texts(features)
        number = names.index(filters.label) if filters.label in names else -2
        if filters.label.isascii() and filters.label.isdigit() and len(filters.label) < 10 and number < 0:
            number = int(filters.label)
        if not (features.labels == number).any():
            raise UserError(f"no video has the label {filters.label!r}{nearest(filters.label, names)}")
        fits &= features.labels == number
    if not fits.any():
        raise UserError("no video has this path, camera and label together; drop one of them.")
    return fits
