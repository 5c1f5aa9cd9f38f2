"""Adapting a pretrained encoder to other videos: does it improve?

Adaptation often makes a good encoder worse. So the encoder is evaluated before the first step and at
intervals after: its score, and how many of each video's nearest neighbours are still the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dsm.errors import UserError
from dsm.evaluate.feature_files import load_features, save_features
from dsm.evaluate.features import Features
from dsm.evaluate.nearest import nearest

NEIGHBOURS = 10
"""Number of neighbours of each video to compare."""
RETENTION = "retention"


def agreement(before: Features, now: Features, k: int = NEIGHBOURS) -> float:
    """The mean share of a video's k nearest neighbours, by cosine, that are the same in both, in [0, 1].

    Chance level is k / (n - 1) for n videos. Only videos in both are compared; with fewer than k + 2
    of them, k is smaller.
    """
    places = {path: row for row, path in enumerate(now.paths)}
    rows = [(row, places[path]) for row, path in enumerate(before.paths) if path in places]
    k = min(k, len(rows) - 2)
    if k < 1:
        return float("nan")
    sides = [
        one.features[[pair[side] for pair in rows]].astype(np.float32)
        for side, one in enumerate((before, now))
    ]
    own = np.arange(len(rows))
    one, other = (nearest(side, side, k, apart=(own, own)).places for side in sides)
    return float(np.mean([len(np.intersect1d(a, b)) / k for a, b in zip(one, other, strict=True)]))


class Retention:
    """Compares an encoder's features of some videos with its features before adaptation."""

    def __init__(self, file: Path) -> None:
        """``file`` stores the features from before adaptation, so that a resumed run has them."""
        self.file, self.beginning = file, False

    def __call__(self, features: Features) -> dict[str, float]:
        """``retention`` of features; empty if the features from before adaptation are not known."""
        if self.beginning:
            save_features(self.file, features)
            return {}
        try:
            return {RETENTION: agreement(load_features(self.file), features)}
        except UserError:  # removed by hand
            return {}


@dataclass
class Adaptation:
    """The scores of an encoder while it is adapted."""

    retention: Retention
    weights: str
    """The weights that it started from."""
    score: str
    """The name of the score to compare; higher is better."""
    patience: int
    """Adaptation stops after this many evaluations in a row worse than the start; 0: never."""
    start: dict[str, float] = field(default_factory=dict)
    """Scores before the first step."""
    scores: dict[int, tuple[float, float]] = field(default_factory=dict)
    """The score and the retention, by step."""

    @contextmanager
    def beginning(self) -> Iterator[None]:
        """Context in which evaluations are of the encoder before adaptation."""
        self.retention.beginning = True
        try:
            yield
        finally:
            self.retention.beginning = False

    def add(self, scores: dict[str, float], step: int) -> None:
        """Record the scores of an evaluation."""
        self.scores[step] = scores[self.score], scores.get(RETENTION, float("nan"))

    @property
    def given_up(self) -> bool:
        """Whether the last ``patience`` evaluations were all worse than the start."""
        if not self.patience or self.score not in self.start or len(self.scores) < self.patience:
            return False
        last = list(self.scores.values())[-self.patience :]
        return all(score < self.start[self.score] for score, _ in last)

    def words(self) -> list[str]:
        """Sentences for the user at the end of the run."""
        if not self.scores or self.score not in self.start:
            return []
        before = self.start[self.score]
        step, (best, kept) = max(self.scores.items(), key=lambda one: one[1][0])
        stopped = f"Stopped: {self.patience} evaluations in a row were worse. " if self.given_up else ""
        known = f"; at that step {kept:.0%} of each video's neighbours were unchanged"
        still = "" if np.isnan(kept) else known
        if best <= before:
            return [
                f"{stopped}The original encoder is better: {self.score} {before:.3f} before, at most "
                f"{best:.3f} since (step {step}){still}. Use {self.weights}."
            ]
        return [
            f"{stopped}Adapted: {self.score} {before:.3f} before, {best:.3f} at step {step} (best.pt){still}."
        ]

    @property
    def has_helped(self) -> bool | None:
        """Whether an evaluation was better than the start; None if there is nothing to compare."""
        if not self.scores or self.score not in self.start:
            return None
        return max(score for score, _ in self.scores.values()) > self.start[self.score]

    def state(self) -> dict[str, Any]:
        """What a resumed run needs to continue, and ``has_helped``."""
        return {"start": self.start, "looks": self.scores, "has_helped": self.has_helped}

    def load(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state`."""
        self.start = dict(state["start"])
        self.scores = {int(step): (score, kept) for step, (score, kept) in state["looks"].items()}
