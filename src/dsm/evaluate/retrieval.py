"""Retrieval: does the nearest neighbour of a video show the same action? Also k-NN classification.

The usual protocol (Xu et al. 2019, Clip Order Prediction, section 4.4): test videos are queries, training
videos the gallery, neighbours are ranked by cosine, and R@k is the share of queries with a video of their
class among the k nearest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsm.evaluate.features import Features, same_encoder
from dsm.evaluate.nearest import Ids, cosines, nearest, unit_rows
from dsm.runs.results import Row, share

KS = (1, 5, 10, 20, 50)
"""The usual numbers of neighbours."""
MOST_AT_ONCE = 2**23
"""Number of similarities to rank at a time, for average precision."""


@dataclass(frozen=True)
class Retrieval:
    """Neighbours in the gallery of each query, nearest first."""

    neighbours: NDArray[np.int64]
    """(queries, K) positions in the gallery; -1 if fewer than K may be neighbours."""
    similarities: NDArray[np.float32]
    """(queries, K) cosines."""
    right: NDArray[np.bool_]
    """(queries, K): whether the neighbour has the query's label; False for a query without a label."""

    def recall(self, k: int) -> NDArray[np.bool_]:
        """(queries,): whether any of the k nearest has the query's label. A smaller gallery is used whole."""
        return np.asarray(self.right[:, :k].any(axis=1))


def retrieve(
    gallery: Features, queries: Features, k: int = max(KS), *, apart: tuple[Ids, Ids] | None = None
) -> Retrieval:
    """Find each query's nearest neighbours by cosine; ties go to the earlier gallery video.

    Args:
        apart: rows with the same number are never neighbours, see :func:`kept_apart`; None excludes only a
            query's own video.

    Raises:
        UserError: the two do not have the same dimensions, or are of different encoders.
    """
    same_encoder(gallery, queries, ("gallery", "queries"))
    apart = kept_apart(gallery, queries) if apart is None else apart
    near = nearest(gallery.features, queries.features, k, apart=apart)
    right = (gallery.labels[near.places] == queries.labels[:, None]) & (queries.labels[:, None] >= 0)
    return Retrieval(near.places, near.similarities, right & (near.places >= 0))


def recall_rows(
    run: str, seed: int, test: str, found: Retrieval, *, groups: Sequence[str] | None = None
) -> list[Row]:
    """R@k for each of :data:`KS`, with intervals that resample queries or groups of them."""
    return [share(run, seed, test, f"R@{k}", found.recall(k), groups=groups) for k in KS]


def kept_apart(
    gallery: Features, queries: Features, groups: tuple[Sequence[str], Sequence[str]] | None = None
) -> tuple[Ids, Ids] | None:
    """Number the rows so that rows of the same video or group, which must not be neighbours, share a number.

    Args:
        groups: the groups of the gallery's and the queries' rows; None keeps apart only rows of one video.

    Returns:
        A number for each row of the gallery and of the queries; None if no two rows share a number.
    """
    if groups is None:
        known = queries is gallery or ("root" in gallery.meta and "root" in queries.meta)
        if not known:  # equal names in unknown folders may be different videos
            return None
        groups = gallery.identities(), queries.identities()
        if queries is not gallery and not set(groups[0]) & set(groups[1]):
            return None
    numbers = np.unique(np.concatenate([np.array(part) for part in groups]), return_inverse=True)[1]
    return numbers[: len(gallery)], numbers[len(gallery) :]


def chance(gallery: Features, queries: Features, apart: tuple[Ids, Ids] | None, k: int) -> float:
    """R@k of neighbours drawn at random, without replacement, from those that a query may have."""
    allowed = np.full(len(queries), len(gallery))
    counts = np.bincount(gallery.labels)
    right = np.append(counts, 0)[np.minimum(queries.labels, len(counts))]
    if apart is not None:
        ids = np.unique(np.concatenate(apart), return_inverse=True)[1]
        base, own = ids[: len(gallery)], ids[len(gallery) :]
        allowed = allowed - np.bincount(base, minlength=ids.max() + 1)[own]
        # Rows that share both the number and the label.
        classes = int(max(gallery.labels.max(), queries.labels.max())) + 1
        both, known = np.unique(base * classes + gallery.labels, return_counts=True)
        place = np.minimum(np.searchsorted(both, own * classes + queries.labels), len(both) - 1)
        right = right - np.where(both[place] == own * classes + queries.labels, known[place], 0)
    missed = np.ones(len(queries))
    for drawn in range(k):
        left = allowed - drawn
        # Nothing is drawn if no row is left.
        missed *= np.where(left > 0, np.clip((left - right) / np.maximum(left, 1), 0, 1), 1)
    return float((1 - missed).mean())


def average_precision(
    gallery: Features, queries: Features, apart: tuple[Ids, Ids] | None = None
) -> NDArray[np.float64]:
    """For each query, the mean precision at the ranks of the gallery's videos with its label.

    The whole gallery is ranked by cosine in double precision, as in :func:`retrieve`; ties go to the earlier
    video. Without ties the result equals ``sklearn.metrics.average_precision_score``.

    Returns:
        (queries,), NaN if the gallery has no video of the label.
    """
    base, unit = gallery.features, unit_rows(queries.features)
    precision = np.empty(len(unit))
    at_once = max(1, MOST_AT_ONCE // len(base))
    ranks = np.arange(1, len(base) + 1)
    for first in range(0, len(unit), at_once):
        rows = slice(first, first + at_once)
        scores = cosines(base, unit[rows])
        never = np.zeros(scores.shape, bool)
        if apart is not None:
            never = apart[1][rows, None] == apart[0]
        scores[never] = -np.inf
        order = np.argsort(-scores, axis=1, kind="stable")
        relevant = (gallery.labels == queries.labels[rows, None]) & ~never
        right = np.take_along_axis(relevant, order, 1)
        with np.errstate(invalid="ignore"):
            precision[rows] = (right * np.cumsum(right, 1) / ranks).sum(1) / right.sum(1)
    return precision


def knn_probe(
    train: Features,
    test: Features,
    *,
    k: int = 20,
    temperature: float = 0.07,
    apart: tuple[Ids, Ids] | None = None,
) -> NDArray[np.bool_]:
    """A vote of the k nearest training videos, each weighted by exp(cosine / temperature).

    Wu et al. 2018 (Instance Discrimination, section 3.4), with the k of DINO (Caron et al. 2021).

    Args:
        apart: rows with the same number are never neighbours, see :func:`kept_apart`.

    Returns:
        (n,): whether each test video's label got the most votes; False if it has no neighbour.
    """
    train.need_labels("training features")
    same_encoder(train, test, ("train", "test"))
    near = nearest(train.features, test.features, k, apart=apart)
    exists = near.places >= 0
    classes = int(max(train.labels.max(), test.labels.max())) + 1
    votes = np.zeros((len(test), classes))
    # Subtract the maximum, so that no weight overflows.
    greatest = np.where(exists, near.similarities, 0)[:, :1]
    weights = np.exp((near.similarities - greatest) / temperature)
    np.add.at(votes, (np.arange(len(test))[:, None], train.labels[near.places]), weights)
    return np.asarray((votes.argmax(1) == test.labels) & exists.any(1))
