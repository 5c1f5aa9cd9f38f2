"""Which number, measured without labels, goes with R@1? python studies/health.py --runs runs/places

Takes the encoders that ``places.py`` trained (all checkpoints that it measured), computes candidates for such
a number on training videos, without labels, and writes the rank correlation of each with R@1 among other
scenes: within each place, and its mean over places. Writes ``health.md`` and ``health.json``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from begin import begin
from places import FREE
from scipy.stats import spearmanr
from torch import Tensor, nn
from trials import study_command

from dsm.data.lists import read_list
from dsm.demo import CLIP
from dsm.evaluate.balance import InOtherScenes, balance
from dsm.evaluate.extract import extract_by_all
from dsm.files import write_text
from dsm.methods.embedding_health import effective_rank, uniformity
from dsm.models.checkpoint_file import list_checkpoints, step_of
from dsm.models.weights import load_weights
from dsm.runs.results import read_results
from dsm.terminal import console, progress
from dsm.train.monitor import sampled


@dataclass(frozen=True)
class Options:
    runs: tuple[Path, ...] = (Path("runs/places"),)
    """Output folders of ``places.py``."""
    out: Path = Path("runs/health")
    videos: int = 200
    """Training videos to measure on."""


NAMES = {
    "balance": "balance: nearer to the clip of the same motion, or of the same scene?",
    "found": "the clip of the same motion is the nearest of all",
    "agreement": "share of 20 neighbours that stay in another scene",
    "order": "nearer to the clip in another scene than to the clip played backwards",
    "two_clips": "another clip of the same video is the nearest",
    "rank": "effective rank",
    "uniformity": "uniformity (negative: more uniform)",
}
"""The candidates, and what they measure."""


@dataclass(frozen=True)
class Measured:
    place: str
    name: str
    step: int
    recall: float
    numbers: dict[str, float]


class Candidates(nn.Module):
    """The features of ``InOtherScenes``, and of the clips played backwards."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.scenes = InOtherScenes(encoder)

    def forward(self, clips: Tensor) -> Tensor:
        return torch.cat([self.scenes(clips), self.scenes.encoder(clips.flip(2))], 1)


def numbers_of(encoder: nn.Module, file: Path, count: int) -> dict[str, float]:
    """All candidates of an encoder, on two clips of each of ``count`` videos of a list."""
    videos = sampled(read_list(file), count)
    assert videos is not None
    (features,) = extract_by_all([Candidates(encoder)], videos, CLIP, windows=1, workers=0)
    (middle,) = extract_by_all([encoder], videos, CLIP, windows=3, workers=0)
    own, exchanged, lender, backwards = torch.from_numpy(features.features).chunk(4, 1)
    other = torch.from_numpy(middle.features)
    mean = own.mean(0)

    def unit(x: Tensor) -> Tensor:
        return F.normalize(x - mean, dim=1)

    places = torch.arange(len(own))
    near, among = unit(exchanged) @ unit(own).T, unit(own) @ unit(own).T
    among.fill_diagonal_(-2)
    stay = near.clone().fill_diagonal_(-2).topk(20).indices
    same = stay[:, :, None] == among.topk(20).indices[:, None, :]
    by_order = (unit(exchanged) * unit(own)).sum(1) > (unit(backwards) * unit(own)).sum(1)
    return {
        "balance": balance(own, exchanged, lender),
        "found": float((near.argmax(1) == places).float().mean()),
        "agreement": float(same.any(2).float().mean()),
        "order": float(by_order.float().mean()),
        "two_clips": float(((unit(other) @ unit(own).T).argmax(1) == places).float().mean()),
        "rank": float(effective_rank(own)),
        "uniformity": float(uniformity(F.normalize(own, dim=1))),
    }


def recalls(trial: Path) -> dict[int, float]:
    """R@1 of each checkpoint of a trial that was measured."""
    steps = {step_of(file): file for file in list_checkpoints(trial / "run")}
    found: dict[int, float] = {}
    for file in sorted(trial.glob("*.json")):
        if file.name == "trial.json":
            continue
        for row in read_results(file):
            if row.test.partition("@")[0] not in (FREE, "list"):
                continue
            if row.metric == "R@1" and steps:
                found[max(steps)] = row.value
            elif row.metric.startswith("R@1_at_"):
                found[int(row.metric.removeprefix("R@1_at_"))] = row.value
    return {step: value for step, value in found.items() if step in steps}


def trials_of(folder: Path) -> Iterator[tuple[Path, Path]]:
    """The trials of a folder of ``places.py``, and the list that each was trained on."""
    for trial in sorted(folder.glob("*/*-*/run")):
        name, _, seed = trial.parent.name.rpartition("-")
        made = trial.parent.parent / f"videos-{seed}" / "train.txt"
        real = trial.parent.parent / "videos" / "list.txt"
        if name and (made.exists() or real.exists()):
            yield trial.parent, made if made.exists() else real


def measure(trial: Path, file: Path, step: int, recall: float, count: int) -> Measured:
    """The candidates of one checkpoint; kept in the trial's folder, so that they are computed once."""
    kept = trial / "health" / f"{step}.json"
    if kept.exists():
        numbers = json.loads(kept.read_text(encoding="utf-8"))
    else:
        checkpoint = next(one for one in list_checkpoints(trial / "run") if one.stem.endswith(f"{step:08d}"))
        numbers = numbers_of(load_weights(str(checkpoint)).module, file, count)
        write_text(kept, json.dumps(numbers))
    return Measured(trial.parent.name, trial.name, step, recall, numbers)


def table(measured: list[Measured]) -> str:
    """One row per candidate: its rank correlation with R@1 in each place, and their mean."""
    places = sorted({one.place for one in measured})
    of = {place: [one for one in measured if one.place == place] for place in places}
    lines = ["| without labels | " + " | ".join(places) + " | mean |", "|---" * (len(places) + 2) + "|"]
    for name, title in NAMES.items():
        found = [
            float(spearmanr([one.numbers[name] for one in some], [one.recall for one in some]).statistic)
            for some in of.values()
        ]
        lines.append(f"| {title} | {' | '.join(f'{one:+.2f}' for one in [*found, np.mean(found)])} |")
    counts = " | ".join(str(len(some)) for some in of.values())
    return "\n".join([*lines, f"| encoders | {counts} | {len(measured)} |"]) + "\n"


def main(options: Options) -> None:
    wanted = [
        (trial, file, step, recall)
        for folder in options.runs
        for trial, file in trials_of(folder)
        for step, recall in recalls(trial).items()
    ]
    measured = []
    with progress("encoders", len(wanted)) as bar:
        for done, (trial, file, step, recall) in enumerate(wanted, 1):
            measured.append(measure(trial, file, step, recall, options.videos))
            bar.update(done, f"{trial.parent.name}/{trial.name}, step {step}")
    write_text(options.out / "health.md", f"`{study_command()}`\n\n{table(measured)}")
    records = [vars(one) for one in measured]
    write_text(options.out / "health.json", json.dumps(records, indent=1) + "\n")
    console.print(f"{options.out}: health.md, health.json")


if __name__ == "__main__":
    begin(main, Options, __doc__)
