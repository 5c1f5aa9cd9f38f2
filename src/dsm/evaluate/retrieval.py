"""Retrieval: does the nearest neighbour of a video show the same action?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsm.errors import UserError
from dsm.evaluate.features import Features

KS = (1, 5, 10, 20, 50)
# Queries scored at a time: bounds the memory to this many rows of similarities.
CHUNK = 512


@dataclass(frozen=True)
class Retrieval:
    """Neighbours in the gallery of each query, nearest first."""

    neighbours: NDArray[np.int64]
    """(queries, K) positions in the gallery."""
    similarities: NDArray[np.float32]
    """(queries, K) cosines."""
    right: NDArray[np.bool_]
    """(queries, K): the neighbour has the query's label."""

    def recall(self, k: int) -> NDArray[np.bool_]:
        """(queries,): is any of the k nearest of the same label? A smaller gallery is used whole."""
        return np.asarray(self.right[:, :k].any(axis=1))


def unit_rows(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows (n, d) scaled to length 1; a row of zeros stays."""
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.maximum(length, np.finfo(np.float32).tiny)


def retrieve(gallery: Features, queries: Features, k: int = max(KS)) -> Retrieval:
    """Find each query's nearest neighbours by cosine; ties go to the earlier gallery video.

    A query is never its own neighbour: with ``queries is gallery``, its own row is left out.

    Raises:
        UserError: the two do not have the same dimensions, or one has no labels.
    """
    if gallery.features.shape[1] != queries.features.shape[1]:
        raise UserError(
            f"gallery and queries have {gallery.features.shape[1]} and {queries.features.shape[1]} "
            "dimensions; extract both with the same weights."
        )
    for name, features in (("gallery", gallery), ("queries", queries)):
        if len(features) == 0 or (features.labels < 0).any():
            raise UserError(f"the {name} must hold labelled videos: recall counts right labels.")
    base, wanted = unit_rows(gallery.features), unit_rows(queries.features)
    same = queries is gallery
    k = min(k, len(base) - same)
    neighbours = np.empty((len(wanted), k), np.int64)
    similarities = np.empty((len(wanted), k), np.float32)
    for start in range(0, len(wanted), CHUNK):
        scores = wanted[start : start + CHUNK] @ base.T
        rows = np.arange(len(scores))
        if same:
            scores[rows, start + rows] = -np.inf
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        neighbours[start : start + len(scores)] = order
        similarities[start : start + len(scores)] = scores[rows[:, None], order]
    right = gallery.labels[neighbours] == queries.labels[:, None]
    return Retrieval(neighbours, similarities, right)
