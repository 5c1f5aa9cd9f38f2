"""Exact nearest neighbours by cosine, chunk by chunk: memory is bounded, whatever the size of the gallery.

In each block of similarities, only those that beat the worst neighbour so far are examined. After the first
block they are few, so the time is that of the matrix product.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
Ids = NDArray[np.int64]

BASE, QUERIES, FEW = 16384, 1024, 2048
"""Gallery rows and query rows per block of similarities, and gallery rows if there are few queries."""
# Products of large matrices round the same pair differently in different blocks. So SPARE more neighbours
# are kept, and all are compared again in double precision. Where rounding cannot separate even the last of
# them from the k-th, all rows are compared.
SPARE = 16
DIGITS = 12


@dataclass(frozen=True)
class Neighbours:
    """The neighbours of each query, nearest first."""

    places: Ids
    """(queries, k) rows of the gallery; -1 if a query has fewer neighbours."""
    similarities: Matrix
    """(queries, k) cosines; -inf if there is no neighbour."""


def unit_rows(features: Matrix) -> Matrix:
    """Rows (n, d) scaled to length 1; rows of zeros are unchanged."""
    squares = np.einsum("ij,ij->i", features, features, dtype=np.float64)  # in float32 they might overflow
    length = np.sqrt(squares).astype(np.float32)[:, None]
    return np.asarray(features / np.where(length > 0, length, np.float32(1)), np.float32)


def cosines(base: Matrix, unit: Matrix) -> NDArray[np.float64]:
    """Cosines (m, n) of unit rows (m, d) with all rows of a base (n, d), in double precision, to 12 digits.

    A collapsed encoder's cosines differ by 1e-6, so in single precision rounding would decide their order.
    With more digits, copies of a row would differ.
    """
    result = np.empty((len(unit), len(base)))
    wide = unit.astype(np.float64)
    for first in range(0, len(base), BASE):
        part = np.asarray(base[first : first + BASE], np.float64)
        length = np.maximum(np.linalg.norm(part, axis=1), np.finfo(np.float32).tiny)
        result[:, first : first + len(part)] = np.round((wide @ part.T) / length, DIGITS)
    return result


def nearest(base: Matrix, queries: Matrix, k: int, *, apart: tuple[Ids, Ids] | None = None) -> Neighbours:
    """Find the k rows of ``base`` with the greatest cosine to each query; ties go to the earlier row.

    Args:
        base: (n, d), float32 or float16. queries: (m, d).
        k: number of neighbours; at most n are found.
        apart: numbers for the rows of the base and of the queries; rows with the same number are never
            neighbours.
    """
    k = min(k, len(base))
    keep = min(k + SPARE, len(base))
    unit = unit_rows(queries)
    ids = [torch.from_numpy(one) for one in _small_numbers(*apart)] if apart is not None else None
    best = np.full((len(unit), keep), -np.inf, np.float32)
    places = np.full((len(unit), keep), -1, np.int64)
    few = len(unit) < base.shape[1]  # then scaling the similarities is cheaper than scaling the rows
    block = torch.empty(min(QUERIES, len(unit)) * min(BASE, len(base)))
    # With few queries each row is read twice: take as many rows as fit into a processor's cache.
    step = min(BASE, FEW) if few else BASE
    for first in range(0, len(base), step):
        part, length = _block(base[first : first + step])
        if not few:
            part = part / length[:, None]
        for start in range(0, len(unit), QUERIES):
            rows = slice(start, min(start + QUERIES, len(unit)))
            some = torch.from_numpy(unit[rows])
            scores = block[: len(some) * len(part)].view(len(some), len(part))
            torch.mm(some, part.T, out=scores)
            if few:
                scores /= length
            if ids is not None:
                # A mask, because a list of pairs would grow with the square of a group's size.
                scores.masked_fill_(ids[1][rows, None] == ids[0][first : first + len(part)], -torch.inf)
            _update(best[rows], places[rows], scores, first)
    return _compared_again(base, unit, best, places, k, apart)


def nearest_among(base: Matrix, queries: Matrix, candidates: Ids, k: int) -> Neighbours:
    """The k of each query's ``candidates`` (m, c) with the greatest cosine; ties go to the earlier row.

    Args:
        candidates: rows of the base, -1 for none; none occurs twice for a query.
    """
    keep = min(k, candidates.shape[1])
    unit = unit_rows(np.asarray(queries, np.float32))
    places = np.full((len(unit), keep), -1, np.int64)
    similarities = np.full((len(unit), keep), -np.inf, np.float32)
    for query, rows in enumerate(candidates):
        rows = np.sort(rows[rows >= 0])
        exact = cosines(base[rows], unit[query : query + 1])[0]
        order = np.argsort(-exact, kind="stable")[:keep]
        places[query, : len(order)], similarities[query, : len(order)] = rows[order], exact[order]
    return Neighbours(places, similarities)


def _block(rows: Matrix) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of the gallery, in float32, and their norms."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # it is only read
        part = torch.from_numpy(np.ascontiguousarray(rows)).float()
    return part, torch.linalg.vector_norm(part, dim=1).clamp(min=np.finfo(np.float32).tiny)


def _update(best: Matrix, places: Ids, scores: torch.Tensor, first: int) -> None:
    """Insert the scores that beat the worst of ``best``; sorted, ties by the earlier row."""
    keep = best.shape[1]
    if first == 0 and scores.shape[1] > keep:
        worst = scores.topk(keep, dim=1).values[:, -1:]
        better = (scores >= worst) & (scores > -torch.inf)
    else:
        better = scores > torch.from_numpy(np.ascontiguousarray(best[:, -1:]))
    flat = np.flatnonzero(better.numpy())
    if not len(flat):
        return
    rows, columns_found = np.divmod(flat, scores.shape[1])
    values = scores.numpy().reshape(-1)[flat]
    touched = np.unique(rows)
    rows = np.concatenate([np.repeat(touched, keep), rows])
    values = np.concatenate([best[touched].reshape(-1), values])
    where = np.concatenate([places[touched].reshape(-1), columns_found + first])
    order = np.lexsort((where, -values, rows))
    rows = rows[order]
    begins = np.searchsorted(rows, touched)
    chosen = order[(begins[:, None] + np.arange(keep)).reshape(-1)]
    best[touched] = values[chosen].reshape(-1, keep)
    places[touched] = where[chosen].reshape(-1, keep)


def _compared_again(
    base: Matrix, unit: Matrix, best: Matrix, places: Ids, k: int, apart: tuple[Ids, Ids] | None
) -> Neighbours:
    """The k nearest by cosines in double precision: of the rows kept, or of all if rounding could matter."""
    nearest_places = np.empty((len(unit), k), np.int64)
    similarities = np.empty((len(unit), k))
    at_once = max(1, 2**24 // max(places.shape[1] * unit.shape[1], 1))
    for start in range(0, len(unit), at_once):
        rows = slice(start, start + at_once)
        near = np.asarray(base[places[rows]], np.float64)  # (some, keep, d)
        length = np.maximum(np.linalg.norm(near, axis=2), np.finfo(np.float32).tiny)
        exact = np.einsum("qkd,qd->qk", near, unit[rows].astype(np.float64)) / length
        exact = np.round(exact, DIGITS)
        exact[best[rows] == -np.inf] = -np.inf
        order = np.lexsort((places[rows], -exact))[:, :k]
        nearest_places[rows] = np.take_along_axis(places[rows], order, 1)
        similarities[rows] = np.take_along_axis(exact, order, 1)
    if best.shape[1] < len(base):
        error = 2 * np.finfo(np.float32).eps * np.sqrt(unit.shape[1])
        unsure = np.flatnonzero((best[:, -1] > -np.inf) & (best[:, -1] + error >= similarities[:, -1]))
        at_once = max(1, 2**23 // len(base))
        for start in range(0, len(unsure), at_once):
            some = unsure[start : start + at_once]
            exact = cosines(base, unit[some])
            if apart is not None:
                exact[apart[1][some, None] == apart[0]] = -np.inf
            order = np.argsort(-exact, axis=1, kind="stable")[:, :k]
            nearest_places[some], similarities[some] = order, np.take_along_axis(exact, order, 1)
    nearest_places[similarities == -np.inf] = -1
    exists = (nearest_places >= 0).any(axis=0)
    return Neighbours(nearest_places[:, exists], similarities[:, exists].astype(np.float32))


def _small_numbers(*ids: Ids) -> list[NDArray[np.int32]]:
    """The same ids as consecutive int32 from 0, which compare twice as fast."""
    numbers = np.unique(np.concatenate(ids), return_inverse=True)[1].astype(np.int32)
    return np.split(numbers, np.cumsum([len(one) for one in ids])[:-1])
