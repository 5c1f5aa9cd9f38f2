"""Weights that say a class of every video: by their own classifier, or by a probe on their features."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from torch import nn

from dsm.evaluate.features import Features
from dsm.evaluate.probe import fit_probe
from dsm.models.weights import LoadedEncoder


@dataclass
class Subject:
    """Weights under examination."""

    module: nn.Module
    """Normalised clips (B, C, T, H, W) -> probabilities (B, K) of a classifier, or features (B, D)."""
    config: dict[str, Any]
    """What the checkpoint says of itself."""
    names: list[str] | None
    """The classes of a classifier; None of an encoder, which needs a probe."""
    probe: Pipeline | None = field(default=None, init=False)
    known: NDArray[np.int64] = field(default_factory=lambda: np.arange(0), init=False)
    """Labels among which it chooses."""

    def __post_init__(self) -> None:
        if self.names is not None:
            self.known = np.arange(len(self.names))

    def learn(self, train: Features) -> None:
        """Fit the probe of an encoder."""
        self.probe = fit_probe(train)
        self.known = np.unique(train.labels)

    def judge(self, found: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the module gave of videos, (n, parts, K or D) -> probabilities (n, parts, K) of ``known``."""
        if self.probe is None:
            return found
        said = self.probe.predict_proba(found.reshape(-1, found.shape[-1]))
        return np.asarray(said.reshape(*found.shape[:2], -1), np.float32)


def subject_of(loaded: LoadedEncoder) -> Subject:
    """Weights that were loaded with their classifier, where they have one."""
    module = nn.Sequential(loaded.module, nn.Softmax(dim=1)) if loaded.classes is not None else loaded.module
    return Subject(module, loaded.config, loaded.classes)
