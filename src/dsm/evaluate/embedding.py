"""Embeddings: maps of the videos in the plane, and measures of how well features separate labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_samples

from dsm.errors import UserError
from dsm.evaluate.features import Features
from dsm.evaluate.nearest import nearest, unit_rows
from dsm.evaluate.settings import MapName
from dsm.extras import load_extra
from dsm.intervals import mean_interval, share_interval
from dsm.methods.embedding_health import effective_rank
from dsm.runs.results import Row, row_of
from dsm.terminal import many

LEAST = 5
"""Fewest videos for a map."""
NEIGHBOURS = 5
SAME = 1e-6
"""Unit features whose dimensions all differ by less than this are equal up to rounding."""


def plane(features: NDArray[np.float32], name: MapName, *, seed: int = 0) -> NDArray[np.float32]:
    """Map features (n, d) to the plane, (n, 2), each axis in [0, 1]; close cosines stay close.

    t-SNE (van der Maaten & Hinton 2008, initialised with the first two principal components) or UMAP (McInnes
    et al. 2018). In both, distances between distant groups, and their sizes and densities, mean nothing.

    Raises:
        UserError: there are too few videos, features have a single number, all have the same feature, or UMAP
            is not installed.
    """
    if features.shape[1] < 2:
        raise UserError("features of a single number cannot be mapped; at least two are needed.")
    if len(features) < LEAST:
        raise UserError(
            f"{many(len(features), 'video is', 'videos are')} too few for a map; give at least {LEAST}."
        )
    need_spread(features, "the features")
    rows = unit_rows(features)
    if name == "tsne":
        perplexity = min(30.0, (len(rows) - 1) / 3)
        found = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(rows)
    else:
        found = _umap(rows, seed)
    low, high = found.min(0), found.max(0)
    return ((found - low) / np.maximum(high - low, 1e-9)).astype(np.float32)


def need_spread(features: NDArray[np.float32], name: str) -> None:
    """Raise UserError if all features (n, d) have the same direction or are zero.

    There is nothing to map then, and t-SNE's native code would crash. ``name`` names the features.
    """
    if len(features) > 1 and float(np.ptp(unit_rows(features), axis=0).max()) < SAME:
        raise UserError(
            f"{name}: all {len(features)} videos have the same features (the encoder has collapsed), so "
            "there is nothing to map."
        )


def _umap(rows: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    umap = load_extra(
        "umap", "umap", package="umap-learn", name="UMAP", wanted_by="--map umap", hint="; or use --map tsne"
    )
    near = min(15, len(rows) - 1)
    return np.asarray(umap(n_neighbors=near, random_state=seed, n_jobs=1).fit_transform(rows))


@dataclass(frozen=True)
class Embedded:
    """The maps of one features file."""

    run: str
    maps: Mapping[MapName, NDArray[np.float32]]
    """By name, (n, 2) in [0, 1]."""
    colourings: Mapping[str, list[str]]
    """By name, a value for each video: its label, its scene, or whether its nearest neighbour is correct."""
    neighbours: NDArray[np.int64]
    """(n, k), the nearest others by cosine, nearest first."""
    paths: list[str]


def numbers_of(
    features: Features,
    namings: Mapping[str, Sequence[str]],
    *,
    named: tuple[str, int, str],
    groups: Sequence[str] | None = None,
) -> list[Row]:
    """Effective rank, and for each naming of the videos how well it separates them; see :func:`separation`.

    Args:
        namings: kind of name (``label``, ``scene``) -> each video's name.
        named: run, seed and test, for the rows.
    """
    rank = float(effective_rank(torch.from_numpy(unit_rows(features.features))))
    rows = [Row(*named, "effective_rank", rank, None, None, len(features))]
    for name, names in namings.items():
        rows += separation(features, names, name=name, named=named, groups=groups)
    return rows


def separation(
    features: Features,
    names: Sequence[str],
    *,
    name: str,
    named: tuple[str, int, str],
    groups: Sequence[str] | None = None,
) -> list[Row]:
    """How well features separate videos of different names, by cosine distance.

    ``agreement``: share of videos whose nearest other video has the same name; ``…_chance``: its expectation
    for shuffled names. ``silhouette`` (Rousseeuw 1987): mean of (b - a) / max(a, b), with a the mean distance
    to videos of the same name and b that to those of the nearest other name; from -1 to 1, 0 without
    separation. ``scatter``: share of the squared spread of the unit features that lies between the names'
    means; ``…_chance``: its expectation for shuffled names, (K - 1) / (n - 1).

    Raises:
        UserError: all videos have the same name.
    """
    ids = np.unique(np.asarray(names), return_inverse=True)[1]
    count, kinds = len(ids), int(ids.max()) + 1
    if kinds < 2:
        raise UserError(f"all videos have the {name} {names[0]}; at least two different ones are needed.")
    rows = unit_rows(features.features)
    hits = ids[nearest_others(rows, 1)[:, 0]] == ids
    results = [row_of(*named, f"{name}_agreement", share_interval(hits, groups=groups), count)]
    sizes = np.bincount(ids)
    by_chance = float((sizes * (sizes - 1)).sum() / (count * (count - 1)))
    results.append(Row(*named, f"{name}_agreement_chance", by_chance, None, None, count))
    if kinds < count:
        each = silhouette_samples(rows, ids, metric="cosine")
        results.append(row_of(*named, f"{name}_silhouette", mean_interval(each, groups=groups), count))
    means = np.stack([rows[ids == kind].mean(0) for kind in range(kinds)])
    between = (sizes * np.square(means - rows.mean(0)).sum(1)).sum()
    share = float(between / max(np.square(rows - rows.mean(0)).sum(), 1e-12))
    results.append(Row(*named, f"{name}_scatter", share, None, None, count))
    results.append(Row(*named, f"{name}_scatter_chance", (kinds - 1) / (count - 1), None, None, count))
    return results


def nearest_others(rows: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """(n, k): the nearest other rows by cosine, nearest first."""
    own = np.arange(len(rows))
    return nearest(rows, rows, min(k, len(rows) - 1), apart=(own, own)).places
