"""Do encoders tell videos apart by their light? A measure of the trials of ``ablations.py --only light``.

In MotionScenes the light of each video wanders in its own way, which says nothing about its motion but is
kept by SLD, broken by TLD, and shared by anchor and positive: a short cut. How well does a ridge regression
find, in the features of one clip a video of the free test, the curve of the brightness of its border (the
first three principal components; R² of five folds, their mean)?
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import cross_val_score
from tables import by_seed
from torch import Tensor, nn
from trial import Trial

from dsm.data.lists import read_list
from dsm.evaluate.extract import extract_by_all
from dsm.models.weights import load_weights
from dsm.runs.results import Row

METRIC = "light_r2"
BORDER = 4
"""Pixels that actors hardly reach."""
COMPONENTS = 3


class BorderLight(nn.Module):
    """The brightness of a clip's border, frame by frame: (B, C, T, H, W) to (B, T)."""

    def forward(self, clips: Tensor) -> Tensor:
        inside = torch.zeros(clips.shape[-2:], dtype=torch.bool)
        inside[BORDER:-BORDER, BORDER:-BORDER] = True
        return clips[..., ~inside].mean((1, 3))


def found_in(features: NDArray[np.float32], curves: NDArray[np.float32]) -> float:
    """R² of the curves' components, from features of length 1."""
    centred = curves - curves.mean(1, keepdims=True)
    centred = centred - centred.mean(0)
    components = np.linalg.svd(centred, full_matrices=False)[0][:, :COMPONENTS]
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    unit = (unit - unit.mean(0)) / (unit.std(0) + 1e-6)
    ridge = RidgeCV(np.logspace(0, 4, 9))
    return float(np.mean([cross_val_score(ridge, unit, one, cv=5).mean() for one in components.T]))


def measure_light(trial: Trial) -> list[Row]:
    """R² of the light of the first test, in one clip of each of its videos."""
    file = trial.tests[0]
    features, light = extract_by_all(
        [load_weights(trial.weights).module, BorderLight()], read_list(file), trial.config.clip, windows=1,
        batch_size=32, workers=0,
    )  # fmt: skip
    found = found_in(features.features, light.features)
    return [Row(trial.name, trial.config.seed, file.stem, METRIC, found, None, None, len(features))]


def light_table(rows: Sequence[Row], names: Sequence[str], test: str) -> str:
    """A line a seed: R² of each trial and, in brackets, its R@1."""
    found = by_seed(rows)
    lines = ["| seed | " + " | ".join(names) + " |", "|---" * (1 + len(names)) + "|"]
    for seed in sorted(found[names[0], test, METRIC]):
        told = [(found[name, test, METRIC][seed], found[name, test, "R@1"][seed]) for name in names]
        cells = [f"{max(light, 0):.2f} ({100 * right:.0f} %)" for light, right in told]
        lines.append(f"| {seed} | {' | '.join(cells)} |")
    return (
        f"R² of the light's curve in the features and, in brackets, R@1 on `{test}`:\n\n"
        + "\n".join(lines)
        + "\n"
    )
