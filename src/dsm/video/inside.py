"""Keeps to a folder: a video named in a file must lie inside a given folder, links followed.

A features file or a pack is not trusted, and a page with its videos may be shared.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from dsm.files import as_spelled, is_dir
from dsm.urls import is_url, shown
from dsm.video.frame_folder import is_folder
from dsm.video.pack import in_pack
from dsm.video.segments import segment_of
from dsm.video.source import VideoError


def believed(folder: Path) -> Path:
    """The folder that a features file names for its videos, if it may be used.

    Raises:
        VideoError: it is the root of the disk or the home folder, or above that: far more than videos; or a
            URL, whose host would see the requests.
    """
    if is_url(folder):
        raise VideoError(
            f"{shown(folder)}: the features name this as the folder of their videos; if you trust it, pass "
            "it with --root."
        )
    real, home = Path(os.path.realpath(folder)), Path(os.path.realpath(Path.home()))
    if home.is_relative_to(real) or real == Path(real.anchor):
        raise VideoError(
            f"{folder}: the features name this as the folder of their videos, but it contains all of {home}; "
            "pass the folder of the videos with --root."
        )
    return folder


def inside(path: Path, folder: Path) -> Path:
    """The path of a video as spelled on disk, if the video and all its files are inside a folder.

    Args:
        path: a file, a folder of frames, a video in a pack, or a segment of one; it need not exist.
        folder: links in it and in ``path`` are followed before they are compared. Both may be URLs.

    Raises:
        VideoError: it leads outside the folder.
    """
    real = Path(os.path.realpath(folder))
    spelled = as_spelled(path)
    # Compared as paths, a URL is in the current folder.
    other = is_url(path) and not is_url(folder)
    for part in _parts(spelled):
        if other or not Path(os.path.realpath(part)).is_relative_to(real):
            raise VideoError(
                f"{shown(path)} is not in {shown(folder)}, or is a link that leads out of it; pass the "
                "folder of the videos with --root, or extract the features again."
            )
    return spelled


def _parts(path: Path) -> Iterable[Path]:
    """The files read for a video: its file, its shard, or its folder and the links in it."""
    if segment := segment_of(path):
        path = Path(str(segment.file))
    if packed := in_pack(path):
        shard, _ = packed
        return (shard, shard.with_suffix(".json"))
    if is_folder(path):
        folder = path if is_dir(path) else path.parent
        links: list[Path] = []
        with suppress(OSError), os.scandir(folder) as entries:  # reading the folder reports what is wrong
            links += [Path(one.path) for one in entries if one.is_symlink()]
        return (folder, *links)
    return (path,)


def common_folder(paths: Iterable[Path]) -> Path:
    """The deepest folder that holds all of these files and folders, links followed."""
    folders: set[str] = set()
    for path in paths:
        folders |= {os.path.dirname(os.path.realpath(part)) for part in _parts(path)}  # noqa: PTH120
    return Path(os.path.commonpath(folders))
