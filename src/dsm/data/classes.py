"""``classes.txt``: class names of the lists beside it, one per line, from label 0; and ``opposites.tsv``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dsm.errors import UserError, has_control
from dsm.files import write_text
from dsm.limits import TEXT_BYTES
from dsm.storage.objects import read_optional

if TYPE_CHECKING:
    from dsm.data.lists import VideoList

CLASSES = "classes.txt"
OPPOSITES = "opposites.tsv"
"""Pairs of classes that are each other's reverse or mirror image."""


class Named(NamedTuple):
    """Classes by name."""

    names: tuple[str, ...]
    """By label; empty if unknown."""
    of: str
    """The file or classifier that they come from."""


def read_classes(folder: Path) -> list[str]:
    """The names in a folder's ``classes.txt``; empty if there is no such file.

    Raises:
        UserError: a name contains a control character.
    """
    file = folder / CLASSES
    return class_lines((read_optional(file, TEXT_BYTES) or b"").decode("utf-8-sig", "replace"), file)


def class_lines(text: str, file: Path) -> list[str]:
    """Class names, one per line, from label 0; a blank line names no class.

    Args:
        file: where the text comes from, for messages.

    Raises:
        UserError: a name contains a control character.
    """
    names = [line.strip() for line in text.split("\n") if line.strip()]
    if odd := [name for name in names if has_control(name)]:
        raise UserError(f"{file}: a name contains a control character: {odd[0][:80]!r}.")
    return names


def write_classes(folder: Path, names: Iterable[str]) -> None:
    """Write the names of labels 0, 1, … to a folder's ``classes.txt``."""
    write_text(folder / CLASSES, "".join(f"{name}\n" for name in names))


def write_opposites(folder: Path, pairs: Iterable[tuple[str, str]]) -> Path:
    """Write a folder's ``opposites.tsv``: a pair of class names per line, separated by a tab."""
    write_text(folder / OPPOSITES, "".join(f"{one}\t{other}\n" for one, other in pairs))
    return folder / OPPOSITES


def names_of(videos: VideoList) -> list[str]:
    """The class names of a list: its own, or those in ``classes.txt`` beside it."""
    return list(videos.classes) or read_classes(Path(videos.source).parent)


def named(names: Sequence[str], of: str | Path) -> Named | None:
    """Classes in the form of :func:`dsm.data.lists.read_list`'s ``like``; None if they have no names.

    Args:
        of: the list or classifier that the classes belong to.
    """
    numbers = [str(number) for number in range(len(names))]
    return None if list(names) == numbers else Named(tuple(names), str(of))


def carry_classes(videos: VideoList, folder: Path) -> None:
    """Copy a list's class names to ``folder``, before a list with its labels is written there.

    Raises:
        UserError: the folder has other class names.
    """
    names, names_there = names_of(videos), read_classes(folder)
    if names and not names_there:
        write_classes(folder, names)
    elif names != names_there and (videos.labels >= 0).any():
        beside = f"not those of {videos.source}" if names else f"and {videos.source} has none"
        raise UserError(
            f"{folder / CLASSES}: has other class names, {beside}; use another folder, or remove the file."
        )


def class_names(of: VideoList | Path | None, count: int) -> list[str]:
    """Names of labels 0 to ``count`` - 1: those of a list, or in a folder's ``classes.txt``, if there are
    enough; otherwise the numbers."""
    names = read_classes(of) if isinstance(of, Path) else names_of(of) if of is not None else []
    return names[:count] if len(names) >= count else [str(number) for number in range(count)]


def check_class_names(videos: VideoList, names: Sequence[str], of: str) -> None:
    """Check that a list's labels have the same names as a classifier's, if both have names.

    Args:
        names: the classifier's class names, by label. of: the classifier's name.

    Raises:
        UserError: the list has another name for one of its labels.
    """
    own = names_of(videos)
    if list(names) == [str(number) for number in range(len(names))]:
        return  # the classifier was trained on labels without names
    for label in np.unique(videos.labels[videos.labels >= 0]).tolist():
        if label < min(len(own), len(names)) and own[label] != names[label]:
            raise UserError(
                f"{videos.source}: class {label} is '{own[label]}' according to {CLASSES} beside it, but "
                f"'{names[label]}' in {of}; number the list's labels as {of} does, or correct {CLASSES}."
            )
