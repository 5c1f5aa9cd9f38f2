"""``classes.txt``: what the labels of the lists beside it are called, a name a line, from label 0 on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from dsm.data.list_forms import Named
from dsm.data.lists import VideoList
from dsm.errors import UserError, has_control
from dsm.files import write_text

CLASSES = "classes.txt"


def read_classes(folder: Path) -> list[str]:
    """The names in a folder's ``classes.txt``; none where there is no such file.

    Raises:
        UserError: one holds a control character.
    """
    file = folder / CLASSES
    if not file.is_file():
        return []
    lines = file.read_text(encoding="utf-8", errors="replace").split("\n")
    names = [line.strip() for line in lines if line.strip()]
    if odd := [name for name in names if has_control(name)]:
        raise UserError(f"{file}: a name holds a control character: {odd[0]!r}.")
    return names


def write_classes(folder: Path, names: Iterable[str]) -> None:
    """Write the names of labels 0, 1, … to a folder's ``classes.txt``."""
    write_text(folder / CLASSES, "".join(f"{name}\n" for name in names))


def names_of(videos: VideoList) -> list[str]:
    """What the labels of a list are called: by the list itself, or by ``classes.txt`` beside it."""
    return list(videos.classes) or read_classes(Path(videos.source).parent)


def named(names: Sequence[str], of: str | Path) -> Named | None:
    """Classes as :func:`read_list` takes them for ``like``; None where they have no names.

    Args:
        of: what they are the classes of: a list, or a classifier.
    """
    numbers = [str(number) for number in range(len(names))]
    return None if list(names) == numbers else Named(tuple(names), str(of))


def carry_classes(videos: VideoList, folder: Path) -> None:
    """Take what a list's labels are called along to ``folder``, before a list of them is written there.

    Raises:
        UserError: other names lie there.
    """
    names, there = names_of(videos), read_classes(folder)
    if names and not there:
        write_classes(folder, names)
    elif names != there and videos.labelled:
        beside = f"not those beside {videos.source}" if names else f"and none lie beside {videos.source}"
        raise UserError(
            f"{folder / CLASSES}: names other classes, {beside}; write to a folder of its own, or remove it."
        )


def class_names(of: VideoList | Path | None, count: int) -> list[str]:
    """Of labels 0 to ``count`` - 1: the names of a list, or in a folder's ``classes.txt``, where it is known
    and has as many; else the numbers."""
    names = names_of(of) if isinstance(of, VideoList) else read_classes(of) if of else []
    return names[:count] if len(names) >= count else [str(number) for number in range(count)]


def check_class_names(videos: VideoList, names: Sequence[str], of: str) -> None:
    """The labels of a list must mean what a classifier means by them, where both have names.

    Args:
        names: of the classifier's classes by label. of: what it is called.

    Raises:
        UserError: ``classes.txt`` beside the list calls one of its labels otherwise.
    """
    there = names_of(videos)
    if list(names) == [str(number) for number in range(len(names))]:
        return  # it was trained on labels without names
    for label in np.unique(videos.labels[videos.labels >= 0]).tolist():
        if label < min(len(there), len(names)) and there[label] != names[label]:
            raise UserError(
                f"{videos.source}: its class {label} is '{there[label]}' by the {CLASSES} beside it, but "
                f"'{names[label]}' in {of}; number the list's labels as {of} does, or mend {CLASSES}."
            )
