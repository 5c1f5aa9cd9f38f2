"""Parts of a list: class-balanced, nested subsets, and random splits that keep groups together."""

from __future__ import annotations

from collections.abc import Sequence

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


def split_by_group(groups: Sequence[str], test_share: float, seed: int) -> NDArray[np.bool_]:
    """Which videos are for testing: whole groups, until about the share is reached.

    Args:
        groups: (n,) the group of each video.
        test_share: in (0, 1).

    Raises:
        UserError: there are fewer than two groups.
    """
    names, members, sizes = np.unique(np.array(groups), return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise UserError("a split needs at least two groups.")
    if not 0 < test_share < 1:
        raise UserError(f"the share for testing must lie between 0 and 1, not {test_share}.")
    order = np.random.default_rng(seed).permutation(len(names))
    before = np.cumsum(sizes[order]) - sizes[order] / 2
    test = order[before < test_share * len(groups)]
    if not len(test):
        test = order[:1]
    return np.isin(members, test[: len(names) - 1])
