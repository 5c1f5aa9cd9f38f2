"""How good a training is by what it does not see: whoever watches is asked every so many steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from dsm.datasets.lists import VideoList
from dsm.errors import UserError
from dsm.video.decode import probe
from dsm.video.source import VideoError

LOOKED_INTO = 8


def check_readable(videos: VideoList) -> None:
    """Look into the first videos of a list: a wrong root shows at once, and not after hours.

    Raises:
        UserError: not one of them can be read.
    """
    reasons = []
    for place in range(min(len(videos), LOOKED_INTO)):
        try:
            probe(videos.file(place))
        except VideoError as error:
            reasons.append(str(error))
        else:
            return
    raise UserError(f"{videos.source}: not one of its first videos can be read; the first: {reasons[0]}")


@dataclass(frozen=True)
class Watch:
    """Asks how good the training is, by what it does not see."""

    ask: Callable[[nn.Module, Callable[[int], None]], dict[str, float]]
    """The method to scores, telling how many videos are done; it may draw random numbers and leave the method
    in evaluation mode."""
    every: int
    """Steps between two looks; there is one at the end in any case."""
    best: str
    """The score by which the best checkpoint is kept."""
    videos: VideoList
    """What is watched."""

    @property
    def digest(self) -> str:
        """Of another list, scores are others."""
        return self.videos.digest(rooted=False)

    def ask_aside(self, method: nn.Module, note: Callable[[str], None]) -> dict[str, float]:
        """Ask, saying how far that is, and leave the method in training mode, as it was."""
        title, total = f"looking at {self.videos.source}", len(self.videos)
        scores = self.ask(method, lambda done: note(f"{title}: {done}/{total}"))
        method.train()
        return scores
