"""``dsm data frames``: videos -> folders of JPEG frames, and a list of them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from dsm.data.classes import carry_classes
from dsm.data.lists import VideoList, needed, read_list, write_list
from dsm.errors import UserError
from dsm.runs.bad_videos import tell_damaged
from dsm.runs.claims import claim_by_settings
from dsm.runs.copies import checked_url, send_files
from dsm.runs.folder import lasting
from dsm.settings import takes_settings
from dsm.terminal import many, progress, warn
from dsm.verbs.result import ListResult
from dsm.verbs.settings.data import FramesConfig
from dsm.video.source import VideoError
from dsm.video.write import DAMAGED, folders_for, write_frames
from dsm.workers import side_by_side

LIST = "list.txt"
MARKER = "frames.json"


@takes_settings(FramesConfig)
def frames(config: FramesConfig) -> ListResult:
    """Write the frames of every video to a folder of its own, and a list of these folders.

    Videos that cannot be read are named and left out.
    """
    if config.copy_to:
        checked_url(config.copy_to)
    videos = read_list(config.videos, config.root)
    folders = [config.out / place for place in folders_for(videos.paths)]
    first = dict(zip(folders, videos.paths, strict=True))
    for folder, path in first.items():
        if above := next((one for one in folder.parents if one in first), None):
            raise UserError(
                f"{path} and {first[above]}: frames of the first would be written into {above}, the folder "
                "of the second; rename one of the videos."
            )
    # Frames of another size, or of flow, must not be taken for the ones asked for.
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
    # A video listed twice is written once.
    jobs = {folder: (videos.file(place), folder) for place, folder in enumerate(folders)}
    with progress("writing frames", len(jobs)) as bar:
        for done, (folder, written) in enumerate(side_by_side(write, jobs, config.workers), start=1):
            try:
                counts[folder] = written.result()
            except VideoError as error:
                warn(f"left out: {error}")
            bar.update(done)
    tell_damaged({str(folder): _lost(folder) for folder in first if (folder / DAMAGED).is_file()})
    result = _write_list(config, videos, folders, np.array([counts.get(folder, 0) for folder in folders]))
    if config.copy_to:
        send_files([config.out], config.out, config.copy_to)
    return result


def _lost(folder: Path) -> str:
    return f"{folder}: {(folder / DAMAGED).read_text(encoding='utf-8').strip()}"


def _write_list(
    config: FramesConfig, videos: VideoList, folders: list[Path], counts: np.ndarray
) -> ListResult:
    kept = np.flatnonzero(counts)
    if not len(kept):
        raise UserError(f"{videos.source}: none of its videos can be read.")
    names = [str(folders[place].relative_to(config.out)) for place in kept]
    file = config.out / LIST
    written = write_list(file, replace(videos.part(kept, config.out), paths=names, frames=counts[kept]))
    pair = ("pair of flow", "pairs of flow") if config.flow else ("frame",)
    left_out = f", {len(videos) - len(kept)} left out" if len(kept) < len(videos) else ""
    line = f"{file}: {many(len(kept), 'folder')}, {many(counts.sum(), *pair)}{left_out}"
    return ListResult(files=[file], lines=[line], lists=[written])
