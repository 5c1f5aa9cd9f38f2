"""``dsm data index``: a folder of videos -> a list."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dsm.data.classes import CLASSES, read_classes, write_classes
from dsm.data.folders import find_parts, find_videos, index_folder
from dsm.data.list_format import LIST_ENDINGS
from dsm.data.lists import write_list
from dsm.runs.claims import claim_files
from dsm.settings import takes_settings
from dsm.terminal import many, progress, some, warn
from dsm.verbs.result import ListResult
from dsm.verbs.settings.data import IndexConfig


@takes_settings(IndexConfig)
def index(config: IndexConfig) -> ListResult:
    """Write a list of the videos in a folder and, with labels, ``classes.txt`` beside it.

    Videos that cannot be read are named and left out. If the folder consists of train and val (or test) with
    class folders inside, each gets its own list.
    """
    claim_files(config.out, overwrite=config.overwrite)
    list_folder = config.out.parent
    list_folder.mkdir(parents=True, exist_ok=True)
    lines = []
    # A second list beside the first (test beside train) must number its classes the same way.
    classes = [] if config.unlabelled else read_classes(list_folder)
    if classes:
        lines.append(f"labels as in {list_folder / CLASSES}")
    paths = find_videos(config.folder)
    parts = {} if config.unlabelled else find_parts(config.folder, paths)
    ending = config.out.suffix if config.out.suffix in LIST_ENDINGS else ""
    stem = config.out.name.removesuffix(ending)
    files = {name: config.out.with_name(f"{stem}_{part}{ending}") for name, part in parts.items()}
    claim_files(*files.values(), overwrite=config.overwrite)
    with progress("reading videos", len(paths)) as bar:
        indexed = index_folder(
            config.folder, paths, list_folder,
            labelled=not config.unlabelled, classes=classes, level=1 if parts else 0, workers=config.workers,
            on_progress=bar.update,
        )  # fmt: skip
    for reason in indexed.left_out:
        warn(f"left out: {reason}")
    if indexed.empty:
        warn(f"folders without a readable video: {some(indexed.empty)}")
    if indexed.classes:
        write_classes(list_folder, indexed.classes)
    if parts:
        lines.append(f"{config.folder}: {some(list(parts))} are parts of one data set; each gets a list:")
    kinds = f", {many(len(indexed.classes), 'class', 'classes')}" if indexed.classes else ", unlabelled"
    lists = []
    for name, file in (files or {"": config.out}).items():
        inside = [not name or path.relative_to(config.folder).parts[0] == name for path in indexed.found]
        if not any(inside):
            warn(f"{config.folder / name}: holds no readable video")
            continue
        videos = indexed.videos.part(np.flatnonzero(inside), list_folder)
        lists.append(write_list(file, videos))
        lines.append(f"{file}: {many(len(videos), 'video')}{kinds}")
    if indexed.left_out:
        lines.append(f"{many(len(indexed.left_out), 'file')} left out")
    written = [Path(videos.source) for videos in lists]
    if indexed.classes:
        written.append(list_folder / CLASSES)
    return ListResult(files=written, lines=lines, lists=lists)
