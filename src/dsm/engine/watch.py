"""How good a training is by what it does not see: whoever watches is asked every so many steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from dsm.datasets.lists import VideoList
from dsm.engine.extraction import digest_list


@dataclass(frozen=True)
class Watch:
    """Asks how good the training is, by what it does not see."""

    ask: Callable[[nn.Module], dict[str, float]]
    """The method to scores; it may draw random numbers and leave the method in evaluation mode."""
    every: int
    """Steps between two looks; there is one at the end in any case."""
    best: str
    """The score by which the best checkpoint is kept."""
    videos: VideoList
    """What is watched."""

    @property
    def digest(self) -> str:
        """Of another list, scores are others."""
        return digest_list(self.videos, rooted=False)

    def ask_aside(self, method: nn.Module) -> dict[str, float]:
        """Ask, and leave the method in training mode, as it was."""
        scores = self.ask(method)
        method.train()
        return scores
