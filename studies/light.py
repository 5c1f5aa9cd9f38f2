"""Do encoders tell videos apart by their light? python studies/light.py runs/ranking

In MotionScenes the light of each video wanders in its own way, which says nothing about its motion but is
kept by SLD, broken by TLD, and shared by anchor and positive: a short cut. Asked of the trials of
``ranking.py``: how well a ridge regression finds, in the features of one clip a video of the free test, the
curve of the brightness of its border (the first three principal components; R² of five folds, their mean).
Writes ``light.md`` beside them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from begin import begin
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import cross_val_score
from torch import Tensor, nn
from trials import study_command

from dsm.datasets.lists import read_list
from dsm.demo import CLIP
from dsm.engine.progress import console
from dsm.evaluate.extract import extract_by_all
from dsm.evaluate.results import read_results
from dsm.files import write_text
from dsm.models.weights import load_weights

METHODS = {"random": "random.safetensors", "moco": "run", "dsm": "run"}
BORDER = 4
"""Pixels that actors hardly reach."""
COMPONENTS = 3


@dataclass(frozen=True)
class Options:
    ranking: tyro.conf.Positional[Path]
    """What ``ranking.py`` wrote."""
    seeds: tuple[int, ...] = (10, 11, 12, 13, 14)
    correlation: float = 0.9
    quick: bool = False
    """Of a quick ranking: its two seeds."""


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


def told_of(folder: Path, seed: int) -> dict[str, tuple[float, float]]:
    """R² of the light, and R@1 on the free test, by method."""
    videos = read_list(folder / f"scenes-{seed}" / "test_free.txt")
    encoders = [
        load_weights(folder / f"{method}-{seed}" / weights).module for method, weights in METHODS.items()
    ]
    *features, light = extract_by_all(
        [*encoders, BorderLight()], videos, CLIP, windows=1, batch_size=32, workers=0
    )
    told = {}
    for method, one in zip(METHODS, features, strict=True):
        rows = read_results(folder / f"{method}-{seed}" / "features.json")
        (right,) = [row.value for row in rows if row.metric == "R@1" and row.test.startswith("test_free")]
        told[method] = found_in(one.features, light.features), right
    return told


def table(found: dict[int, dict[str, tuple[float, float]]]) -> str:
    lines = ["| seed | " + " | ".join(METHODS) + " |", "|---" * (1 + len(METHODS)) + "|"]
    for seed, told in found.items():
        cells = [f"{max(light, 0):.2f} ({100 * right:.0f} %)" for light, right in told.values()]
        lines.append(f"| {seed} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(options: Options) -> None:
    folder = options.ranking / f"r{options.correlation:g}"
    seeds = options.seeds[:2] if options.quick else options.seeds
    found = {seed: told_of(folder, seed) for seed in seeds}
    caption = "R² of the light's curve in the features and, in brackets, R@1 on `test_free`:"
    write_text(options.ranking / "light.md", f"`{study_command()}`\n\n{caption}\n\n{table(found)}")
    console.print(f"{options.ranking}: light.md")


if __name__ == "__main__":
    begin(main, Options, __doc__)
