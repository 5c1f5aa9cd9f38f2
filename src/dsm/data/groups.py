"""Groups: videos of a list that belong together (one source, camera, person) and must not be separated."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from dsm.errors import UserError
from dsm.files import one_spelling
from dsm.inputs import GROUPS
from dsm.intervals import remark_on
from dsm.terminal import many, note, some
from dsm.untrusted import read_text
from dsm.video.segments import without_segment
from dsm.video.write import without_ending

PACKED = re.compile(r"\.tar/")
PACKED_SEGMENT = re.compile(r"_\d+(?:\.\d+)?-\d+(?:\.\d+)?$")
UCF101_GROUP = r"v_(\w+_g\d+)_c\d+"
"""UCF101's groups: clips of one group show the same people in the same place."""


def groups_of(paths: Sequence[str], regex: str) -> list[str]:
    """The group of each video: the text in the expression's first matching parentheses, or the whole match.

    Raises:
        UserError: the expression is invalid, or does not match every path.
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
                f"{path}: is not named as in UCF101; define the groups with --groups TABLE or --group-regex."
                if regex == UCF101_GROUP
                else f"{path}: --group-regex '{regex}' finds no group in it."
            )
        # In cam(\d+)|site(\d+), only the parentheses of the matching alternative have a value.
        groups.append(next((group for group in match.groups() if group is not None), match[0]))
    return groups


def read_groups(file: str | Path, paths: Sequence[str]) -> list[str]:
    """The group of each video, from a table with a header and one line per video: path first, group last.

    Args:
        file: ``.tsv`` (tabs) or ``.csv`` (commas), UTF-8.

    Raises:
        UserError: the file is missing or is not such a table, or a video is not in it, or has two groups.
    """
    file = Path(file)
    if not file.is_file():
        raise UserError(f"{file}: {GROUPS.missing}")
    try:
        text = io.StringIO(read_text(file, encoding="utf-8-sig", newline=""), newline="")
        rows = list(csv.reader(text, delimiter="," if file.suffix.lower() == ".csv" else "\t"))
    except (ValueError, csv.Error):
        raise UserError(f"{file}: must be a UTF-8 table of paths and groups.") from None
    # A table saved on another system may use another Unicode form of é.
    group_of: dict[str, str] = {}
    for row in rows[1:]:
        if len(row) > 1 and group_of.setdefault(one_spelling(row[0]), row[-1]) != row[-1]:
            raise UserError(f"{file}: gives {row[0]} two different groups; remove one of the lines.")
    named = [one_spelling(path) for path in paths]
    found, ambiguous = _match(named, group_of)
    if ambiguous:
        raise UserError(f"{file}: {ambiguous}; write longer paths that tell them apart.")
    missing = list(dict.fromkeys(path for path in named if path not in found))
    if missing:
        raise UserError(
            f"{file}: has no group for {some(missing)}; its first column must hold the paths of the list, or "
            "path endings that each match one video."
        )
    by_end = sum(path not in group_of and without_segment(path) not in group_of for path in found)
    if by_end:
        note(f"{file}: {many(by_end, 'video')} matched by the end of the path only")
    return [group_of[found[path]] for path in named]


def _match(paths: Sequence[str], group_of: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """Find the row of a table for each path: the same path, or one that ends in the other.

    So the paths of the table may start from another folder than the list's, and videos in a pack, whose names
    have no extension, are found too. If several rows match, the one that shares most folders counts.

    Returns:
        Path -> row, for the paths that have one; and a description of the first ambiguous case, if any.
    """
    by_name: dict[str, list[tuple[tuple[str, ...], str]]] = {}
    for row in group_of:
        parts = _parts(row)
        for name in {parts[-1], without_ending(parts[-1])}:
            by_name.setdefault(name, []).append((parts, row))
    found: dict[str, str] = {}
    videos: dict[str, set[tuple[str, ...]]] = {}
    unclear = ""
    for path in dict.fromkeys(paths):
        # A segment without its own line belongs to its file's group.
        exact = path if path in group_of else without_segment(path)
        if exact in group_of:
            found[path] = exact
            continue
        packed = PACKED.search(path)
        parts = _parts(path[packed.end() :] if packed else without_segment(path))
        if packed:  # a segment in a pack is named NAME_START-END
            names = [parts, (*parts[:-1], PACKED_SEGMENT.sub("", parts[-1]))]
        else:
            names = [parts]
        candidates = ((one, other, row) for one in names for other, row in by_name.get(one[-1], []))
        fits = [(_shared(one, other, bool(packed)), row) for one, other, row in candidates]
        most = max((shared for shared, _ in fits), default=0)
        best = sorted({row for shared, row in fits if shared == most})
        if not most:
            continue
        if len({group_of[row] for row in best}) > 1:
            unclear = unclear or f"{path} matches several of its rows: {some(best, 3)}"
            continue
        found[path] = best[0]
        videos.setdefault(best[0], set()).add(names[-1])
    for row, of in videos.items():
        if len(of) > 1 and not unclear:
            unclear = (
                f"its row {row} matches several videos: {some(['/'.join(parts) for parts in sorted(of)], 3)}"
            )
    return found, unclear


def _parts(path: str) -> tuple[str, ...]:
    """The folders and the name in a path, without ``..``."""
    parts = tuple(part for part in path.replace("\\", "/").split("/") if part not in ("", ".", ".."))
    return parts or (path,)


def _shared(one: tuple[str, ...], other: tuple[str, ...], packed: bool) -> int:
    """How many parts two paths share from the end, if the shorter is the end of the longer; otherwise 0."""
    if packed:
        other = (*other[:-1], without_ending(other[-1]))
    count = min(len(one), len(other))
    return count if one[-count:] == other[-count:] else 0


def find_groups(
    paths: Sequence[str], *, file: Path | None, regex: str, intervals: bool = True
) -> list[str] | None:
    """Groups from a table or by a regular expression; None if neither is given.

    Args:
        intervals: whether confidence intervals will resample them: then segments of one file are a group if
            none are given, and a warning is given if they are too few.
    """
    if file is not None and regex:
        raise UserError("--groups and --group-regex both define groups; give only one.")
    if file is not None:
        groups = read_groups(file, paths)
    elif regex:
        groups = groups_of(paths, regex)
    elif intervals:
        groups = [without_segment(path) for path in paths]
        if groups == list(paths):
            return None
    else:
        return None
    remark = remark_on(groups)
    if intervals and remark:
        note(remark)
    return groups
