"""Several features files, for example one per day, as one archive; nothing is copied."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from dsm.errors import UserError
from dsm.evaluate.faiss_index import Parts
from dsm.evaluate.feature_files import load_features
from dsm.evaluate.features import BELOW, Features, numbered_alike, same_clips, same_encoder
from dsm.evaluate.nearest import Matrix
from dsm.evaluate.settings import EngineName
from dsm.urls import named


class Stacked:
    """Matrices of the same width, stacked: sliced and indexed like one array; only the result is a copy."""

    def __init__(self, parts: Sequence[Matrix]) -> None:
        self._parts = parts
        self._firsts = np.cumsum([0, *map(len, parts)])
        self.shape = (int(self._firsts[-1]), parts[0].shape[1])
        self.dtype = np.result_type(*parts)
        self.ndim = 2

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        if isinstance(rows, slice):
            begin, end, step = rows.indices(len(self))
            if step != 1:
                return self[np.arange(begin, end, step)]
            pieces = [
                part[max(begin - first, 0) : end - first]
                for part, first in zip(self._parts, self._firsts.tolist(), strict=False)
                if begin < first + len(part) and end > first
            ]
            if len(pieces) == 1:
                return pieces[0]
            return np.concatenate(pieces) if pieces else np.empty((0, self.shape[1]), self.dtype)
        rows = np.asarray(rows)
        if rows.dtype == bool:
            rows = np.flatnonzero(rows)
        found = np.empty((*rows.shape, self.shape[1]), self.dtype)
        of = np.searchsorted(self._firsts, rows, side="right") - 1
        for number in np.unique(of).tolist():
            here = of == number
            found[here] = self._parts[number][rows[here] - self._firsts[number]]
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype)


@dataclass(frozen=True)
class Archive:
    """The rows of one or several features files."""

    features: Features
    files: Sequence[Path]
    counts: Sequence[int]
    """Number of rows of each file."""

    def engine(self, name: EngineName) -> Parts | None:
        """The engines of the files, read from the index beside each file or built; None for exact search."""
        if name == "exact":
            return None
        return Parts(self.files, self.counts, self.features.features)


def open_archive(files: Sequence[Path], root: Path | None = None) -> Archive:
    """Open features files to be searched as one; float16 stays float16.

    Args:
        root: folder of the videos of all files; None for the folder that each file names.

    Raises:
        UserError: a file cannot be read, or the files do not belong together.
    """
    if len({os.path.realpath(file) for file in files}) < len(files):
        raise UserError("a features file is given twice (--index); give each once.")
    loaded = [load_features(file, half=True) for file in files]
    if root is not None:
        loaded = [one.rooted(root) for one in loaded]
    names = list(map(str, files))
    for name, one in zip(names, loaded, strict=True):
        one.need_pooled(name, "dsm search")
    for name, one in zip(names[1:], loaded[1:], strict=True):
        _need_alike(loaded[0], one, (names[0], name))
    counts = list(map(len, loaded))
    features = loaded[0]
    for name, one in zip(names[1:], loaded[1:], strict=True):
        features = _joined(features, one, (names[0], name))
    return Archive(features, files, counts)


def _need_alike(one: Features, two: Features, names: tuple[str, str]) -> None:
    same_encoder(one, two, names)
    same_clips(one, two, names)
    if ("root" in one.meta) != ("root" in two.meta):
        raise UserError(f"{names[0]} and {names[1]}: only one names the folder of its videos; give --root.")
    if (one.times is None) != (two.times is None):
        raise UserError(f"{names[0]} and {names[1]}: one has features of clips, the other of videos.")


def _joined(one: Features, two: Features, names: tuple[str, str]) -> Features:
    two = numbered_alike(one, two, names)
    meta, paths = dict(one.meta), [list(one.paths), list(two.paths)]
    roots = [str(part.meta.get("root", "")) for part in (one, two)]
    if roots[0] != roots[1]:
        # A path of the second file starts from its own root, which need not be below that of the first.
        paths[1] = [named(roots[1], path) for path in two.paths]
    if roots[0] != roots[1] or BELOW in two.meta or BELOW in one.meta:
        below = [str(part.meta.get(BELOW) or root) for part, root in zip((one, two), roots, strict=True)]
        try:
            meta[BELOW] = os.path.commonpath(below)
        except ValueError:  # one is a URL, or on another drive
            raise UserError(
                f"{names[0]} and {names[1]}: their videos share no folder; give --root."
            ) from None
    names_of = max((part.meta.get("classes") or [] for part in (one, two)), key=len)
    before: Any = one.features
    parts = before._parts if isinstance(before, Stacked) else [before]
    return Features(
        cast(Matrix, Stacked([*parts, two.features])),
        np.concatenate([one.labels, two.labels]),
        paths[0] + paths[1],
        meta | ({"classes": names_of} if names_of else {}),
        None if one.times is None or two.times is None else np.concatenate([one.times, two.times]),
        one.within,
    )
