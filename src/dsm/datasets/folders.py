"""Folders as people have them: what of them is data, and how they are laid out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dsm.files import is_hidden
from dsm.notes import many, note, some

PARTS = {
    "train": ("train", "training", "trainset", "train_set"),
    "val": ("val", "valid", "validation", "validate", "dev"),
    "test": ("test", "testing", "testset", "test_set"),
}
"""What folders are called that are parts of a data set, and no classes."""


@dataclass
class NotTaken:
    """What of a folder is not taken, counted as it is met."""

    folder: Path
    hidden: list[str] = field(default_factory=list)
    """Files and folders, relative to the folder; of a folder not what it holds."""
    others: Counter[str] = field(default_factory=Counter)
    """Files by their ending."""

    def tell(self) -> None:
        """Say how much that is."""
        if self.hidden:
            several = "hidden or system files and folders"
            note(
                f"{self.folder}: left out "
                f"{many(len(self.hidden), 'hidden or system file or folder', several)}: "
                f"{some(sorted(self.hidden))}"
            )
        if self.others:
            kinds = [f"{count} {ending or 'without ending'}" for ending, count in self.others.most_common()]
            what = many(self.others.total(), "file that is no video", "files that are no videos")
            note(f"{self.folder}: left out {what}: {some(kinds, 8)}")


def walk_with_links(
    folder: Path, not_taken: NotTaken | None = None
) -> Iterator[tuple[str, list[str], list[str]]]:
    """As `os.walk`, through links to folders too, into each folder once, past what is hidden."""
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
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
    """``train``, ``val`` or ``test``, where a folder is called so, or like it."""
    return next((part for part, names in PARTS.items() if name.lower() in names), None)


def find_parts(folder: Path, found: Sequence[Path]) -> dict[str, str]:
    """The first sub-folders of videos by the part that each is, where all are parts with folders in them.

    Where only some are called so, or such folders lie in those of classes, that is told.
    """
    tops = sorted({path.relative_to(folder).parts[0] for path in found if path.parent != folder})
    parts = {name: part for name in tops if (part := part_of(name))}
    deep = all(len(path.relative_to(folder).parts) > 2 for path in found)
    if parts and len(parts) == len(tops) == len(set(parts.values())) and deep:
        return parts
    if parts:
        note(
            f"{folder}: {some(list(parts))} may be parts of a data set rather than classes; where they are, "
            f"make a list of each: `dsm data index {folder / next(iter(parts))} --out …`"
        )
    elif tops:
        inner = {
            path.relative_to(folder).parts[1] for path in found if len(path.relative_to(folder).parts) > 2
        }
        if inner and all(map(part_of, inner)) and deep:
            note(
                f"{folder}: its classes hold {some(sorted(inner))}, which are all in this one list; "
                f"`dsm data split LIST --group-regex '/({'|'.join(sorted(inner))})/'` keeps them apart."
            )
        elif len(tops) == 1 and len(inner) > 1 and deep:
            note(
                f"{folder}: has but one class, '{tops[0]}'; where the classes are the folders in it, "
                f"index {folder / tops[0]}."
            )
    return {}
