"""The evaluations of a run while it trains: which are due, their scores, and the best."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from dsm.data.lists import VideoList
from dsm.evaluate.balance import BALANCE
from dsm.runs.logs import MONITOR, RunLog
from dsm.terminal import Reporter, console, note
from dsm.train.adaptation import Adaptation
from dsm.train.prepare import train_mode


@dataclass(frozen=True)
class Evaluation:
    """How the network is evaluated every few epochs."""

    scores_of: Callable[[nn.Module, Callable[[int], None]], dict[str, float]]
    """Maps the method to its scores and reports how many videos are done. May draw random numbers and leave
    the method in evaluation mode."""
    every: int
    """Steps between evaluations; the last step always evaluates."""
    best: str
    """The score that selects the best checkpoint."""
    videos: VideoList
    """The videos to evaluate on."""
    adapting: Adaptation | None = None
    """The progress of the encoder being adapted, if any."""

    @property
    def digest(self) -> str:
        """Identifies the list; scores on different lists cannot be compared."""
        return self.videos.digest(rooted=False)

    def run(self, method: nn.Module, tell: Callable[[str], None]) -> dict[str, float]:
        """Evaluate, report the progress, and put the method back into training mode."""
        title, total = f"evaluating on {self.videos.source}", len(self.videos)
        # A compiled encoder would be compiled again for evaluation mode, and for the size of its batches.
        with torch.compiler.set_stance("force_eager"):
            scores = self.scores_of(method, lambda done: tell(f"{title}: {done}/{total}"))
        train_mode(method)
        return scores


class Evaluations:
    """The evaluations of a run so far, and the next one; without an ``evaluation`` there are none."""

    def __init__(self, evaluation: Evaluation | None) -> None:
        self._evaluation = evaluation
        self._on = evaluation and evaluation.digest
        self.best_step = 0
        """The step of the best score so far; 0 if there is none."""
        self._best = -math.inf
        self.pending = False
        """Whether the evaluation of the last checkpoint is still to be done."""
        self.scores: dict[str, float] = {}
        """The newest scores."""
        self.adapting = evaluation.adapting if evaluation else None

    @property
    def videos(self) -> VideoList | None:
        """The videos to evaluate on."""
        return self._evaluation.videos if self._evaluation else None

    def due(self, step: int, *, last: bool) -> bool:
        """Whether to evaluate after this step."""
        return self._evaluation is not None and (last or step % self._evaluation.every == 0)

    def begin(self, method: nn.Module, log: RunLog, bar: Reporter) -> None:
        """Measure an encoder before it is adapted, and keep its features to compare with."""
        if self._evaluation is None or self.adapting is None:
            return
        with self.adapting.beginning():
            self.adapting.start = self._evaluation.run(method, bar.aside)
        log.write(0, {f"{MONITOR}{name}": value for name, value in self.adapting.start.items()})

    def finish_pending(self, method: nn.Module, step: int, log: RunLog, bar: Reporter) -> bool:
        """Evaluate if that is still to be done, record and print the scores; returns whether it was."""
        if self._evaluation is None or not self.pending:
            return False
        scores = self._evaluation.run(method, bar.aside)
        log.write(step, {f"{MONITOR}{name}": value for name, value in scores.items()})
        self.scores = scores
        if self.adapting:
            self.adapting.add(scores, step)
        if BALANCE not in scores:  # the progress bar shows the balance
            listed = ", ".join(f"{name} {value:.3g}" for name, value in scores.items())
            console.print(f"step {step}: {listed}")
        score = scores[self._evaluation.best]
        if score > self._best:
            self._best, self.best_step = score, step
        self.pending = False
        return True

    @property
    def given_up(self) -> bool:
        """Whether adapting the encoder only makes it worse."""
        return self.adapting is not None and self.adapting.given_up

    def state(self) -> dict[str, Any]:
        """What a checkpoint records, under its names there."""
        return {
            "best": self._best,
            "best_step": self.best_step,
            "owed": self.pending,
            "watched": self._on,
            "adapting": self.adapting.state() if self.adapting else None,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continue from the :meth:`state` in a checkpoint."""
        watched = state.get("watched")
        comparable = self._on in (None, watched) or watched is None  # not scores on another list
        if comparable:
            self._best, self._on = float(state.get("best", -math.inf)), self._on or watched
            self.best_step = int(state.get("best_step", 0))
        self.pending = bool(state.get("owed", False))
        if self.adapting and state.get("adapting"):
            if comparable:
                self.adapting.load(state["adapting"])
            else:
                note(
                    "the list to monitor is another one now, so the run no longer compares the encoder with "
                    "the one that it started from."
                )
