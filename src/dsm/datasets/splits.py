"""Parts of a list: class-balanced, nested subsets. Splits that keep groups together are in ``grouped.py``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dsm.errors import UserError


def subset(labels: NDArray[np.int64], fraction: float, seed: int) -> NDArray[np.int64]:
    """Places of a part of a list that has every class in proportion, at least one of each.

    Subsets of one seed are nested: those of the 1 % are all among the 10 %.

    Args:
        labels: (n,); -1 for unlabelled counts as a class.
        fraction: in (0, 1].

    Returns:
        Rising places in the list.
    """
    if not 0 < fraction <= 1:
        raise UserError(f"fraction must be above 0 and at most 1, not {fraction}.")
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = np.random.default_rng([seed, int(label) + 1]).permutation(members)
        chosen.append(order[: max(round(fraction * len(members)), 1)])
    return np.sort(np.concatenate(chosen))
