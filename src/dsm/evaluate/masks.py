"""Given masks of actors, instead of what moves: for each video, a folder of pictures or a video."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from dsm.data.clips import EvaluationClips
from dsm.data.lists import VideoList, unlabelled
from dsm.data.settings import ClipConfig
from dsm.errors import UserError
from dsm.inputs import MASKS
from dsm.terminal import many
from dsm.video.source import VideoError

ENDINGS = ("", ".mp4", ".mkv", ".avi", ".webm", ".mov")
"""Suffixes of a video's masks, after its path without extension: a folder of pictures, or a video."""
WHITE = 0.5
"""A mask's pixels of at least this brightness belong to the actor."""


class Masks:
    """The masks of a list's videos, for the same frames and crops as their clips.

    Args:
        folder: contains, for the video ``a/b.mp4``, the folder ``a/b`` of pictures in the order of its
            frames, or a video ``a/b.mp4`` (or ``.mkv`` and others) of as many frames. Actors are white.
        windows: clips of each video.

    Raises:
        UserError: the folder or the masks of a video are missing.
    """

    def __init__(self, folder: Path, videos: VideoList, clip: ClipConfig, windows: int) -> None:
        MASKS.check(folder)
        paths = [_mask_of(folder, path) for path in videos.paths]
        missing = [path for path, found in zip(videos.paths, paths, strict=True) if found is None]
        if missing:
            more = f" and {many(len(missing) - 1, 'other video')}" if len(missing) > 1 else ""
            raise UserError(
                f"{folder}: has no mask for {missing[0]}{more}; for a/b.mp4 it needs a folder a/b of "
                "pictures, or a video a/b.mp4, white where the actor is."
            )
        self.files = unlabelled(list(map(str, paths)), str(folder))
        self._masks, self._videos = (EvaluationClips(one, clip, windows) for one in (self.files, videos))

    def of(self, index: int) -> Tensor:
        """The masks of a video's clips: (W, 1, T, S, S), 1 where an actor is.

        Raises:
            UserError: the masks cannot be read, or there is not one for each frame.
        """
        file = self.files.paths[index]
        try:
            clips = self._masks.sample(index)["clips"]
            counts = [one.reader.total(index) for one in (self._masks, self._videos)]
        except VideoError as error:
            raise UserError(f"--masks: {error}") from None
        if counts[0] != counts[1]:
            frames = many(counts[1], "frame")
            raise UserError(f"{file}: {many(counts[0], 'mask')} for a video of {frames}; give one for each.")
        bright: Tensor = clips.float().mean(-1) / 255 >= WHITE
        return bright.float()[:, None]


def _mask_of(folder: Path, path: str) -> Path | None:
    """The masks of a video; None if there are none."""
    relative = Path(path)
    stem = folder / (relative.relative_to("/") if relative.is_absolute() else relative).with_suffix("")
    for ending in ENDINGS:
        found = stem.with_name(stem.name + ending)
        if found.is_dir() if not ending else found.is_file():
            return found.absolute()
    return None
