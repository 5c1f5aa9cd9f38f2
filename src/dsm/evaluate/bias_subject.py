"""What ``dsm bias`` tests: a classifier, or an encoder with a probe, behind one interface."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from torch import Tensor, nn

from dsm.evaluate.features import Features
from dsm.evaluate.probe import fit_probe
from dsm.models.heads import Classifier
from dsm.models.weights import LoadedEncoder


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
