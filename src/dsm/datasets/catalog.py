"""From folders to lists."""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dsm.datasets.lists import UNKNOWN, UNLABELLED, VideoList, listable, read_list
from dsm.errors import UserError
from dsm.video.decode import probe
from dsm.video.folder import is_folder
from dsm.video.series import PICTURE, pattern_of, series_in, the_one
from dsm.video.source import EXTENSIONS, VideoError, open_video

# What lies beside videos and is none.
_OTHERS = frozenset(
    (".txt", ".tsv", ".csv", ".json", ".jsonl", ".md", ".html", ".pdf", ".npz", ".npy", ".pt", ".pth",
     ".zip", ".tar", ".gz", ".jpg", ".jpeg", ".png", ".srt", ".vtt", ".xml", ".yaml", ".yml", ".py", ".sh",
     ".log")
)  # fmt: skip


@dataclass(frozen=True)
class Index:
    """What a folder holds."""

    videos: VideoList
    classes: list[str]
    """Names of the labels; empty where unlabelled."""
    left_out: list[str]
    """A sentence for each file that looks like a video and is none."""


def are_frames(names: Sequence[str]) -> bool:
    """Whether a folder that holds these files is a video: numbered pictures, and no video beside them."""
    pictures = sum(not name.startswith(".") and PICTURE.fullmatch(name) is not None for name in names)
    return pictures > 1 and not any(Path(name).suffix.lower() in EXTENSIONS - {".gif"} for name in names)


def walk_with_links(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """As `os.walk`, through links to folders too, into each folder once."""
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield place, folders, files


def find_videos(folder: str | Path, *, only_by_name: bool = True) -> list[Path]:
    """All videos below a folder, sorted: files by their ending or content, and folders of frames.

    Of a folder that holds frames of several clips each is a video of its own, ``FOLDER/PREFIX*.jpg``.

    Args:
        only_by_name: whether files whose ending says nothing must be such that FFmpeg can open.

    Raises:
        UserError: no such folder, or not one video in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder.")
    found = []
    for place, folders, files in walk_with_links(folder):
        if not folders and Path(place) != folder and are_frames(files):
            found += _clips_in(Path(place), files)
            continue
        for name in files:
            path = Path(place, name)
            suffix = path.suffix.lower()
            looks = suffix in EXTENSIONS
            if not looks and suffix not in _OTHERS and not name.startswith("."):
                looks = _opens(path) if only_by_name or not suffix else True
            if looks and path.is_file():
                found.append(path)
    if not found:
        endings = " ".join(sorted(EXTENSIONS))
        raise UserError(
            f"{folder}: holds no video; looked for files that end in {endings}, for others that FFmpeg "
            "can open, and for folders of frames."
        )
    return sorted(found)


def _clips_in(folder: Path, names: Sequence[str]) -> list[Path]:
    """The videos in a folder of frames: the folder, or each of several clips in it by its own name."""
    clips = the_one(series_in(names))
    return [folder] if len(clips) == 1 else [folder / pattern_of(one) for one in clips]


def _opens(path: Path) -> bool:
    """Whether a file is a video by its content."""
    try:
        with open_video(path):
            return True
    except VideoError:
        return False


def _binary(path: Path) -> bool:
    """Whether a file is none of text, as lists are."""
    try:
        with path.open("rb") as file:
            begin = file.read(4096)
    except OSError:
        return False
    text = begin.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF8))
    return b"\0" in begin and not text


def find_list(source: str | Path, root: str | Path | None = None) -> VideoList:
    """The videos of a list, of a folder and those below it, or of one video; only lists have labels.

    Args:
        root: put before the relative paths of a list; None for the list's own folder.

    Raises:
        UserError: there is none, or one has a name that no file of features could hold.
    """
    source = Path(source)
    is_frames = False
    if source.is_dir():
        children = list(source.iterdir())
        names = [child.name for child in children]
        is_frames = are_frames(names) and not any(child.is_dir() for child in children)
    if source.is_dir() and not is_frames:
        found, folder = find_videos(source), source
    elif is_frames:
        found, folder = _clips_in(source, names), source.parent
    elif source.suffix.lower() in EXTENSIONS or is_folder(source) or _binary(source):
        found, folder = [source], source.parent
    else:
        return read_list(source, root)
    unknown = np.full(len(found), UNKNOWN)
    paths = [listable(str(path.relative_to(folder))) for path in found]
    return VideoList(paths, np.full(len(found), UNLABELLED), unknown, folder, source=str(source))


def index_folder(
    folder: str | Path,
    found: list[Path],
    list_folder: str | Path,
    *,
    labelled: bool = True,
    classes: Sequence[str] = (),
    on_progress: Callable[[int], None] = lambda done: None,
) -> Index:
    """Make a list of videos, with their frames counted and labels from the first sub-folder.

    Args:
        found: what :func:`find_videos` found in ``folder``.
        list_folder: where the list will lie; paths are written relative to it where they can be.
        classes: the order that labels count in; empty for the sub-folders in order.

    Raises:
        UserError: labels are wanted and a video lies in no sub-folder, or in one
            that is none of ``classes``; or no file can be read.
    """
    folder, list_folder = Path(folder), Path(list_folder).absolute()
    class_of = {path: path.relative_to(folder).parts[0] for path in found} if labelled else {}
    if labelled:
        bare = [path for path in found if path.parent == folder]
        if bare:
            raise UserError(
                f"{bare[0]} lies in no sub-folder, so it has no label; sort the videos into one folder "
                "a class, or use --unlabelled."
            )
    there = sorted(set(class_of.values()))
    unknown = [name for name in there if classes and name not in classes]
    if unknown:
        raise UserError(
            f"{folder / unknown[0]}: '{unknown[0]}' is none of the {len(classes)} known classes; where "
            "labels are to be numbered anew, remove classes.txt beside the list."
        )
    classes = classes or there
    paths, labels, frames, left_out = [], [], [], []
    for done, path in enumerate(found, start=1):
        try:
            info = probe(path)
            if info.frames == 0:
                raise VideoError(f"{path}: holds no frame.")
            # Not resolved: what a link is called and where it stands is what the user meant.
            full = Path(os.path.abspath(path))
            inside = full.is_relative_to(list_folder)
            name = listable(str(full.relative_to(list_folder)) if inside else str(full))
        except UserError as error:
            left_out.append(str(error))
        else:
            paths.append(name)
            labels.append(classes.index(class_of[path]) if labelled else UNLABELLED)
            frames.append(info.frames if labelled else UNKNOWN)  # unlabelled lists are bare paths
        on_progress(done)
    if not paths:
        raise UserError(
            f"{folder}: none of its {len(found)} video files can be read; the first: {left_out[0]}"
        )
    videos = VideoList(paths, np.array(labels, np.int64), np.array(frames, np.int64), root=list_folder)
    return Index(videos, list(classes), left_out)
