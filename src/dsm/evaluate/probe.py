"""Probes: how well a simple classifier predicts labels from frozen features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from dsm.errors import UserError
from dsm.evaluate.features import Features, same_encoder
from dsm.models.heads import Classifier
from dsm.models.weights import LoadedEncoder
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


@dataclass
class Subject:
    """Weights to test for bias: a classifier, or an encoder with a probe."""

    module: nn.Module
    """Normalised clips (B, C, T, H, W) -> for an encoder, features (B, D); for a classifier, its features, if
    any, followed by its probabilities: (B, D + K)."""
    config: dict[str, Any]
    """The checkpoint's metadata."""
    names: list[str] | None
    """The classes of a classifier; None for an encoder, which needs a probe."""
    probe: Pipeline | None = field(default=None, init=False)
    known: NDArray[np.int64] = field(default_factory=lambda: np.arange(0), init=False)
    """The labels that it can predict."""

    def __post_init__(self) -> None:
        if self.names is not None:
            self.known = np.arange(len(self.names))

    def learn(self, train: Features) -> None:
        """Fit the probe of an encoder."""
        self.probe = fit_probe(train)
        self.known = np.unique(train.labels)

    def judge(self, outputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """The module's outputs (n, parts, K or D) -> probabilities (n, parts, K) of the labels ``known``."""
        if self.probe is None:
            return outputs[..., -len(self.known) :]
        probabilities = self.probe.predict_proba(outputs.reshape(-1, outputs.shape[-1]))
        return np.asarray(probabilities.reshape(*outputs.shape[:2], -1), np.float32)

    def features(self, outputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """The features in the module's outputs (n, parts, D), of the first part: (n, D). For a classifier
        without features, its probabilities."""
        own = outputs[:, 0]
        inner = own.shape[1] - len(self.known)
        return own[:, :inner] if self.names is not None and inner else own


class FeaturesAndProbabilities(nn.Module):
    """A classifier's features and probabilities, concatenated: clips (B, C, T, H, W) -> (B, D + K)."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, clip: Tensor) -> Tensor:
        seen: list[Tensor] = []
        hook = self.classifier.head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        try:
            logits = self.classifier(clip)
        finally:
            hook.remove()
        return torch.cat([seen[0].float(), logits.float().softmax(1)], dim=1)


def subject_of(loaded: LoadedEncoder) -> Subject:
    """The subject for loaded weights, with their classifier if they have one."""
    module = loaded.module
    if isinstance(module, Classifier):
        module = FeaturesAndProbabilities(module)
    elif loaded.classes is not None:
        module = nn.Sequential(module, nn.Softmax(dim=1))
    return Subject(module, loaded.config, loaded.classes)
