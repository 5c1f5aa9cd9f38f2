"""Probes: how well a simple classifier predicts labels from frozen features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from dsm.errors import UserError
from dsm.evaluate.features import Features, same_encoder
from dsm.terminal import note

STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Inverse regularisation strengths to choose from by cross-validation."""


@dataclass(frozen=True)
class ChosenStrength:
    """A regularisation, and how it was chosen."""

    strength: float
    accuracy: dict[float, float]
    """Strength -> mean accuracy over the folds."""


def linear_probe(
    train: Features, tests: Sequence[Features], *, strength: float = 1.0
) -> list[NDArray[np.bool_]]:
    """Fit multinomial logistic regression on standardised features, once, and test it.

    Args:
        strength: inverse of the L2 regularisation (scikit-learn's C).

    Returns:
        For each test, (n,): whether each video's label was predicted.

    Raises:
        UserError: the training features have fewer than two labels or unlabelled rows, or dimensions or
            encoders differ.
    """
    for test in tests:
        same_encoder(train, test, ("train", "test"))
    model = fit_probe(train, strength=strength)
    return [model.predict(test.features) == test.labels for test in tests]


def fit_probe(train: Features, *, strength: float = 1.0) -> Pipeline:
    """Multinomial logistic regression on standardised features; ``predict`` (n, d) -> labels (n,).

    Raises:
        UserError: the features have fewer than two labels, or unlabelled rows.
    """
    need_classes(train)
    return logistic(strength).fit(train.features, train.labels)


def choose_strength(train: Features, groups: Sequence[str] | None = None, folds: int = 5) -> ChosenStrength:
    """Choose the regularisation by cross-validation on the training features; ties go to the stronger one.

    Args:
        groups: the group of each video; a group is never split between folds.

    Raises:
        UserError: too few videos of a class, or too few groups, for two folds.
    """
    need_classes(train)
    classes, counts = np.unique(train.labels, return_counts=True)
    # A class with a single video cannot be both trained on and tested, so every fold trains on it.
    alone = np.isin(train.labels, classes[counts < 2]) if groups is None else np.zeros(len(train), bool)
    shared = np.flatnonzero(~alone)
    most = len(set(groups)) if groups is not None else int(counts[counts > 1].min(initial=len(train)))
    folds = min(folds, most)
    if folds < 2 or not len(shared):
        what = "groups" if groups is not None else "videos of a class"
        raise UserError(f"cross-validation needs at least two {what} in the training features.")
    if alone.any():
        note(
            f"{int(alone.sum())} of {len(classes)} classes {'has' if alone.sum() == 1 else 'have'} "
            "a single video, so cross-validation does not test on them."
        )
    split: Any = (
        GroupKFold(folds) if groups is not None else StratifiedKFold(folds, shuffle=True, random_state=0)
    )
    hits: dict[float, list[float]] = {strength: [] for strength in STRENGTHS}
    for training, testing in split.split(train.features[shared], train.labels[shared], groups):
        inside, outside = np.append(shared[training], np.flatnonzero(alone)), shared[testing]
        if len(np.unique(train.labels[inside])) < 2:
            raise UserError(
                "the groups leave only one class in a fold of cross-validation; use fewer --folds."
            )
        for strength, shares in hits.items():
            model = logistic(strength).fit(train.features[inside], train.labels[inside])
            shares.append(float((model.predict(train.features[outside]) == train.labels[outside]).mean()))
    accuracy = {strength: float(np.mean(shares)) for strength, shares in hits.items()}
    return ChosenStrength(max(STRENGTHS, key=lambda strength: (accuracy[strength], -strength)), accuracy)


def need_classes(train: Features) -> None:
    """Raise UserError unless the training features are labelled and have at least two classes."""
    if (train.labels < 0).any() or len(np.unique(train.labels)) < 2:
        raise UserError("a probe needs labelled training features of at least two classes.")


def logistic(strength: float) -> Pipeline:
    """A linear probe: logistic regression of standardised features; ``strength`` is C, as in scikit-learn."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
