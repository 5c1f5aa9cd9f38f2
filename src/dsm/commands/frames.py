"""``dsm data frames``: videos -> folders of jpg frames."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import tyro

from dsm.cores import usable_cores
from dsm.datasets.classes import carry_classes
from dsm.datasets.lists import VideoList, needed, read_list, write_list
from dsm.engine.bad_videos import tell_damaged
from dsm.engine.progress import console, progress
from dsm.engine.runfolder import claim_by_settings, lasting
from dsm.engine.side_by_side import side_by_side
from dsm.errors import UserError
from dsm.notes import many
from dsm.video.frames import DAMAGED, places_of, write_frames
from dsm.video.source import VideoError

LIST = "list.txt"
MARKER = "frames.json"


@dataclass(frozen=True)
class FramesConfig:
    """Settings of `dsm data frames`."""

    videos: tyro.conf.Positional[Path]
    """List of the videos."""
    out: Path
    """Folder for a folder of frames a video, and list.txt. What is there already is not done again; one that
    was stopped goes on."""
    root: Path | None = None
    """Folder put before relative paths; left out, the list's own."""
    short_side: int | None = None
    """Pixels of the frames' shorter side; left out, the videos' own."""
    square: bool = False
    """Squeeze frames to a square, so that crops reach the sides of wide footage; shapes are squeezed too."""
    flow: bool = False
    """Write optical flow from frame to frame instead, as pairs of pictures (needs OpenCV)."""
    quality: int = 90
    """Of the JPEGs, 1 to 95."""
    workers: int = usable_cores()
    """Videos decoded side by side."""
    overwrite: bool = False
    """Replace frames of other settings."""

    def __post_init__(self) -> None:
        if self.workers < 1 or not 1 <= self.quality <= 95 or (self.short_side or 16) < 16:
            raise UserError("workers must be at least 1, quality 1 to 95, short-side at least 16.")


def frames(config: FramesConfig) -> None:
    """Write the frames of all videos, and a list of the folders; say what could not be read."""
    videos = read_list(config.videos, config.root)
    folders = [config.out / place for place in places_of(videos.paths)]
    first = dict(zip(folders, videos.paths, strict=True))
    for folder, path in first.items():
        if above := next((one for one in folder.parents if one in first), None):
            raise UserError(
                f"{path} and {first[above]}: frames of the one would go into the other's, {above}."
            )
    # A folder of another size or of flow would be taken for the one that was asked for.
    claim_by_settings(
        config.out, MARKER, lasting(config), what="a folder of frames", overwrite=config.overwrite,
        needed=needed(videos),
    )  # fmt: skip
    carry_classes(videos, config.out)
    counts: dict[Path, int] = {}
    write = partial(
        write_frames,
        short_side=config.short_side,
        quality=config.quality,
        square=config.square,
        flow=config.flow,
    )
    # A video that is listed twice is written once.
    jobs = {folder: (videos.file(place), folder) for place, folder in enumerate(folders)}
    with progress("writing frames", len(jobs)) as bar:
        for done, (folder, written) in enumerate(side_by_side(write, jobs, config.workers), start=1):
            try:
                counts[folder] = written.result()
            except VideoError as error:
                console.print(f"left out: {error}", style="yellow")
            bar.update(done)
    tell_damaged({str(folder): _lost(folder) for folder in first if (folder / DAMAGED).is_file()})
    _write_list(config, videos, folders, np.array([counts.get(folder, 0) for folder in folders]))


def _lost(folder: Path) -> str:
    return f"{folder}: {(folder / DAMAGED).read_text(encoding='utf-8').strip()}"


def _write_list(config: FramesConfig, videos: VideoList, folders: list[Path], counts: np.ndarray) -> None:
    kept = np.flatnonzero(counts)
    if not len(kept):
        raise UserError(f"{videos.source}: not one of its videos could be read.")
    names = [str(folders[place].relative_to(config.out)) for place in kept]
    part = replace(videos.part(kept, config.out), paths=names, frames=counts[kept])
    write_list(config.out / LIST, part)
    what = many(counts.sum(), "pair of flow", "pairs of flow") if config.flow else many(counts.sum(), "frame")
    lost = f", {len(videos) - len(kept)} left out" if len(kept) < len(videos) else ""
    console.print(f"{config.out / LIST}: {many(len(kept), 'folder')}, {what}{lost}")
