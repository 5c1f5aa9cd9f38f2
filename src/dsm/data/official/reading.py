"""Reads the official annotation files of a data set, and makes the checks common to all data sets.

To add a data set, write a function from the folder of its files to
:class:`~dsm.data.official.files.Official`, name it in :data:`READERS`, and declare what is published in
:data:`~dsm.data.official.OFFICIAL`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from dsm.data.list_format import MAX_NUMBER, UNKNOWN, UNLABELLED
from dsm.data.official import OFFICIAL, classic, long_videos, motions, subsets
from dsm.data.official.files import Entry, Official
from dsm.errors import UserError, has_control
from dsm.terminal import many, note

READERS: dict[str, Callable[[Path], Official]] = {
    "ucf101": classic.ucf101,
    "hmdb51": classic.hmdb51,
    "kinetics": classic.kinetics,
    "mimetics": classic.mimetics,
    "something-something-v1": motions.something_something_v1,
    "something-something-v2": motions.something_something_v2,
    "jester": motions.jester,
    "diving48": classic.diving48,
    "gym99": long_videos.gym99,
    "gym288": long_videos.gym288,
    "fx-s1": long_videos.fx_s1,
    "ub-s1": long_videos.ub_s1,
    "severe-ucf101": subsets.severe_ucf101,
    "severe-gym99": subsets.severe_gym99,
    "epic-kitchens-100": long_videos.epic_kitchens_100,
    "ucf-crime": long_videos.ucf_crime,
}
"""Readers of annotation files, by the name of the data set."""


def read_official(name: str, folder: Path) -> Official:
    """The contents of a data set's official annotation files, with the published counts.

    Notes videos that are twice in a list, or in both training and test.

    Args:
        name: a key of :data:`~dsm.data.official.OFFICIAL`. folder: of the annotation files.

    Raises:
        UserError: a file is not as documented.
    """
    try:
        found = READERS[name](folder)
        _check(name, folder, found)
    except UserError as error:
        where = f"the official files of {name}: {OFFICIAL[name].source}"
        raise UserError(f"{str(error).removesuffix('.')} ({where}).") from None
    _tell_repeated(folder, found.lists)
    return replace(found, published={**OFFICIAL[name].published, **found.published})


def _check(name: str, folder: Path, found: Official) -> None:
    """Raise UserError unless classes, labels, paths and frame counts can be those of a list."""
    if not any(found.lists.values()):
        raise UserError(f"{folder}: the annotation files of {name} name no video.")
    if odd := [one for one in found.classes if not _is_plain(one)]:
        raise UserError(f"{folder}: a class of {name} has the name {odd[0]!r}.")
    doubled = [one for one, count in Counter(found.classes).items() if count > 1]
    if doubled:
        raise UserError(f"{folder}: {name} has two classes named '{doubled[0]}'.")
    for entries in found.lists.values():
        for path, label, frames in entries:
            if not UNLABELLED <= label < len(found.classes):
                several = many(len(found.classes), "class", "classes")
                raise UserError(f"{folder}: {path} has the label {label}, but {name} has {several}.")
            if not _is_plain(path):
                raise UserError(f"{folder}: {name} has a video named {path!r}.")
            if frames != UNKNOWN and not 0 < frames <= MAX_NUMBER:
                raise UserError(f"{folder}: {path} cannot have {frames} frames.")


def _is_plain(name: str) -> bool:
    """Whether a name can be a line of a UTF-8 file."""
    encodes = name.encode("utf-8", "ignore").decode("utf-8") == name
    return bool(name.strip()) and not has_control(name) and "\n" not in name and encodes


def _tell_repeated(folder: Path, lists: dict[str, list[Entry]]) -> None:
    names = {list_name: Counter(entry.path for entry in entries) for list_name, entries in lists.items()}
    for list_name, counts in names.items():
        if twice := [path for path, count in counts.items() if count > 1]:
            what = many(len(twice), "video is", "videos are")
            note(f"{folder}: {what} in {list_name} more than once, such as {twice[0]}")
    for list_name, counts in names.items():
        tests = [list_name.replace("train", part) for part in ("test", "val")]
        for other in tests if "train" in list_name else []:
            if shared := [path for path in counts if path in names.get(other, {})]:
                what = many(len(shared), "video is", "videos are")
                note(f"{folder}: {what} in {list_name} and in {other}, such as {shared[0]}")
