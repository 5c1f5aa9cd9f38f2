"""Chooses parts of a list: nested class-balanced subsets, and random splits that keep groups together.

Groups may have any size and any mixture of classes, so finding the best split is a hard problem. With few
groups all splits are tried. With more, groups are taken in random order as long as that helps, then moved and
swapped while the split improves, from several starting points.

scikit-learn's ``StratifiedGroupKFold`` makes folds of equal size, which miss the wanted share where groups
are skewed. In 200 lists of 25 such groups, one of its three folds was more than 10 points from a wanted
share of 30 % in 155 lists (26 to 56 %), and lacked a class in 70 of the 160 lists where that is avoidable.
This search never did either (20 to 40 %). ``pytest -m slow tests/test_list_parts.py`` measures both.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dsm.errors import UserError


def subset(labels: NDArray[np.int64], fraction: float, seed: int) -> NDArray[np.int64]:
    """Positions of a random part of a list with every class in proportion, and at least one video of each.

    Subsets with the same seed are nested: the 10 % subset contains the 1 % subset.

    Args:
        labels: (n,); -1 for unlabelled counts as a class.
        fraction: in (0, 1].

    Returns:
        Positions in the list, in increasing order.
    """
    if not 0 < fraction <= 1:
        raise UserError(f"fraction must be above 0 and at most 1, not {fraction}.")
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = np.random.default_rng([seed, int(label) + 1]).permutation(members)
        chosen.append(order[: max(round(fraction * len(members)), 1)])
    return np.sort(np.concatenate(chosen))


NEAR = 0.1
"""Distance from the wanted share at which a split starts to cost as much as one with a missing class."""
_FEW = 14
"""Up to this many groups, all splits are tried."""
_GOOD = 0.005
"""A cost that is good enough: shares about 10 points off on average. Fewer splits are better than this, so
different seeds would find the same one."""
_BEGINNINGS, _SWAPS, _ROUNDS = 12, 512, 400
_MAX_CELLS = 4_000_000
"""Groups are moved only up to this product of groups and classes; with more, each group is so small a part
that taking them in turn is enough."""

Counts = NDArray[np.int64]


def split_by_group(
    groups: Sequence[str], test_share: float, seed: int, labels: NDArray[np.int64] | None = None
) -> NDArray[np.bool_]:
    """Which videos are for testing: whole groups, near the wanted share overall and in each class.

    A class with only one group is on one side only.

    Args:
        groups: (n,) the group of each video.
        test_share: in (0, 1).
        labels: (n,), -1 for unlabelled counts as a class; None without labels.

    Raises:
        UserError: there are fewer than two groups.
    """
    names, members = np.unique(np.array(groups), return_inverse=True)
    if len(names) < 2:
        raise UserError("a split needs at least two groups.")
    if not 0 < test_share < 1:
        raise UserError(f"the share for testing must be between 0 and 1, not {test_share}.")
    known = np.zeros(len(members), np.int64) if labels is None else labels
    classes, which = np.unique(known, return_inverse=True)
    rng = np.random.default_rng(seed)
    if len(names) * len(classes) > _MAX_CELLS:
        return np.isin(members, np.flatnonzero(_in_turn(members, which, test_share, rng)))
    counts = np.zeros((len(names), len(classes)), np.int64)
    np.add.at(counts, (members, which), 1)
    search = _all_splits if len(names) <= _FEW else _better_and_better
    return np.asarray(search(counts, test_share, rng)[members])


def _costs(test: Counts, sizes: Counts, share: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The costs of splits, from the numbers of test videos per class (..., classes).

    Returns:
        The main cost, for missing classes and a share too far off; and the full cost, which adds less than 1
        for the distance of all shares from the wanted one.
    """
    missing = ((test == 0) | (test == sizes)).sum(-1)
    off = np.abs(test.sum(-1) / sizes.sum() - share)
    first = missing + np.maximum(off - NEAR, 0) / NEAR
    empty = (test.sum(-1) == 0) | (test.sum(-1) == sizes.sum())
    first = first + np.where(empty, 1e6, 0)
    return first, first + (np.square(test / sizes - share).mean(-1) + np.square(off)) / 2


def _all_splits(counts: Counts, share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """One of the best splits of all, drawn at random."""
    few = len(counts)
    splits = (np.arange(2**few)[:, None] >> np.arange(few)) & 1
    first, cost = _costs(splits @ counts, counts.sum(0), share)
    best = int(cost.argmin())
    good = (first <= first[best] + 1e-9) & (cost <= max(cost[best] + 1e-9, _GOOD))
    return np.asarray(splits[rng.choice(np.flatnonzero(good))] == 1)


def _better_and_better(counts: Counts, share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    chosen, least = np.zeros(len(counts), bool), np.inf
    members, which = (np.repeat(place, counts.ravel()) for place in np.indices(counts.shape).reshape(2, -1))
    for _ in range(_BEGINNINGS):
        split = _in_turn(members, which, share, rng)
        first, cost = _moved(split, counts, share, rng)
        if cost < least:
            chosen, least = split, cost
        if first == 0:
            break
    return chosen


def _in_turn(members: Counts, which: Counts, share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Go through groups in random order and take each that brings the shares nearer to the wanted one.

    Args:
        members, which: group and class of each video.
    """
    sizes, total = np.bincount(which), len(which)
    pairs, numbers = np.unique(np.stack([members, which]), axis=1, return_counts=True)
    begins = np.searchsorted(pairs[0], np.arange(pairs[0][-1] + 2))
    test, tested = np.zeros(len(sizes), np.int64), 0
    taken = np.zeros(len(begins) - 1, bool)

    def cost(some: Counts, of: Counts, all_: int) -> float:
        wrong = np.square(some / of - share) / len(sizes) + ((some == 0) | (some == of))
        return float(wrong.sum()) + (all_ / total - share) ** 2 + max(abs(all_ / total - share) - NEAR, 0)

    for group in rng.permutation(len(taken)):
        part = slice(begins[group], begins[group + 1])
        own, more = pairs[1][part], numbers[part]
        now, of = test[own], sizes[own]
        if cost(now + more, of, tested + more.sum()) < cost(now, of, tested):
            test[own] += more
            tested += int(more.sum())
            taken[group] = True
    return taken


def _moved(
    split: NDArray[np.bool_], counts: Counts, share: float, rng: np.random.Generator
) -> tuple[float, float]:
    """Move groups to the other side, or swap two, while the split improves; in place.

    Returns:
        The costs at the end.
    """
    sizes = counts.sum(0)
    first, cost = _costs(counts[split].sum(0), sizes, share)
    idle = 0
    for _ in range(_ROUNDS):
        if first == 0 and cost < _GOOD:
            break
        signed = np.where(split[:, None], -counts, counts)
        inside, outside = np.flatnonzero(split), np.flatnonzero(~split)
        moves = np.arange(len(counts))[:, None].repeat(2, axis=1)  # one group, written twice
        change = signed
        if idle and len(inside) and len(outside):
            moves = np.stack([rng.choice(inside, _SWAPS), rng.choice(outside, _SWAPS)], axis=1)
            change = signed[moves].sum(1)
        firsts, costs = _costs(counts[split].sum(0) + change, sizes, share)
        best = int(costs.argmin())
        if costs[best] < cost - 1e-9:
            split[np.unique(moves[best])] ^= True
            first, cost, idle = firsts[best], costs[best], 0
            continue
        idle += 1
        if idle > 4:
            break
    return float(first), float(cost)
