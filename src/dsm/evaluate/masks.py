"""Given masks of actors, instead of what moves: for each video, a folder of pictures or a video."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dsm.data.clips import EvaluationClips
from dsm.data.lists import VideoList
from dsm.data.reading import crop
from dsm.data.settings import ClipConfig
from dsm.errors import UserError
from dsm.files import as_spelled
from dsm.inputs import MASKS
from dsm.terminal import many
from dsm.video.convert import fit_short_side
from dsm.video.decode import frame_count, read_frames
from dsm.video.frame_folder import frame_files, is_folder
from dsm.video.segments import file_of, without_segment
from dsm.video.source import EXTENSIONS, VideoError

ENDINGS = ("", ".mp4", ".mkv", ".avi", ".webm", ".mov")
"""Suffixes of a video's masks, after its path without extension: a folder of pictures, or a video."""
LOSSLESS = (".png", ".bmp", ".tif", ".tiff")
"""Pictures that keep every value: in them, all that is not black belongs to the actor, as in masks of 0 and 1
or of one colour per actor."""
WHITE = 0.5
"""In videos and other pictures, whose compression greys black, pixels of at least this brightness do."""


class Masks:
    """The masks of a list's videos, for the same frames and crops as their clips.

    Args:
        folder: contains, for the video ``a/b.mp4`` or its segments, the folder ``a/b`` of pictures in the
            order of its frames, or a video ``a/b.mp4`` (or ``.mkv`` and others) of as many frames. Actors are
            white.
        windows: clips of each video.

    Raises:
        UserError: the folder or the masks of a video are missing, a path has no place in the folder, or no
            mask shows an actor.
    """

    def __init__(self, folder: Path, videos: VideoList, clip: ClipConfig, windows: int) -> None:
        MASKS.check(folder)
        found = [_mask_of(folder, path) for path in videos.paths]
        missing = [path for path, mask in zip(videos.paths, found, strict=True) if mask is None]
        if missing:
            more = f" and {many(len(missing) - 1, 'other video')}" if len(missing) > 1 else ""
            raise UserError(
                f"{folder}: has no mask for {missing[0]}{more}; for a/b.mp4 it needs a folder a/b of "
                "pictures, or a video a/b.mp4, white where the actor is."
            )
        self.files = [mask for mask in found if mask is not None]
        self._videos, self._clip = videos, clip
        self._clips = EvaluationClips(videos, clip, windows)
        for index, mask in enumerate(self.files):
            file = file_of(videos.file(index))
            if mask.exists() and file.exists() and mask.samefile(file):
                raise UserError(f"{mask}: is the video itself; give --masks another folder than the videos'.")
        if not any(self._shows_an_actor(index) for index in range(len(videos))):
            raise UserError(
                f"{folder}: no mask shows an actor in the clips; in pictures, actors are all that is not "
                "black, in videos all that is bright."
            )

    def of(self, index: int) -> Tensor:
        """The masks of a video's clips: (W, 1, T, S, S), 1 where an actor is.

        Raises:
            UserError: the masks cannot be read, are not one for each frame, or have another shape.
        """
        try:
            return self._read(index)
        except VideoError as error:
            raise UserError(f"--masks: {error}") from None

    def _shows_an_actor(self, index: int) -> bool:
        """Whether a mask does; False if its video cannot be read, which is reported elsewhere."""
        try:
            frame_count(self._videos.file(index))
        except VideoError:
            return False
        return bool(self.of(index).any())

    def _read(self, index: int) -> Tensor:
        mask, video = self.files[index], self._videos.file(index)
        counts = [frame_count(one) for one in (mask, file_of(video))]
        if counts[0] != counts[1]:
            frames = many(counts[1], "frame")
            raise UserError(f"{mask}: {many(counts[0], 'mask')} for a video of {frames}; give one for each.")
        places = self._clips.places_in_file(index)
        height, width = read_frames(video, [0], self._clip.resize).shape[1:3]
        clips = []
        for numbers in places:
            actors = _actors(mask, numbers)
            own = fit_short_side(actors.shape[2], actors.shape[1], self._clip.resize)
            if max(abs(own[0] - width), abs(own[1] - height)) > 1:
                raise UserError(
                    f"{mask}: its masks are {actors.shape[2]} x {actors.shape[1]} pixels, another shape than "
                    f"the video's (about {width} : {height}); give masks of the whole picture."
                )
            area = F.interpolate(torch.from_numpy(actors)[:, None].float(), (height, width), mode="area")
            inside = crop(area[:, 0, :, :, None].numpy() >= 0.5, self._clip.size, (0.5, 0.5))
            clips.append(torch.from_numpy(inside[..., 0]))
        return torch.stack(clips).float()[:, None]


def _actors(mask: Path, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Where actors are in frames of a mask, in its own size: (T, H, W)."""
    frames = read_frames(mask, numbers)
    if is_folder(mask) and frame_files(mask)[0].suffix.lower() in LOSSLESS:
        return np.asarray(frames.max(-1) > 0)
    return np.asarray(frames.mean(-1) >= 255 * WHITE)


def _mask_of(folder: Path, path: str) -> Path | None:
    """The masks of a video; None if there are none.

    Raises:
        UserError: the path leads out of its folder, so it has no place in another one.
    """
    video = Path(os.path.normpath(without_segment(path)))
    if ".." in video.parts:
        raise UserError(
            f"{path}: leads out of the list's folder, so --masks has no place for it; give paths below "
            "--data.root."
        )
    relative = video.relative_to(video.anchor) if video.is_absolute() else video
    if relative.suffix.lower() in EXTENSIONS:  # a folder of frames may be named v.1
        relative = relative.with_suffix("")
    for ending in ENDINGS:
        found = as_spelled(folder / relative.parent / (relative.name + ending))
        if found.is_dir() if not ending else found.is_file():
            return found.absolute()
    return None
