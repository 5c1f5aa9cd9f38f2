"""Do encoders tell videos apart by their light? A measure of the trials of ``ablations.py --only light``.

In MotionScenes the light of each video drifts in its own way. That says nothing about the motion, but SLD
keeps it, TLD breaks it, and anchor and positive share it: a short cut. The measure takes the features of one
clip per video of the free test. From them, a ridge regression predicts the brightness curve of the clip's
border (its first three principal components). The result is R², the mean of five folds.
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
"""Width in pixels; actors hardly reach it."""
COMPONENTS = 3


class BorderLight(nn.Module):
    """The brightness of a clip's border, frame by frame: (B, C, T, H, W) to (B, T)."""

    def forward(self, clips: Tensor) -> Tensor:
        inside = torch.zeros(clips.shape[-2:], dtype=torch.bool)
        inside[BORDER:-BORDER, BORDER:-BORDER] = True
        return clips[..., ~inside].mean((1, 3))


def light_r2(features: NDArray[np.float32], curves: NDArray[np.float32]) -> float:
    """R² of predicting the curves' components from unit-length features."""
    centred = curves - curves.mean(1, keepdims=True)
    centred = centred - centred.mean(0)
    components = np.linalg.svd(centred, full_matrices=False)[0][:, :COMPONENTS]
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    unit = (unit - unit.mean(0)) / (unit.std(0) + 1e-6)
    ridge = RidgeCV(np.logspace(0, 4, 9))
    return float(np.mean([cross_val_score(ridge, unit, one, cv=5).mean() for one in components.T]))


def measure_light(trial: Trial) -> list[Row]:
    """R² for the light of the first test, one clip per video."""
    file = trial.tests[0]
    features, light = extract_by_all(
        [load_weights(trial.weights).module, BorderLight()], read_list(file), trial.config.clip, windows=1,
        batch_size=32, workers=0,
    )  # fmt: skip
    r2 = light_r2(features.features, light.features)
    return [Row(trial.name, trial.config.seed, file.stem, METRIC, r2, None, None, len(features))]


def light_table(rows: Sequence[Row], names: Sequence[str], test: str) -> str:
    """One row per seed: R² of each trial and, in brackets, its R@1."""
    values = by_seed(rows)
    lines = ["| seed | " + " | ".join(names) + " |", "|---" * (1 + len(names)) + "|"]
    for seed in sorted(values[names[0], test, METRIC]):
        pairs = [(values[name, test, METRIC][seed], values[name, test, "R@1"][seed]) for name in names]
        cells = [f"{max(light, 0):.2f} ({100 * right:.0f} %)" for light, right in pairs]
        lines.append(f"| {seed} | {' | '.join(cells)} |")
    return (
        f"R² of predicting the light's curve from the features and, in brackets, R@1 on `{test}`:\n\n"
        + "\n".join(lines)
        + "\n"
    )
