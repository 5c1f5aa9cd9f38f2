"""How good a run is on data that it does not train on: a labelled list, evaluated every few epochs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from dsm.data.lists import VideoList, read_list
from dsm.data.reading import ClipConfig
from dsm.errors import UserError
from dsm.evaluate.extract import extract_by_all
from dsm.evaluate.probe import knn_probe
from dsm.evaluate.retrieval import kept_apart, retrieve
from dsm.terminal import many, warn
from dsm.video.decode import probe
from dsm.video.source import BadVideo, VideoError

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


@dataclass(frozen=True)
class MonitorConfig:
    """A labelled list by which a run is watched; its labels train nothing."""

    list: Path | None = None
    """Labelled videos; each is looked for among the others. The best checkpoint is kept as `best.pt`."""
    root: Path | None = None
    """Folder put before its relative paths; left out, `--data.root`, and without that the list's own."""
    every: int = 10
    """Epochs between two looks; there is one at the end in any case."""
    windows: int = 1
    """Clips a video."""

    def __post_init__(self) -> None:
        if self.every < 1 or self.windows < 1:
            raise UserError("monitor.every and monitor.windows must be at least 1.")

    def read(self, root: Path | None = None) -> VideoList | None:
        """The list, if there is one; ``root`` stands in for one of its own.

        Raises:
            UserError: it or its first videos cannot be read, or it has no labels, or all the same.
        """
        if self.list is None:
            return None
        videos = read_list(self.list, self.root or root)
        videos.need_classes("--monitor.list")
        check_readable(videos)
        return videos


def look(
    encoder: nn.Module,
    videos: VideoList,
    clip: ClipConfig,
    *,
    windows: int,
    workers: int,
    seconds: float | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> dict[str, float]:
    """R@1 and the vote of ``dsm probe``, each video against the others, in [0, 1].

    ``seconds``: how long a video may take to read. ``on_progress``: told how many videos are done.
    """
    bad: list[BadVideo] = []
    (features,) = extract_by_all(
        [encoder], videos, clip, windows=windows, workers=workers, seconds=seconds,
        on_progress=on_progress, on_bad=bad.append,
    )  # fmt: skip
    if bad:
        warn(f"{many(len(bad), 'video')} of --monitor.list cannot be read; the first: {bad[0].reason}")
    apart = kept_apart(features, features)
    found = retrieve(features, features, 1, apart=apart)
    votes = knn_probe(features, features, apart=apart)
    return {"knn": float(votes.mean()), "R@1": float(found.recall(1).mean())}
