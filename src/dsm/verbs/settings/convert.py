"""Settings of `dsm data convert`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from dsm.data.list_lines import COLUMNS
from dsm.data.official import OFFICIAL
from dsm.errors import UserError, nearest


def check_columns(text: str) -> tuple[str, ...]:
    """Names of the columns, '' for those to ignore.

    Raises:
        UserError: a name is unknown, or the columns contradict each other.
    """
    columns = tuple(name.strip().lower() for name in text.split(",")) if text else ()
    columns = tuple("" if name == "_" else name for name in columns)
    if unknown := [name for name in columns if name and name not in COLUMNS]:
        raise UserError(f"--columns: '{unknown[0]}' is none of {', '.join(COLUMNS)} and _ (ignored).")
    used = [name for name in columns if name]
    if columns and ("path" not in used or len(set(used)) < len(used) or ("start" in used) != ("end" in used)):
        raise UserError("--columns: give path, each name at most once, and start and end together.")
    if len({"label", "label1", "class"} & set(used)) > 1:
        raise UserError("--columns: give only one of label, label1 and class, and _ for the others.")
    return columns


@dataclass(frozen=True)
class ConvertConfig:
    """Settings of `dsm data convert`."""

    dataset: tyro.conf.Positional[str]
    """A list written by another tool, or a data set with official annotation files: ucf101, hmdb51, kinetics,
    something-something-v1, something-something-v2 or diving48."""
    out: Path
    """Folder for the lists and classes.txt. When a list is converted, it can also be the list to write
    (.txt)."""
    annotations: Path | None = None
    """Folder of the official annotation files."""
    columns: str = ""
    """Meaning of a list's columns, for example path,label,start,end. Known: path, label (label1 if labels
    count from 1), class (a name), frames, start and end (of a segment, in seconds), _ (ignored). By default
    detected from the content."""
    root: Path | None = None
    """Folder that relative paths of a list start from; by default the list's own."""
    videos: Path | None = None
    """Folder of the videos. Videos that are absent are named and left out of the lists."""
    overwrite: bool = False
    """Replace existing lists."""

    def __post_init__(self) -> None:
        if self.of_list:
            if self.annotations or self.videos:
                raise UserError(
                    "--annotations and --videos are for data sets; a list is converted without them."
                )
            check_columns(self.columns)
        elif self.dataset not in OFFICIAL:
            raise UserError(
                f"'{self.dataset}' is neither a list file nor a known data set"
                f"{nearest(str(self.dataset), OFFICIAL)}"
            )
        elif self.annotations is None:
            raise UserError(f"--annotations: give the folder of the official files of {self.dataset}.")
        elif self.columns or self.root:
            raise UserError("--columns and --root are for lists, not for official annotation files.")
        for folder in (self.annotations, self.videos):
            if folder and not folder.is_dir():
                raise UserError(f"{folder}: no such folder.")

    @property
    def of_list(self) -> bool:
        return self.dataset not in OFFICIAL and Path(self.dataset).is_file()
