"""Makes lists from folders: finds which files are videos, and how the folder is organised."""

from __future__ import annotations

import codecs
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dsm.data.list_format import UNKNOWN, UNLABELLED
from dsm.data.lists import VideoList, listable, read_list, unlabelled
from dsm.errors import UserError
from dsm.files import is_hidden, one_spelling
from dsm.terminal import many, note, some
from dsm.untrusted import open_ordinary
from dsm.urls import is_url
from dsm.video.counting import count_all
from dsm.video.flow import PAIRS
from dsm.video.frame_folder import PICTURE, is_folder, pattern_of, series_in, the_one
from dsm.video.pack import in_pack
from dsm.video.segments import segment_of
from dsm.video.source import EXTENSIONS, VideoError, open_video

PARTS = {
    "train": ("train", "training", "trainset", "train_set"),
    "val": ("val", "valid", "validation", "validate", "dev", "eval", "evaluation"),
    "test": ("test", "testing", "testset", "test_set"),
}
"""Names of folders that hold parts of a data set rather than classes."""


@dataclass
class NotTaken:
    """Counts the files of a folder that are not used."""

    folder: Path
    hidden: list[str] = field(default_factory=list)
    """Files and folders, relative to the folder; the contents of a hidden folder are not included."""
    others: Counter[str] = field(default_factory=Counter)
    """Counts of other files by extension."""

    def tell(self) -> None:
        """Print the counts as notes."""
        if self.hidden:
            several = "hidden or system files and folders"
            note(
                f"{self.folder}: left out "
                f"{many(len(self.hidden), 'hidden or system file or folder', several)}: "
                f"{some(sorted(self.hidden))}"
            )
        if self.others:
            kinds = [f"{count} {ending or 'without ending'}" for ending, count in self.others.most_common()]
            what = many(self.others.total(), "file that is not a video", "files that are not videos")
            note(f"{self.folder}: left out {what}: {some(kinds, 8)}")


def walk_with_links(
    folder: Path, not_taken: NotTaken | None = None
) -> Iterator[tuple[str, list[str], list[str]]]:
    """Like `os.walk`, but follows links to folders, enters each folder once and skips hidden names."""
    entered: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        hidden = [name for name in (*folders, *files) if is_hidden(name)]
        if hidden:
            if not_taken:
                inside = Path(place).relative_to(folder)
                not_taken.hidden += [str(inside / name) for name in hidden]
            folders[:] = [name for name in folders if not is_hidden(name)]
            files = [name for name in files if not is_hidden(name)]
        yield place, folders, files


def sub_folders(folder: Path) -> list[str]:
    """Names of the folders in a folder that are not hidden, sorted."""
    return sorted(child.name for child in folder.iterdir() if child.is_dir() and not is_hidden(child.name))


def part_of(name: str) -> str | None:
    """``train``, ``val`` or ``test`` if a folder has such a name, as in :data:`PARTS`; otherwise None."""
    return next((part for part, names in PARTS.items() if name.lower() in names), None)


def _part_in(name: str) -> str | None:
    """Like :func:`part_of`, but other words or numbers may surround it, as in ``ucf101_train_split1``."""
    parts = {part for word in re.split(r"[\W\d_]+", name) if (part := part_of(word))}
    return part_of(name) or (parts.pop() if len(parts) == 1 else None)


def find_parts(folder: Path, videos: Sequence[Path]) -> dict[str, str]:
    """Which part each top-level folder is, if all are parts and contain folders; otherwise empty.

    Words beside a part's name, as in ``train_split1``, do not matter if all folders have such names.

    A note says if only some have names of parts, or if class folders contain such folders.
    """
    tops = sorted({path.relative_to(folder).parts[0] for path in videos if path.parent != folder})
    deep = all(len(path.relative_to(folder).parts) > 2 for path in videos)
    parts = {name: part for name in tops if (part := _part_in(name))}
    several = len(parts) > 1 or any(map(part_of, tops))  # one folder called train_station is a class
    if several and len(parts) == len(tops) == len(set(parts.values())) and deep:
        return parts
    parts = {name: part for name in tops if (part := part_of(name))}
    if parts:
        note(
            f"{folder}: {some(list(parts))} may be parts of a data set rather than classes; if so, "
            f"make a list of each: `dsm data index {folder / next(iter(parts))} --out …`"
        )
    elif tops:
        inner = {
            path.relative_to(folder).parts[1] for path in videos if len(path.relative_to(folder).parts) > 2
        }
        if inner and all(map(part_of, inner)) and deep:
            note(
                f"{folder}: its class folders contain {some(sorted(inner))}, all of them now in one list; "
                f"`dsm data split LIST --group-regex '/({'|'.join(sorted(inner))})/'` separates them."
            )
        elif len(tops) == 1 and len(inner) > 1 and deep:
            note(
                f"{folder}: has only one class, '{tops[0]}'; if the classes are the folders in it, "
                f"index {folder / tops[0]}."
            )
    return {}


# Extensions of files that are often stored beside videos.
_OTHERS = frozenset(
    (".txt", ".tsv", ".csv", ".json", ".jsonl", ".md", ".html", ".pdf", ".npz", ".npy", ".pt", ".pth",
     ".zip", ".tar", ".gz", ".jpg", ".jpeg", ".png", ".srt", ".vtt", ".xml", ".yaml", ".yml", ".py", ".sh",
     ".log")
)  # fmt: skip


@dataclass(frozen=True)
class Index:
    """The list and classes made from a folder."""

    videos: VideoList
    classes: list[str]
    """Names by label; empty if unlabelled."""
    left_out: list[str]
    """A sentence about each file that looks like a video but cannot be used."""
    found: list[Path]
    """Paths of the list's videos, as found in the folder."""
    empty: list[str]
    """Class folders without a readable video; they are not counted as classes."""


def are_frames(names: Sequence[str]) -> bool:
    """Whether a folder with these files is itself a video: numbered frames, and no video files."""
    pictures = sum(PICTURE.fullmatch(name) is not None for name in names)
    return pictures > 1 and not any(Path(name).suffix.lower() in EXTENSIONS - {".gif"} for name in names)


def find_videos(folder: str | Path, *, only_by_name: bool = True) -> list[Path]:
    """All videos below a folder, sorted: files recognised by extension or content, and folders of frames.

    If a folder has the frames of several clips, each clip is a video, ``FOLDER/PREFIX*.jpg``.

    Hidden and system files and folders are skipped; a note counts what is not used.

    Args:
        only_by_name: whether files with an unknown extension count only if FFmpeg can open them.

    Raises:
        UserError: the folder does not exist or contains no video.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder.")
    videos = []
    not_taken = NotTaken(folder)
    for place, folders, files in walk_with_links(folder, not_taken):
        if not folders and Path(place) != folder and are_frames(files):
            clips, others = _clips_in(Path(place), files)
            videos += clips
            not_taken.others.update(Path(name).suffix.lower() for name in others)
            continue
        for name in files:
            path = Path(place, name)
            suffix = path.suffix.lower()
            looks = suffix in EXTENSIONS
            if not looks and suffix not in _OTHERS:
                looks = _opens(path) if only_by_name or not suffix else True
            if looks and path.is_file():
                videos.append(path)
            else:
                not_taken.others[suffix] += 1
    not_taken.tell()
    if not videos:
        endings = " ".join(sorted(EXTENSIONS))
        raise UserError(
            f"{folder}: contains no video; looked for files ending in {endings}, other files that FFmpeg "
            "can open, and folders of frames."
        )
    return sorted(videos)


def _clips_in(folder: Path, names: Sequence[str]) -> tuple[list[Path], set[str]]:
    """The videos in a folder of frames: the folder itself, or a pattern for each of several clips.

    Returns:
        The videos, and the files that belong to none of them.
    """
    series = series_in(names)
    clips = the_one(series)
    # Saved flow is read together with the frames.
    flow = {prefix for pair in PAIRS for prefix in pair}
    taken = {name for one in series if one in clips or one.prefix in flow for name in one.names}
    return [folder] if len(clips) == 1 else [folder / pattern_of(one) for one in clips], {*names} - taken


def _opens(path: Path) -> bool:
    """Whether a file can be opened as a video."""
    try:
        with open_video(path):
            return True
    except VideoError:
        return False


def _binary(path: Path) -> bool:
    """Whether a file is binary, unlike a list."""
    try:
        with open(open_ordinary(path), "rb") as file:  # noqa: PTH123
            begin = file.read(4096)
    except (OSError, ValueError):
        return False
    text = begin.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF8))
    return b"\0" in begin and not text


def find_list(source: str | Path, root: str | Path | None = None) -> VideoList:
    """The videos of a list, of a folder and its sub-folders, or a single video; only lists have labels.

    A URL is a list or a single video, depending on its extension.

    Args:
        root: folder that a list's relative paths start from; None for the list's own folder.

    Raises:
        UserError: there is no video, or one has a name that a list cannot store.
    """
    source = Path(source)
    if is_url(source):
        ending = Path(str(source).partition("?")[0]).suffix.lower()  # a signed link has a query after it
        single = ending in EXTENSIONS or segment_of(source) or in_pack(source)
        return unlabelled([str(source)], str(source)) if single else read_list(source, root)
    is_frames = False
    if source.is_dir():
        children = [child for child in source.iterdir() if not is_hidden(child.name)]
        names = [child.name for child in children]
        is_frames = are_frames(names) and not any(child.is_dir() for child in children)
    if source.is_dir() and not is_frames:
        videos, folder = find_videos(source), source
    elif is_frames:
        not_taken = NotTaken(source)
        (videos, others), folder = _clips_in(source, names), source.parent
        not_taken.others.update(Path(name).suffix.lower() for name in others)
        not_taken.tell()
    elif source.suffix.lower() in EXTENSIONS or segment_of(source) or is_folder(source) or _binary(source):
        videos, folder = [source], source.parent
    else:
        return read_list(source, root)
    paths = [listable(str(path.relative_to(folder))) for path in videos]
    return unlabelled(paths, str(source), folder)


def index_folder(
    folder: str | Path,
    found: list[Path],
    list_folder: str | Path,
    *,
    labelled: bool = True,
    classes: Sequence[str] = (),
    level: int = 0,
    workers: int = 1,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Index:
    """Make a list of videos, with their frames counted and labels from the first sub-folder.

    Args:
        found: the videos from :func:`find_videos` in ``folder``.
        list_folder: the list's folder; paths below it are written relative to it.
        classes: names by label; empty to use the sub-folders that have a readable video, sorted.
        level: which folder of a path is the class: 0 the first below ``folder``, 1 the one in that.
        workers: processes that count frames, if there are many videos.

    Raises:
        UserError: no file can be read; or, with ``labelled``, a video is in no sub-folder or in one
            that is not in ``classes``.
    """
    folder, list_folder = Path(folder), Path(list_folder).absolute()
    # A name with accents can be encoded in two ways; both are the same class.
    known = [one_spelling(name) for name in classes]
    class_of = {path: _class_of(path, folder, level) for path in found} if labelled else {}
    if classes and (other := [path for path in found if class_of.get(path, known[0]) not in known]):
        raise UserError(
            f"{other[0]}: '{class_of[other[0]]}' is not one of the {len(classes)} known classes; "
            "to number the labels again, remove classes.txt beside the list."
        )
    kept, paths, frames, left_out = [], [], [], []
    counted = count_all(found, workers=workers, on_progress=on_progress)
    # Do not resolve links: the user chose the link's own name and place.
    top = f"{list_folder}{'' if list_folder == list_folder.parent else os.sep}"
    for path, count in zip(found, counted, strict=True):
        if isinstance(count, str):
            left_out.append(count)
            continue
        try:
            name = listable(os.path.abspath(path).removeprefix(top))
        except UserError as error:
            left_out.append(str(error))
            continue
        kept.append(path)
        paths.append(name)
        frames.append(count if labelled else UNKNOWN)  # unlabelled lists are bare paths
    if not paths:
        raise UserError(
            f"{folder}: none of its {len(found)} video files can be read; the first failure: {left_out[0]}"
        )
    used = {class_of[path] for path in kept} if labelled else set()
    known = known or sorted(used)
    labels = [known.index(class_of[path]) if labelled else UNLABELLED for path in kept]
    videos = VideoList(paths, np.array(labels, np.int64), np.array(frames, np.int64), root=list_folder)
    return Index(videos, list(classes) or known, left_out, kept, _empty_classes(folder, level, used))


def _class_of(path: Path, folder: Path, level: int) -> str:
    above = path.relative_to(folder).parts[:-1]
    if len(above) <= level:
        raise UserError(
            f"{path} is in no sub-folder, so it has no label; sort the videos into one folder "
            "per class, or use --unlabelled."
        )
    return one_spelling(above[level])


def _empty_classes(folder: Path, level: int, used: set[str]) -> list[str]:
    """Class folders without a readable video."""
    if not used:
        return []
    above = [folder / name for name in sub_folders(folder)] if level else [folder]
    return [
        str((place / name).relative_to(folder))
        for place in above
        for name in sub_folders(place)
        if one_spelling(name) not in used
    ]
