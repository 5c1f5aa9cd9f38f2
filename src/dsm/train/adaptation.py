"""Adapting an encoder that knows something: is it still worth it?

Adaptation often makes a good encoder worse. So it is measured before the first step, and at each look after:
its score, and how many of each video's neighbours are the same as before.
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
"""Neighbours of each video that are compared."""
RETENTION = "retention"


def agreement(before: Features, now: Features, k: int = NEIGHBOURS) -> float:
    """The mean share of a video's k nearest neighbours, by cosine, that are the same in both, in [0, 1].

    By chance it is k / (n - 1) for n videos. Only videos that both have are compared; with fewer than k + 2
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
    """Compares an encoder's features of some videos with those before it was adapted."""

    def __init__(self, file: Path) -> None:
        """``file`` keeps the features before, so that a resumed run has them."""
        self.file, self.beginning = file, False

    def __call__(self, features: Features) -> dict[str, float]:
        """``retention`` of features; nothing where those before are not known."""
        if self.beginning:
            save_features(self.file, features)
            return {}
        try:
            return {RETENTION: agreement(load_features(self.file), features)}
        except UserError:  # removed by hand
            return {}


@dataclass
class Adaptation:
    """What becomes of an encoder while it is adapted."""

    retention: Retention
    weights: str
    """What it began with."""
    score: str
    """The name of the score that it is judged by; higher is better."""
    patience: int
    """Looks in a row, all worse than the start, after which adapting stops; 0: never."""
    start: dict[str, float] = field(default_factory=dict)
    """Scores before the first step."""
    looks: dict[int, tuple[float, float]] = field(default_factory=dict)
    """By step: the score, and the retention."""

    @contextmanager
    def beginning(self) -> Iterator[None]:
        """The next look is at the encoder before it is adapted."""
        self.retention.beginning = True
        try:
            yield
        finally:
            self.retention.beginning = False

    def add(self, scores: dict[str, float], step: int) -> None:
        """Note the scores of a look."""
        self.looks[step] = scores[self.score], scores.get(RETENTION, float("nan"))

    @property
    def given_up(self) -> bool:
        """Whether the last looks were all worse than the start."""
        if not self.patience or self.score not in self.start or len(self.looks) < self.patience:
            return False
        last = list(self.looks.values())[-self.patience :]
        return all(score < self.start[self.score] for score, _ in last)

    def words(self) -> list[str]:
        """What the user must know at the end."""
        if not self.looks or self.score not in self.start:
            return []
        before = self.start[self.score]
        step, (best, kept) = max(self.looks.items(), key=lambda one: one[1][0])
        known = f"; at that step {kept:.0%} of each video's neighbours are those it had"
        still = "" if np.isnan(kept) else known
        if best <= before:
            stopped = f"Stopped after {self.patience} looks that were worse. " if self.given_up else ""
            return [
                f"{stopped}The encoder you had is the better one: {self.score} {before:.3f} before, at most "
                f"{best:.3f} since (step {step}){still}. Go on with {self.weights}."
            ]
        return [f"Adapted: {self.score} {before:.3f} before, {best:.3f} at step {step} (best.pt){still}."]

    def state(self) -> dict[str, Any]:
        """What a resumed run needs to go on."""
        return {"start": self.start, "looks": self.looks}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self.start = dict(state["start"])
        self.looks = {int(step): (score, kept) for step, (score, kept) in state["looks"].items()}
