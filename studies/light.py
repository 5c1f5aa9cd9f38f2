"""Do encoders tell videos apart by their light? python studies/light.py runs/ablations

In MotionScenes the light of each video wanders in its own way, which says nothing about its motion but is
kept by SLD, broken by TLD, and shared by anchor and positive: a short cut. Asked of the trials of
``ablations.py --only light``: how well a ridge regression finds, in the features of one clip a video of the
free test, the curve of the brightness of its border (the first three principal components; R² of five folds,
their mean). Writes ``light.md`` beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ablations
import numpy as np
import torch
import tyro
from begin import begin
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import cross_val_score
from torch import Tensor, nn
from trials import Trial, study_command

from dsm.datasets.lists import read_list
from dsm.demo import CLIP
from dsm.engine.progress import console, progress
from dsm.evaluate.extract import extract_by_all
from dsm.evaluate.results import read_results
from dsm.files import write_text
from dsm.models.weights import load_weights

BORDER = 4
"""Pixels that actors hardly reach."""
COMPONENTS = 3


@dataclass(frozen=True)
class Options:
    folder: tyro.conf.Positional[Path]
    """What ``ablations.py`` wrote."""
    seeds: tuple[int, ...] = ablations.Options.seeds
    quick: bool = False
    """Of quick ablations: their two seeds."""


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


def told_of(trials: Sequence[Trial]) -> dict[str, tuple[float, float]]:
    """R² of the light, and R@1 on the free test, by the name of the trial."""
    free = trials[0].tests[0]
    encoders = [load_weights(trial.weights).module for trial in trials]
    *features, light = extract_by_all(
        [*encoders, BorderLight()], read_list(free), CLIP, windows=1, batch_size=32, workers=0
    )
    told = {}
    for trial, one in zip(trials, features, strict=True):
        rows = read_results(trial.folder / "features.json")
        (right,) = [row.value for row in rows if row.metric == "R@1" and row.test.startswith(free.stem + "@")]
        told[trial.name] = found_in(one.features, light.features), right
    return told


def table(found: dict[int, dict[str, tuple[float, float]]]) -> str:
    names = sorted(next(iter(found.values())), reverse=True)
    lines = ["| seed | " + " | ".join(names) + " |", "|---" * (1 + len(names)) + "|"]
    for seed, told in found.items():
        cells = [f"{max(told[name][0], 0):.2f} ({100 * told[name][1]:.0f} %)" for name in names]
        lines.append(f"| {seed} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(options: Options) -> None:
    seeds = options.seeds[:2] if options.quick else options.seeds
    asked = ablations.Options(options.folder, only=("light",), seeds=seeds, quick=options.quick)
    with progress("light in features", len(seeds)) as bar:
        found = {}
        for done, seed in enumerate(seeds, 1):
            found[seed] = told_of(ablations.trials_of(asked, seed))
            bar.update(done)
    caption = "R² of the light's curve in the features and, in brackets, R@1 on `test_free`:"
    write_text(options.folder / "light.md", f"`{study_command()}`\n\n{caption}\n\n{table(found)}")
    console.print(f"{options.folder}: light.md")


if __name__ == "__main__":
    begin(main, Options, __doc__)
