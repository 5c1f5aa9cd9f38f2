"""Search in an archive: the nearest videos to one, and videos that are nearly the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dsm.errors import UserError
from dsm.evaluate.features import Features
from dsm.evaluate.nearest import nearest, unit_rows
from dsm.extras import load_extra

BLOCK = 4096
EXACT_UP_TO = 1_000_000
"""Rows up to which FAISS searches exactly; beyond, in the nearest of its cells."""
SEARCHED_CELLS = 32
MORE = 4
"""Rows looked for, for each video wanted, as many may be of one; and so many times more, where they were."""


@dataclass(frozen=True)
class Hit:
    """A row that was found."""

    row: int
    cosine: float


class ArchiveIndex:
    """The rows of a features file, to be searched many times.

    Args:
        faiss: whether FAISS searches (an extra): faster where there are very many rows, and then not exact.

    Raises:
        UserError: there is no row; FAISS is wanted and not installed.
    """

    def __init__(self, features: Features, *, faiss: bool = False) -> None:
        if not len(features):
            raise UserError("the index holds no video.")
        self.features = features
        self._videos = np.unique(features.identities(), return_inverse=True)[1]
        self._faiss = _build_faiss(features) if faiss else None

    def search(self, query: NDArray[np.float32], k: int, *, but: int | None = None) -> list[Hit]:
        """The k nearest videos to a feature (d,), by the nearest clip of each; ``but`` a row's own video.

        Raises:
            UserError: the query has other dimensions.
        """
        if query.shape != (self.features.dim,):
            raise UserError(
                f"the query has {query.size} dimensions and the index {self.features.dim}; "
                "search with the weights that the index was extracted with."
            )
        wanted = MORE * (k + 1)
        while True:
            rows, cosines = self._rows(query[None], min(wanted, len(self.features)))
            seen = set() if but is None else {int(self._videos[but])}
            hits: list[Hit] = []
            for row, cosine in zip(rows.tolist(), cosines.tolist(), strict=True):
                if row >= 0 and len(hits) < k and (video := int(self._videos[row])) not in seen:
                    seen.add(video)
                    hits.append(Hit(row, cosine))
            # There are no more rows, or FAISS finds no more in the cells that it searches.
            if len(hits) == k or wanted >= len(self.features) or rows[-1] < 0:
                return hits
            wanted *= MORE

    def _rows(self, query: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        if self._faiss is None:
            found = nearest(self.features.features, query, k)
            return found.places[0], found.similarities[0]
        cosines, rows = self._faiss.search(unit_rows(query), k)
        return rows[0], cosines[0]


def _build_faiss(features: Features) -> Any:
    faiss = load_extra("faiss", "faiss", package="FAISS", wanted_by="--faiss")
    count, dim = features.features.shape
    index: Any = faiss.IndexFlatIP(dim)
    if count > EXACT_UP_TO:
        cells = int(4 * np.sqrt(count))
        index = faiss.IndexIVFFlat(index, dim, cells, faiss.METRIC_INNER_PRODUCT)
        chosen = np.sort(np.random.default_rng(0).choice(count, min(count, 50 * cells), replace=False))
        index.train(unit_rows(features.features[chosen]))
        index.nprobe = SEARCHED_CELLS
    for first in range(0, count, 2**16):
        index.add(unit_rows(features.features[first : first + 2**16]))
    return index


ROUNDING = 1e-6
"""How far the cosine of a row with its copy may fall short of 1."""


def find_duplicates(features: Features, threshold: float) -> Iterator[tuple[int, int, float]]:
    """Pairs of rows of different videos whose cosine is at least a threshold: earlier row, later row, cosine.

    Every row is compared with every other, a block at a time.
    """
    videos = np.unique(features.identities(), return_inverse=True)[1]
    count = len(features)
    for first in range(0, count, BLOCK):
        one = torch.from_numpy(unit_rows(features.features[first : first + BLOCK]))
        for second in range(first, count, BLOCK):
            two = torch.from_numpy(unit_rows(features.features[second : second + BLOCK]))
            cosines = (one @ two.T).numpy()
            rows, columns = np.nonzero(cosines >= threshold - ROUNDING)
            for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
                a, b = first + row, second + column
                if a < b and videos[a] != videos[b]:
                    yield a, b, float(cosines[row, column])
