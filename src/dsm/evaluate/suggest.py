"""Chooses clips to label next: those that a probe trained on the labels so far is least sure of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dsm.data.lists import VideoList
from dsm.errors import UserError
from dsm.evaluate.features import Features
from dsm.evaluate.footage import Footage
from dsm.evaluate.probe import fit_probe
from dsm.video.segments import SEGMENT


def labels_of(footage: Footage, labels: VideoList) -> NDArray[np.int64]:
    """(n,): the label of each row in a list of paths or segments; -1 if the list does not name it.

    A row is named by its path, its segment, or the file of its segment. A path in the list names all
    clips of its video.

    Raises:
        UserError: the list names no row, or has fewer than two labels.
    """
    known = dict(zip(map(_tidy, labels.paths), labels.labels.tolist(), strict=True))
    found = np.full(len(footage.features), -1)
    for row, path in enumerate(footage.features.paths):
        names = (footage.name(row), path)
        found[row] = next((known[_tidy(name)] for name in names if _tidy(name) in known), -1)
    kinds = len(np.unique(found[found >= 0]))
    if kinds == 0:
        raise UserError(
            f"{labels.source}: none of its paths is among the features; export the list from their own page."
        )
    if kinds == 1:
        raise UserError(f"{labels.source}: labels only one class, but a probe needs at least two.")
    return found


def _tidy(path: str) -> str:
    """A path without `./`, with its segment's seconds in one format."""
    path = path.removeprefix("./")
    part = SEGMENT.fullmatch(path)
    return f"{part[1]}#{float(part[2]):.3f}-{float(part[3]):.3f}" if part else path


def least_sure(
    features: Features, labels: NDArray[np.int64], videos: list[str], most: int
) -> list[tuple[int, float]]:
    """Unlabelled rows by the margin between a linear probe's two most probable labels, smallest first.

    Margin sampling (Scheffer et al. 2001), with one clip of each video.

    Args:
        labels: (n,), -1 for unlabelled rows.

    Returns:
        Rows and margins, in [0, 1].
    """
    given, others = np.flatnonzero(labels >= 0), np.flatnonzero(labels < 0)
    if not len(others):
        return []
    probe = fit_probe(replace(features.part(given), labels=labels[given]))
    ranked = np.sort(probe.predict_proba(features.features[others]), axis=1)
    margins = ranked[:, -1] - ranked[:, -2]
    chosen: dict[str, tuple[int, float]] = {}
    for place in np.argsort(margins, kind="stable").tolist():
        row = int(others[place])
        chosen.setdefault(videos[row], (row, float(margins[place])))
        if len(chosen) == most:
            break
    return list(chosen.values())
