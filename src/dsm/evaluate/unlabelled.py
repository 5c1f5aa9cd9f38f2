"""How much features encode of scene and motion, measured without labels."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_predict

from dsm.evaluate.nearest import nearest
from dsm.evaluate.probe import logistic
from dsm.intervals import Drawn, Interval, bootstraps, share_interval

Matrix = NDArray[np.float32]
ALIKE = 0.5
"""A dimension counts as unchanged from this correlation over videos on."""
DRAWS = 500
FOLDS = 5
LEAST = 10
"""Fewest videos to measure anything."""
DIMENSIONS = ("static", "dynamic", "both", "neither")


NEEDED = ("clip", "shuffled", "reversed", "recoloured")
"""Variants whose features :func:`unlabelled_measures` compares."""
OF_SHARED_PLACES = ("place_probe", "place_probe_chance")
"""Measures of the videos alone that have another one of the same place (:func:`in_shared_places`)."""


def unlabelled_measures(
    features: Mapping[str, Matrix],
    groups: Sequence[str] | None = None,
    labels: NDArray[np.int64] | None = None,
) -> dict[str, Interval]:
    """All measures of this module that can be measured; chance levels have no intervals.

    Args:
        features: (n, D), by variant.
        labels: (n,), if they are known, to spread classes evenly over the folds of :func:`arrow_of_time`.
    """
    found = {}
    arrow = arrow_of_time(features["clip"], features["reversed"], groups, labels)
    if arrow is not None:
        found["arrow_of_time"] = arrow
    kept = static_and_dynamic(features["clip"], features["shuffled"], features["recoloured"], groups)
    found |= {f"dimensions_{name}": share for name, share in kept.items()}
    return found | (places(features["clip"], groups) if groups is not None else {})


def static_and_dynamic(
    clips: Matrix, shuffled: Matrix, recoloured: Matrix, groups: Sequence[str] | None = None
) -> dict[str, Interval]:
    """The shares of feature dimensions that encode static content, dynamic content, both or neither.

    Kowal et al., A Deeper Dive Into What Deep Spatiotemporal Networks Encode (CVPR 2022): two clips of a
    video with shuffled frames share only what is static; two clips in different styles share the dynamics. A
    dimension encodes what a pair shares if its values in the two agree over videos. They compare mutual
    information, for Gaussians -log(1 - r²) / 2 of the correlation r, and call a unit jointly encoding if its
    score is above 0.5 for both; the score in their code is the covariance, divided by the variance of both
    clips together. Here a dimension counts if r is above :data:`ALIKE`. We rotate the colours instead of
    transferring style, which leaves outlines and texture, so *dynamic* and *both* are upper bounds.

    Args:
        clips, shuffled, recoloured: (n, D), of the same videos.

    Correlations of drawn videos scatter more than those found, so they pass the threshold more or less often,
    and the percentiles of a bootstrap lie to one side of the value. They are joined with their mirror image
    about it (the basic bootstrap; Davison & Hinkley 1997, section 5.2). Where many dimensions lie just beside
    the threshold, the value itself is biased in the same way, and the interval may miss the truth.

    Returns:
        By ``DIMENSIONS``, shares that add up to 1; empty for fewer than ten videos.
    """
    if len(clips) < LEAST:
        return {}
    own, pairs = _standard(clips), [_standard(shuffled), _standard(recoloured)]

    def shares(weights: Drawn) -> NDArray[np.float64]:
        static, dynamic = (_correlations(own, other, weights) > ALIKE for other in pairs)
        kinds = (static & ~dynamic, dynamic & ~static, static & dynamic, ~static & ~dynamic)
        return np.stack([kind.mean(1) for kind in kinds], axis=1)

    found = bootstraps(shares, len(clips), groups=groups, draws=DRAWS)
    return dict(zip(DIMENSIONS, map(_mirrored, found), strict=True))


def _mirrored(found: Interval) -> Interval:
    """The interval of a share, joined with its mirror image about the value and cut at 0 and 1."""
    if not found.known:
        return found
    reach = max(found.high - found.value, found.value - found.low)
    return Interval(found.value, max(found.value - reach, 0.0), min(found.value + reach, 1.0))


def arrow_of_time(
    forwards: Matrix,
    backwards: Matrix,
    groups: Sequence[str] | None = None,
    labels: NDArray[np.int64] | None = None,
) -> Interval | None:
    """How often a linear probe distinguishes features of clips from those of the same clips played backwards.

    The arrow of time (Pickup et al., Seeing the Arrow of Time, CVPR 2014; Wei et al., Learning and Using the
    Arrow of Time, CVPR 2018). Chance is a half; no more is possible if motions look the same backwards.

    Where one class looks like another played backwards, a fold must not hold more videos of the one: the
    probe would learn the other's direction from the rest, and miss more often than chance.

    Args:
        forwards, backwards: (n, D), of the same videos. A video, or a group, is never in two folds of the
            cross-validation.
        labels: (n,), of classes to spread evenly over the folds, as far as groups allow.

    Returns:
        None for fewer than ten videos, or fewer than two groups.
    """
    count = len(forwards)
    of = np.unique(np.asarray(groups), return_inverse=True)[1] if groups is not None else np.arange(count)
    folds = min(FOLDS, int(of.max(initial=0)) + 1)
    if count < LEAST or folds < 2:
        return None
    rows = np.concatenate([forwards, backwards])
    classes = labels if labels is not None else np.zeros(count, np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class may have fewer videos than there are folds
        splits = list(StratifiedGroupKFold(folds, shuffle=True, random_state=0).split(forwards, classes, of))
    both = [(np.append(train, train + count), np.append(test, test + count)) for train, test in splits]
    hits = probe_hits(rows, np.repeat([0, 1], count), both)
    return share_interval(hits.reshape(2, count).mean(0), groups=groups)


def places(features: Matrix, groups: Sequence[str]) -> dict[str, Interval]:
    """How well features identify the place, if groups are places.

    - ``place_probe``: how often a linear probe predicts a video's place, by cross-validation over videos;
      places with a single video are left out. ``place_probe_chance``: by always predicting the most frequent
      one.
    - ``place_neighbour``: how often the nearest other video is from the same place;
      ``place_neighbour_chance``: if neighbours were drawn at random. Two places that look alike miss
      together, so its interval is somewhat too narrow: with 20 simulated places it covers in 87 of 100 tests.

    Returns:
        Empty if fewer than two places have two videos.
    """
    of = np.unique(np.asarray(groups), return_inverse=True)[1]
    sizes = np.bincount(of)
    several = sizes[of] > 1
    if (sizes > 1).sum() < 2 or several.sum() < LEAST:
        return {}
    count, own = len(of), np.arange(len(of))
    near = nearest(features, features, 1, apart=(own, own)).places[:, 0]
    found = {
        "place_neighbour": share_interval(of[near] == of, groups=groups),
        "place_neighbour_chance": Interval((sizes * (sizes - 1)).sum() / (count * (count - 1))),
    }
    rows, labels = features[several], of[several]
    folds = StratifiedKFold(min(FOLDS, int(sizes[sizes > 1].min())), shuffle=True, random_state=0)
    hits = probe_hits(rows, labels, folds.split(rows, labels))
    own_groups = [group for group, one in zip(groups, several, strict=True) if one]
    found["place_probe"] = share_interval(hits, groups=own_groups)
    found["place_probe_chance"] = Interval(np.bincount(labels).max() / len(labels))
    return found


def in_shared_places(groups: Sequence[str]) -> int:
    """How many videos have another one of the same place, as ``place_probe`` needs."""
    sizes = np.unique(np.asarray(groups), return_counts=True)[1]
    return int(sizes[sizes > 1].sum())


def probe_hits(
    rows: Matrix, labels: NDArray[np.int64], splits: Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]]
) -> NDArray[np.bool_]:
    """(n,): whether a linear probe, trained on the other folds, predicts each row's label.

    ``splits``: the rows to train on and to test on, for each fold.
    """
    hits: NDArray[np.bool_] = cross_val_predict(logistic(1.0), rows, labels, cv=list(splits)) == labels
    return hits


def _standard(features: Matrix) -> NDArray[np.float64]:
    """Dimensions with mean 0 and standard deviation 1, which keeps correlations; constant ones are 0."""
    wide = features.astype(np.float64)
    spread = wide.std(0)
    scale = np.where(spread > 1e-9 * np.maximum(np.abs(wide).max(0), 1e-30), spread, np.inf)
    return (wide - wide.mean(0)) / scale


def _correlations(
    one: NDArray[np.float64], other: NDArray[np.float64], weights: Drawn
) -> NDArray[np.float64]:
    """Weighted correlations of columns: (n, D), (n, D), (m, n) -> (m, D); 0 if a column is constant."""
    weights = weights / weights.sum(1, keepdims=True)
    mean_one, mean_other = weights @ one, weights @ other
    shared = weights @ (one * other) - mean_one * mean_other
    size = (weights @ one**2 - mean_one**2) * (weights @ other**2 - mean_other**2)
    return np.asarray(np.where(size > 1e-18, shared / np.sqrt(np.maximum(size, 1e-18)), 0))
