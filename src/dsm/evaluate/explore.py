"""Explores footage without labels: clusters, rare clips, near-duplicates, and the influence of the camera.

Features are centred (the mean over all clips is subtracted) before their cosines are taken: the features of
most encoders lie in a narrow cone, in which all cosines are near 1.

How rare a clip is, is measured in :func:`evened` features. In the others a few directions, often those of
the place, hold most of the variance and hide all else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import HDBSCAN
from sklearn.decomposition import PCA

from dsm.evaluate.duplicates import BLOCK, ROUNDING, centre_of
from dsm.evaluate.embedding import plane
from dsm.evaluate.nearest import Ids, Matrix, Neighbours, nearest, unit_rows
from dsm.intervals import Interval, share_interval

NOISE = -1
"""The label of clips that are in no cluster."""
DIMENSIONS = 16
"""Number of principal components to cluster in: density means little in hundreds of dimensions."""
CORE = 5
"""HDBSCAN's ``min_samples``."""
MAPPED = 3000
"""Most clips placed by t-SNE, which takes minutes for ten thousand; others are placed near their nearest."""
AMONG = 3
LEAST = 1e-3
"""Smallest standard deviation that evening divides by, as a share of the largest."""


@dataclass(frozen=True)
class Explored:
    """The results of exploring n clips."""

    map: Matrix
    """(n, 2) in [0, 1]."""
    clusters: NDArray[np.int64]
    """(n,), 0 for the largest cluster, -1 for clips in none."""
    typical: list[NDArray[np.int64]]
    """The rows of each cluster, the most typical (nearest to its mean) first."""
    near: Neighbours
    """The nearest clips by the cosine of centred features; see :func:`apart_ids`."""
    across: Neighbours
    """The nearest clips of other videos."""
    oddness: NDArray[np.float64]
    """(n,): mean cosine distance of evened features to the nearest clips, in [0, 2]; high for rare clips."""


def centred(features: Matrix) -> Matrix:
    """Unit features (n, d) minus their mean, see :func:`~dsm.evaluate.duplicates.centre_of`."""
    rows = unit_rows(np.asarray(features, np.float32))
    return rows - centre_of(lambda: (rows[first : first + BLOCK] for first in range(0, len(rows), BLOCK)))


def evened(rows: Matrix) -> Matrix:
    """Centred rows (n, d) with more even variances: (n, min(n, d)) principal components, each divided by the
    square root of its standard deviation.

    This is halfway to whitening, which would amplify mere noise.
    """
    if not np.ptp(rows, axis=0).any():
        return rows
    pca = PCA()
    parts = pca.fit_transform(rows)
    deviations = np.sqrt(np.maximum(pca.explained_variance_, 0))
    # Components of almost no variance are not divided by their own deviation: it may be that of rounding.
    return np.asarray(parts / np.sqrt(np.maximum(deviations, LEAST * deviations[0])), np.float32)


def explore(
    features: Matrix, videos: Sequence[str], *, k: int = 10, least: int = 0, seed: int = 0
) -> Explored:
    """Map, group and rank clips by their features.

    Args:
        features: (n, d).
        videos: (n,), the video of each clip.
        k: neighbours that decide how rare a clip is.
        least: fewest clips of a cluster; 0 for :func:`least_of`.

    Raises:
        UserError: there are too few clips, or all have the same features.
    """
    rows = centred(features)
    ids = apart_ids(videos, k)
    near = nearest(rows, rows, k, apart=(ids, ids))
    own = video_ids(videos)
    across = near if (ids == own).all() else nearest(rows, rows, k, apart=(own, own))
    clusters = clusters_of(rows, least or least_of(len(rows)), seed=seed)
    return Explored(
        map_of(features, seed=seed), clusters, typical_of(rows, clusters), near, across,
        oddness_of(rows, ids, k),
    )  # fmt: skip


def video_ids(videos: Sequence[str]) -> Ids:
    """(n,), the number of each clip's video."""
    return np.unique(np.asarray(videos), return_inverse=True)[1].astype(np.int64)


def apart_ids(videos: Sequence[str], k: int) -> Ids:
    """(n,) numbers; clips with the same number do not count as neighbours.

    Clips of one video resemble each other, which says nothing about how rare they are. But with no more than
    ``k`` videos, such as a single long recording, only the clip itself is excluded.
    """
    ids = video_ids(videos)
    return ids if ids.max(initial=0) >= k else np.arange(len(ids))


def least_of(count: int) -> int:
    """Fewest clips of a cluster among ``count``: half the square root, at least 5."""
    return max(5, round(np.sqrt(count) / 2))


def clusters_of(rows: Matrix, least: int, *, seed: int = 0) -> NDArray[np.int64]:
    """Clusters by HDBSCAN (Campello et al. 2013) on the principal components of unit rows.

    Args:
        rows: (n, d), centred.
        least: clips of the smallest cluster.

    Returns:
        (n,), 0 for the largest cluster, then by size; -1 for clips in none.
    """
    if len(rows) < max(2 * CORE, least):
        return np.full(len(rows), NOISE)
    parts = min(DIMENSIONS, *rows.shape)
    reduced = PCA(parts, random_state=seed).fit_transform(unit_rows(rows))
    found = HDBSCAN(min_cluster_size=least, min_samples=CORE, copy=True).fit_predict(reduced)
    sizes = np.bincount(found[found >= 0], minlength=found.max() + 1)
    rank = np.empty(len(sizes) + 1, np.int64)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    rank[-1] = NOISE  # clips in no cluster have the index -1
    return rank[found]


def typical_of(rows: Matrix, clusters: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The rows of each cluster, by their cosine with the mean of its unit rows, highest first."""
    unit, result = unit_rows(rows), []
    for cluster in range(int(clusters.max(initial=NOISE)) + 1):
        own = np.flatnonzero(clusters == cluster)
        result.append(own[np.argsort(-(unit[own] @ unit[own].mean(0)), kind="stable")])
    return result


def oddness_of(rows: Matrix, ids: Ids, k: int) -> NDArray[np.float64]:
    """How rare each clip is: the mean cosine distance of its evened features to the k nearest (Angiulli &
    Pizzuti 2002).

    Args:
        rows: (n, d), centred.
        ids: (n,), see :func:`apart_ids`.

    Returns:
        (n,) in [0, 2]; 2 for a clip without neighbours.
    """
    even = evened(rows)
    near = nearest(even, even, k, apart=(ids, ids))
    known = near.places >= 0
    distance = np.where(known, 1 - near.similarities.astype(np.float64), 0.0)
    count = known.sum(1)
    return np.where(count > 0, distance.sum(1) / np.maximum(count, 1), 2.0)


def rarest(oddness: NDArray[np.float64], videos: Sequence[str], most: int) -> list[int]:
    """Rows of the rarest clips, rarest first; one per video."""
    chosen: dict[str, int] = {}
    for row in np.argsort(-oddness, kind="stable").tolist():
        chosen.setdefault(videos[row], row)
        if len(chosen) == most:
            break
    return list(chosen.values())


def rarest_of_groups(
    features: Matrix, groups: Sequence[str], videos: Sequence[str], most: int, *, k: int = 10
) -> dict[str, list[int]]:
    """The rarest clips of each group (such as a camera), rarest first.

    A group of fewer than ``k`` + 2 videos has none, because it has too few to define what is usual.
    """
    rows = centred(features)
    names, ids = np.unique(np.asarray(groups), return_inverse=True)
    found = {}
    for place, name in enumerate(names.tolist()):
        own = np.flatnonzero(ids == place)
        own_videos = [videos[row] for row in own.tolist()]
        if len(set(own_videos)) < k + 2:
            continue
        odd = oddness_of(rows[own], apart_ids(own_videos, k), k)
        found[str(name)] = own[rarest(odd, own_videos, most)].tolist()
    return found


def duplicate_groups(across: Neighbours, threshold: float) -> list[list[int]]:
    """Groups of rows of different videos that are linked by a cosine of at least ``threshold``."""
    rows, columns = np.nonzero((across.similarities >= threshold - ROUNDING) & (across.places >= 0))
    return linked(len(across.places), rows, across.places[rows, columns])


def linked(count: int, one: NDArray[np.int64], two: NDArray[np.int64]) -> list[list[int]]:
    """Groups of rows, of ``count`` in all, that pairs link directly or through others; largest first.

    Args:
        one, two: (pairs,) the rows of each pair.
    """
    if not len(one):
        return []
    graph = coo_matrix((np.ones(len(one), bool), (one, two)), shape=(count, count))
    names = connected_components(graph, directed=False)[1]
    order = np.argsort(names, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(names[order])) + 1)
    shared = [group.tolist() for group in groups if len(group) > 1]
    return sorted(shared, key=lambda group: (-len(group), group[0]))


@dataclass(frozen=True)
class SameCamera:
    """How many nearest neighbours come from the same camera."""

    share: Interval
    """Share of a clip's nearest neighbours from its own camera; the interval resamples cameras."""
    chance: float
    """Its expectation if neighbours were drawn at random among the clips of other videos."""
    by_camera: dict[str, tuple[int, float, float]]
    """Camera -> number of clips, share, chance; cameras with most clips first."""


def same_camera(across: Neighbours, cameras: Sequence[str], videos: Sequence[str]) -> SameCamera | None:
    """How many of the nearest clips of other videos come from the same camera; None with a single camera."""
    names, ids = np.unique(np.asarray(cameras), return_inverse=True)
    if len(names) < 2:
        return None
    known = across.places >= 0
    same = (ids[across.places] == ids[:, None]) & known
    shares = same.sum(1) / np.maximum(known.sum(1), 1)
    of_video = video_ids(videos)
    own_clips = np.bincount(of_video)[of_video]
    of_camera = np.bincount(ids)[ids]
    chances = (of_camera - own_clips) / np.maximum(len(ids) - own_clips, 1)
    table = {
        str(names[place]): (int(own.sum()), float(shares[own].mean()), float(chances[own].mean()))
        for place in np.argsort(-np.bincount(ids), kind="stable").tolist()
        for own in [ids == place]
    }
    return SameCamera(share_interval(shares, groups=list(cameras)), float(chances.mean()), table)


def map_of(features: Matrix, *, seed: int = 0) -> Matrix:
    """A map (n, 2) in [0, 1]: t-SNE of a sample, with every other clip placed near its nearest in the sample.

    A clip outside the sample is placed at the mean position of its ``AMONG`` nearest, moved slightly at
    random so that clips do not cover each other.
    """
    count = len(features)
    if count <= MAPPED:
        return plane(np.asarray(features, np.float32), "tsne", seed=seed)
    rng = np.random.default_rng(seed)
    drawn: Ids = np.sort(rng.permutation(count)[:MAPPED])
    placed = plane(np.asarray(features[drawn], np.float32), "tsne", seed=seed)
    rows = centred(features)
    result = np.empty((count, 2), np.float32)
    result[drawn] = placed
    others = np.setdiff1d(np.arange(count), drawn)
    among = nearest(rows[drawn], rows[others], AMONG).places
    jitter = rng.normal(0, 0.004, (len(others), 2))
    result[others] = np.clip(placed[among].mean(1) + jitter, 0, 1)
    return result
