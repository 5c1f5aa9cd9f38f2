"""Near-duplicates: pairs of rows with nearly the same features, and groups of which one row is kept.

Cosines are taken after the mean of the unit features is subtracted, as in :mod:`dsm.evaluate.explore`:
without that, most encoders give unrelated videos cosines above 0.95. If most rows are copies of one video,
the mean would be theirs, and what is left of them mere noise; so rows around the mean count as one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dsm.errors import UserError
from dsm.evaluate.features import Features
from dsm.evaluate.nearest import Matrix, unit_rows

BLOCK = 4096
ROUNDING = 1e-6
"""How far below 1 rounding may lower the cosine of a row with its copy."""
AT_THE_MEAN = 1e-3
"""If a unit row minus the mean is shorter than this, it is rounding, and the row is compared uncentred."""
CORE = 0.1
"""Rows lie around the mean if their squared distance from it is at most this share of the average."""
MOST_PAIRS = 1_000_000
Pair = tuple[int, int, float]


def find_duplicates(features: Features, threshold: float) -> Iterator[Pair]:
    """Pairs of rows of different videos whose cosine is at least a threshold: earlier row, later row, cosine.

    Every row is compared with every other, block by block.
    """
    videos = features.video_numbers()
    count = len(features)
    blocks = range(0, count, BLOCK)
    mean = centre_of(lambda: (_unit(features, first) for first in blocks))

    def centred(first: int) -> torch.Tensor:
        rows = _unit(features, first)
        rest = rows - mean
        whole = np.linalg.norm(rest, axis=1, keepdims=True) < AT_THE_MEAN
        return torch.from_numpy(np.where(whole, rows, unit_rows(rest)))

    for first in blocks:
        one = centred(first)
        for second in range(first, count, BLOCK):
            cosines = (one @ centred(second).T).numpy()
            rows, columns = np.nonzero(cosines >= threshold - ROUNDING)
            for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
                a, b = first + row, second + column
                if a < b and videos[a] != videos[b]:
                    yield a, b, float(cosines[row, column])


def centre_of(blocks: Callable[[], Iterable[Matrix]]) -> Matrix:
    """The mean (d,) of unit rows that come in blocks (rows, d); rows around the mean count as one."""

    def mean_of(chosen: Callable[[Matrix], NDArray[np.bool_]]) -> tuple[NDArray[np.float64], int]:
        parts = [
            (block[own].sum(0, dtype=np.float64), own.sum()) for block in blocks() for own in [chosen(block)]
        ]
        count = int(sum(number for _, number in parts))
        return np.asarray(sum(total for total, _ in parts)) / max(count, 1), count

    mean, count = mean_of(lambda block: np.ones(len(block), bool))
    average = sum(_squared(block, mean).sum() for block in blocks()) / max(count, 1)
    core, inside = mean_of(lambda block: _squared(block, mean) <= CORE * average)
    if inside > 1:
        mean = (count * mean - (inside - 1) * core) / (count - inside + 1)
    return np.asarray(mean, np.float32)


def _squared(rows: Matrix, mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """The squared distance (n,) of rows from a mean."""
    return np.asarray(np.square(rows - mean).sum(1))


def _unit(features: Features, first: int) -> Matrix:
    return unit_rows(np.asarray(features.features[first : first + BLOCK], np.float32))


def all_pairs(features: Features, threshold: float) -> list[Pair]:
    """The pairs of :func:`find_duplicates`, the most similar first.

    Raises:
        UserError: there are more than a million pairs.
    """
    found: list[Pair] = []
    for pair in find_duplicates(features, threshold):
        if len(found) == MOST_PAIRS:
            raise UserError(f"more than {MOST_PAIRS} pairs; raise --threshold.")
        found.append(pair)
    return sorted(found, key=lambda pair: -pair[2])


@dataclass(frozen=True)
class Kept:
    """A row that is kept, and those left out in its favour."""

    row: int
    left_out: list[tuple[int, float]]
    """Rows, and the cosine of each with the row kept; the most similar first."""


def keep_one(pairs: Iterable[Pair], order: Sequence[int]) -> list[Kept]:
    """Choose among near-duplicates: no two rows kept are a pair, and every row left out pairs with a row
    kept.

    Rows linked to a kept row only through others stay, because the ends of a chain of pairs may differ.

    Args:
        order: the rows in pairs, the best to keep first.

    Returns:
        The rows kept in favour of others, in that order.
    """
    near: dict[int, dict[int, float]] = {}
    for one, two, cosine in pairs:
        near.setdefault(one, {})[two] = near.setdefault(two, {})[one] = cosine
    gone: set[int] = set()
    kept = []
    for row in order:
        if row in gone:
            continue
        others = [(other, cosine) for other, cosine in near[row].items() if other not in gone]
        gone.update(other for other, _ in others)
        if others:
            kept.append(Kept(row, sorted(others, key=lambda other: (-other[1], other[0]))))
    return kept
