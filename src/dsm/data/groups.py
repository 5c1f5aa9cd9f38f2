"""Groups: videos of a list that belong together (one source, camera, person) and must not be separated."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from dsm.errors import UserError
from dsm.files import one_spelling
from dsm.inputs import GROUPS
from dsm.intervals import remark_on
from dsm.terminal import many, note
from dsm.video.segments import without_segment

UCF101_GROUP = r"v_(\w+_g\d+)_c\d+"
"""In UCF101, clips of one group show the same people in the same place."""


def groups_of(paths: Sequence[str], regex: str) -> list[str]:
    """The group of each video: the text in the expression's first matching parentheses, or the whole match.

    Raises:
        UserError: the expression is invalid, or does not match some path.
    """
    try:
        pattern = re.compile(regex)
    except re.error as error:
        raise UserError(f"--group-regex '{regex}': not a valid regular expression ({error}).") from None
    groups = []
    for path in paths:
        match = pattern.search(path)
        if not match:
            raise UserError(
                f"{path}: is not named as in UCF101; name the groups by --groups TABLE or --group-regex."
                if regex == UCF101_GROUP
                else f"{path}: --group-regex '{regex}' finds no group in it."
            )
        # In cam(\d+)|site(\d+), only the parentheses of the matching alternative have a value.
        groups.append(next((group for group in match.groups() if group is not None), match[0]))
    return groups


def read_groups(file: str | Path, paths: Sequence[str]) -> list[str]:
    """The group of each video, from a table: a header, then one line per video, path first, group last.

    Args:
        file: ``.tsv`` (tabs) or ``.csv`` (commas), UTF-8.

    Raises:
        UserError: the file is missing or is not such a table, or a video is not in it.
    """
    file = Path(file)
    if not file.is_file():
        raise UserError(f"{file}: {GROUPS.missing}")
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            rows = list(csv.reader(opened, delimiter="," if file.suffix.lower() == ".csv" else "\t"))
    except (UnicodeDecodeError, csv.Error):
        raise UserError(f"{file}: not a UTF-8 table of paths and groups.") from None
    # A table saved on another system may encode é differently.
    group_of = {one_spelling(row[0]): row[-1] for row in rows[1:] if len(row) > 1}
    # A segment without its own line belongs to its file's group.
    named = [one_spelling(path) for path in paths]
    named = [path if path in group_of else without_segment(path) for path in named]
    missing = [path for path in named if path not in group_of]
    if missing:
        raise UserError(
            f"{file}: names no group for {missing[0]} (and {many(len(missing) - 1, 'other')}); "
            "its first column must contain the paths exactly as in the list."
        )
    return [group_of[path] for path in named]


def find_groups(paths: Sequence[str], *, file: Path | None, regex: str) -> list[str] | None:
    """Groups from a table or by a regular expression; None if neither is given."""
    if file is not None and regex:
        raise UserError("--groups and --group-regex both define groups; give only one.")
    if file is None and not regex:
        return None
    groups = read_groups(file, paths) if file is not None else groups_of(paths, regex)
    remark = remark_on(groups)
    if remark:
        note(remark)
    return groups
