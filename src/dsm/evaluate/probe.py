"""Linear probe: how much of the labels a linear classifier finds in frozen features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from dsm.errors import UserError
from dsm.evaluate.features import Features


def linear_probe(train: Features, tests: list[Features]) -> list[NDArray[np.bool_]]:
    """Fit multinomial logistic regression on standardised features, once, and test it.

    Returns:
        For each test, (n,): whether each video's label was found.

    Raises:
        UserError: the training features have fewer than two labels, or none.
    """
    model = fit_probe(train)
    return [model.predict(test.features) == test.labels for test in tests]


def fit_probe(train: Features) -> Pipeline:
    """Multinomial logistic regression on standardised features; ``predict`` (n, d) -> labels (n,).

    Raises:
        UserError: the features have fewer than two labels, or none.
    """
    if (train.labels < 0).any() or len(np.unique(train.labels)) < 2:
        raise UserError("a linear probe needs labelled training features of at least two classes.")
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return model.fit(train.features, train.labels)
