"""``dsm data convert``: official annotation files, and lists of other tools -> lists and classes.txt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from dsm.datasets.classes import CLASSES, carry_classes, read_classes, write_classes
from dsm.datasets.folders import walk_with_links
from dsm.datasets.list_columns import COLUMNS
from dsm.datasets.lists import ENDINGS, UNLABELLED, VideoList, read_list, write_list
from dsm.datasets.official import OFFICIAL, Entry
from dsm.engine.progress import console
from dsm.engine.runfolder import claim_file
from dsm.errors import UserError, nearest
from dsm.files import one_spelling, write_text
from dsm.notes import many
from dsm.video.frames import without_ending
from dsm.video.source import EXTENSIONS

SHOWN = 5
ABSENT = "absent.txt"


@dataclass(frozen=True)
class ConvertConfig:
    """Settings of `dsm data convert`."""

    dataset: tyro.conf.Positional[str]
    """A list of another form; or the data set whose official files are to be read: ucf101, hmdb51, kinetics,
    something-something-v1, something-something-v2 or diving48."""
    out: Path
    """Folder to write lists and classes.txt to; of a list also the list to write (.txt)."""
    annotations: Path | None = None
    """Folder of the official annotation files."""
    columns: str = ""
    """What the columns of a list are, as path,label,start,end: path, label (label1 where they count from 1),
    class (a name), frames, start and end (of a segment, in seconds), _ (not used). Left out, it is found by
    looking."""
    root: Path | None = None
    """Folder put before relative paths of a list; left out, the list's own."""
    videos: Path | None = None
    """Folder of the videos: those that are not there are named, and left out of the lists."""
    overwrite: bool = False
    """Replace existing lists."""

    def __post_init__(self) -> None:
        if self.of_list:
            if self.annotations or self.videos:
                raise UserError(
                    "--annotations and --videos are for data sets; a list is converted by itself."
                )
            check_columns(self.columns)
        elif self.dataset not in OFFICIAL:
            raise UserError(
                f"'{self.dataset}' is no list that is there, and no known data set"
                f"{nearest(self.dataset, OFFICIAL)}"
            )
        elif self.annotations is None:
            raise UserError(f"--annotations: say where the official files of {self.dataset} are.")
        elif self.columns or self.root:
            raise UserError("--columns and --root are for lists; the columns of official files are known.")
        for folder in (self.annotations, self.videos):
            if folder and not folder.is_dir():
                raise UserError(f"{folder}: no such folder.")

    @property
    def of_list(self) -> bool:
        return self.dataset not in OFFICIAL and Path(self.dataset).is_file()


def check_columns(text: str) -> tuple[str, ...]:
    """The columns that are said, '' for those that are not used.

    Raises:
        UserError: they are not to be understood.
    """
    columns = tuple(name.strip().lower() for name in text.split(",")) if text else ()
    columns = tuple("" if name == "_" else name for name in columns)
    if odd := [name for name in columns if name and name not in COLUMNS]:
        raise UserError(f"--columns: '{odd[0]}' is none of {', '.join(COLUMNS)} and _ (not used).")
    used = [name for name in columns if name]
    if columns and ("path" not in used or len(set(used)) < len(used) or ("start" in used) != ("end" in used)):
        raise UserError("--columns: wants path, each name once at most, and start and end together.")
    if len({"label", "label1", "class"} & set(used)) > 1:
        raise UserError("--columns: label, label1 and class say the same; give one, and _ for the others.")
    return columns


def convert(config: ConvertConfig) -> None:
    """Convert a list, or the annotation files of a data set."""
    if config.of_list:
        _convert_list(config)
    else:
        _convert_official(config)


def _convert_list(config: ConvertConfig) -> None:
    listed = Path(config.dataset)
    out = config.out if config.out.suffix in ENDINGS else config.out / f"{listed.stem}.txt"
    claim_file(out, overwrite=config.overwrite)
    if out.absolute() == listed.absolute():
        raise UserError(f"{out}: is the list that is read; write to another.")
    # A second list beside the first (test beside train) must mean the same by a label.
    there = read_classes(out.parent)
    videos = read_list(listed, config.root, check_columns(config.columns), there or None)
    carry_classes(videos, out.parent)
    write_list(out, videos.part(np.arange(len(videos)), out.parent))
    labelled = videos.labels[videos.labels != UNLABELLED]
    kinds = many(len(np.unique(labelled)), "class", "classes") if len(labelled) else "unlabelled"
    console.print(f"{out}: {many(len(videos), 'video')}, {kinds}")


def _convert_official(config: ConvertConfig) -> None:
    """Write the lists, tell their counts beside the published ones, name what is absent."""
    assert config.annotations is not None
    official = OFFICIAL[config.dataset](config.annotations)
    files = {name: config.out / f"{name}.txt" for name in official.lists}
    for file in (*files.values(), config.out / CLASSES, config.out / ABSENT):
        claim_file(file, overwrite=config.overwrite)
    there = _by_name(config.videos) if config.videos else None
    absent: list[str] = []
    found = {
        name: entries if there is None else _found(entries, there, absent)
        for name, entries in official.lists.items()
    }
    if absent and not any(found.values()):
        raise UserError(
            f"{config.videos}: none of the {many(len(set(absent)), 'video')} that the annotations "
            "name lies there; "
            "is it the folder of the videos (--videos)?"
        )
    _count("classes", len(official.classes), official.published)
    for name, kept in found.items():
        named = len(official.lists[name])
        _count(name, named, official.published, lost=named - len(kept))
        if kept:
            write_list(files[name], _as_list(kept, config.out))
        else:
            files[name].unlink(missing_ok=True)  # of an earlier call, when there were some
    write_classes(config.out, official.classes)
    if config.videos:
        _tell_absent(config, absent)
        console.print(f"use the lists with --data.root {config.videos}")


def _as_list(entries: list[Entry], root: Path) -> VideoList:
    paths, labels, frames = zip(*entries, strict=True)
    return VideoList(list(paths), np.array(labels), np.array(frames), root)


def _by_name(folder: Path) -> dict[str, list[str]]:
    """Where the videos and lowest folders below ``folder`` are, by their name without ending."""
    there: dict[str, list[str]] = {}
    for place, folders, files in walk_with_links(folder):
        inside = Path(place).relative_to(folder)
        if not folders and place != str(folder):
            there.setdefault(one_spelling(inside.name), []).append(inside.as_posix())
        # What lies beside a video under its name (subtitles, poses, a thumbnail) is none.
        for name in files:
            if Path(name).suffix.lower() in EXTENSIONS:
                key = one_spelling(without_ending(name))
                there.setdefault(key, []).append((inside / name).as_posix())
    return there


def _found(entries: list[Entry], there: dict[str, list[str]], absent: list[str]) -> list[Entry]:
    """Those whose video is there, called as it lies there; the paths of the others go to ``absent``."""
    found = []
    for entry in entries:
        path = Path(one_spelling(entry.path))
        # A folder of frames has the name of its video without the ending.
        places = there.get(without_ending(path.name)) or there.get(path.name)
        if places is None:
            absent.append(entry.path)
        else:  # of several of the name, the one in the folder that the data set says
            best = max(reversed(places), key=lambda place: Path(place).parent.name == path.parent.name)
            found.append(entry._replace(path=best))
    return found


def _count(name: str, count: int, published: dict[str, int], lost: int = 0) -> None:
    told = f"{name}: {count}"
    if name in published:
        same = published[name] == count
        told += ", as published" if same else f", but {published[name]} are published"
    console.print(f"{told}{f', of which {lost} are absent' if lost else ''}")


def _tell_absent(config: ConvertConfig, absent: list[str]) -> None:
    if not absent:
        (config.out / ABSENT).unlink(missing_ok=True)  # of an earlier call
        return
    unique = list(dict.fromkeys(absent))
    write_text(config.out / ABSENT, "".join(f"{path}\n" for path in unique))
    shown = ", ".join(unique[:SHOWN]) + (", …" if len(unique) > SHOWN else "")
    console.print(
        f"{many(len(unique), 'video is', 'videos are')} listed but absent: {shown} "
        f"({config.out / ABSENT} names all)"
    )
