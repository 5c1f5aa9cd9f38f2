"""Finds what the columns of a list mean: from its header, its cells, and which paths exist on disk."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from dsm.errors import UserError
from dsm.files import as_spelled
from dsm.storage.objects import exists
from dsm.urls import is_url, joined
from dsm.video.decode import frame_count
from dsm.video.frame_folder import is_folder
from dsm.video.pack import in_pack
from dsm.video.sampling import evenly
from dsm.video.segments import segment_of
from dsm.video.source import EXTENSIONS, VideoError

ODD = frozenset(",;|\"'\\{[")
"""Characters that can make a path look like several fields."""
LOOKED_AT = 8
LOOKED_INTO = 4
NEAR = math.log(1.5)
"""Maximum difference between a list's and a file's frame counts, as the logarithm of their ratio."""


def names_video(text: str) -> bool:
    """Whether a path looks like that of a video."""
    segment = segment_of(text)
    text = str(segment.file) if segment else text
    name = Path(text).name  # may be a pattern for one of several clips in a folder of frames
    return Path(name).suffix.lower() in EXTENSIONS or "*." in name or in_pack(text) is not None


@dataclass
class Disk:
    """Answers, from the disk or the storage, which of a list's paths exist and how many frames they have."""

    folder: Path
    _frames: dict[str, int] = field(default_factory=dict)

    def has(self, path: str) -> bool:
        if not path or "\0" in path or len(path) > 4096:
            return False
        try:
            whole = joined(self.folder, path)
            segment, packed = segment_of(whole), in_pack(whole)
            file = segment.file if segment else packed[0] if packed else whole
            if is_url(file):
                return exists(file)
            return as_spelled(file).exists() or is_folder(file)
        except (OSError, ValueError):
            return False

    def known(self, path: str) -> int:
        """Frames of a file that was already opened; otherwise 0."""
        return self._frames.get(path, 0)

    def places(self, count: int) -> list[int]:
        """Positions among ``count`` paths whose files may have been opened."""
        return [*range(min(count, 200)), count - 1] if self._frames else []

    def frames(self, path: str) -> int:
        """Frames of a file; 0 if it cannot be read."""
        if path not in self._frames:
            try:
                self._frames[path] = frame_count(as_spelled(joined(self.folder, path)))
            except VideoError:
                self._frames[path] = 0
        return self._frames[path]

    def distance(self, paths: Sequence[str], numbers: Sequence[str]) -> float | None:
        """Difference of numbers from files' frame counts, as in :data:`NEAR`; None if no file is readable."""
        off = []
        for place in evenly(len(paths), LOOKED_INTO):
            if self.has(paths[place]) and (frames := self.frames(paths[place])):
                number = int(numbers[place])
                off.append(abs(math.log(number / frames)) if number > 0 else math.inf)
        return sum(off) / len(off) if off else None


HEADERS = {
    "path": "path file filename file_name filepath file_path video video_path videopath video_name name clip "
    "clip_path vpath frame_dir folder dir directory image_path",
    "label": "label labels label_id class_id class_index class_idx target y category_id action_id",
    "class": "class class_name classname label_name category action activity text",
    "frames": "frames num_frames nframes n_frames total_frames frame_count vlen nb_frames number_of_frames",
    "start": "start start_time time_start t_start start_sec start_seconds begin t_begin",
    "end": "end end_time time_end t_end end_sec end_seconds stop",
}
"""Header names by column meaning."""
_MEANING = {name: meaning for meaning, names in HEADERS.items() for name in names.split()}
_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)")
_SEVERAL = re.compile(r"\[?\s*\d+(\s*[,;|/+]\s*\d+)+\s*\]?")


def shown(columns: Iterable[str]) -> str:
    return ",".join(name or "_" for name in columns)


def ask(source: str, line: str, choices: Sequence[Sequence[str]], why: str) -> NoReturn:
    """Raise an error that asks the user to choose between readings of the columns."""
    commands = " or ".join(
        f"`dsm data convert {source} --columns {shown(columns)} --out NEW.txt`" for columns in choices
    )
    raise UserError(f"{source}: {why}, as in `{line[:200]}`; name the columns: {commands}.")


def several(source: str, line: str, before: str = "path") -> NoReturn:
    """Raise an error that says how to read a list with several labels per line.

    Args:
        before: the columns before the labels; empty if columns cannot be named.
    """
    convert = f"dsm data convert {source} --columns"
    remedy = (
        f"`{convert} {before},label,_ --out NEW.txt` keeps the first, with --columns {before},_ none; if "
        f"they are something else, name the columns: `{convert} path,label,start,end --out NEW.txt`"
    )
    raise UserError(
        f"{source}: has several labels per line, as in `{line[:200]}`, but dsm takes one per video; "
        f"{remedy if before else 'keep one'}."
    )


def by_header(names: Sequence[str], source: str, line: str) -> tuple[str, ...]:
    """Column meanings from the header's names."""
    words = [re.sub(r"[^a-z0-9]+", "_", name.strip().lower()).strip("_") for name in names]
    columns = [_MEANING.get(word, "") for word in words]
    if "label" in columns:
        columns = ["" if meaning == "class" else meaning for meaning in columns]
    if odd := [word for word in words if word in ("start_frame", "end_frame", "frame_start", "frame_end")]:
        raise UserError(
            f"{source}: gives segments in frames (column {odd[0]}); write start and end in seconds."
        )
    doubled = {meaning for meaning in columns if meaning and columns.count(meaning) > 1}
    if columns.count("path") != 1 or doubled or ("start" in columns) != ("end" in columns):
        guess = ["" if meaning in columns[:place] else meaning for place, meaning in enumerate(columns)]
        if "path" not in guess and "" in guess:
            guess[guess.index("")] = "path"
        ask(source, line, [guess], "its header does not name every column")
    return tuple(columns)


def is_header(cells: Sequence[str], disk: Disk) -> bool:
    """Whether a first line names columns: no field is a video, and either half of the fields are known names,
    or one is and all of three or more are words."""
    words = [re.sub(r"[^a-z0-9]+", "_", cell.strip().lower()).strip("_") for cell in cells]
    known = sum(word in _MEANING for word in words)
    enough = known * 2 >= len(words) or (len(words) > 2 and all(kind_of([cell]) == "t" for cell in cells))
    if not known or not enough or any(map(names_video, cells)):
        return False
    return not any(map(disk.has, filter(None, cells)))


def kind_of(cells: Sequence[str]) -> str:
    """The kind of some cells: i for whole numbers, f for other numbers, t for text."""
    if all(re.fullmatch(r"-?\d{1,18}", cell) for cell in cells):
        return "i"
    return "f" if all(seconds_of(cell) is not None for cell in cells) else "t"


def seconds_of(text: str) -> float | None:
    """Seconds, from a number or a clock time such as 1:02:03.5; None for anything else."""
    if clock := _CLOCK.fullmatch(text):
        return int(clock[1] or 0) * 3600 + int(clock[2]) * 60 + float(clock[3])
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def meanings(rows: list[list[str]], at: int, disk: Disk, source: str, line: str) -> tuple[str, ...]:
    """What the columns of a list without header mean; column ``at`` is the path."""
    rest = [place for place in range(len(rows[0])) if place != at]
    cells = {place: [row[place] for row in rows] for place in rest}
    kinds = "".join(kind_of(cells[place]) for place in rest)

    def named(*names: str) -> tuple[str, ...]:
        given = iter(names)
        return tuple("path" if place == at else next(given) for place in range(len(rows[0])))

    def rising(one: int, two: int) -> bool:
        pairs = zip(cells[rest[one]], cells[rest[two]], strict=True)
        return all((seconds_of(start) or 0) < (seconds_of(end) or 0) for start, end in pairs)

    paths = [row[at] for row in rows]
    off = {
        place: disk.distance(paths, cells[place])
        for place, kind in zip(rest, kinds, strict=True)
        if kind == "i"
    }
    fits = [place for place, far in off.items() if far is not None and far < NEAR]
    if kinds == "i":
        if fits and off[rest[0]] < 0.03 and int(min(cells[rest[0]], key=int)) >= LOOKED_AT:  # type: ignore[operator]
            ask(
                source,
                line,
                [named("frames"), named("label")],
                "its number may be the frame count or the label",
            )
        return named("label")
    if kinds == "t":
        if any(map(_SEVERAL.fullmatch, cells[rest[0]])):
            several(source, line)
        return named("class")
    if kinds == "ii":
        if len(fits) == 1:
            return named("frames", "label") if fits[0] == rest[0] else named("label", "frames")
        ask(source, line, [named("label", "frames"), named("frames", "label")], "has two numbers per line")
    if kinds in ("it", "ti"):
        number, word = rest if kinds == "it" else rest[::-1]
        pairs = set(zip(cells[number], cells[word], strict=True))
        label = tuple("path" if p == at else "label" if p == number else "" for p in range(len(rows[0])))
        frames = tuple(
            "path" if p == at else "frames" if p == number else "class" for p in range(len(rows[0]))
        )
        one_to_one = len(pairs) == len(set(cells[number])) == len(set(cells[word]))
        if fits and not one_to_one:
            return frames
        if not fits and one_to_one:
            return label
        ask(source, line, [label, frames], "has a number and a word per line")
    last = kinds[-2:] in ("ff", "if", "fi") and rising(-2, -1)
    first = kinds[:2] in ("ff", "if", "fi") and rising(0, 1)
    if len(kinds) == 2 and last:
        return named("start", "end")
    if len(kinds) == 3 and last and kinds[0] != "f":
        return named("class" if kinds[0] == "t" else "label", "start", "end")
    if len(kinds) == 3 and first and kinds[2] != "f":
        return named("start", "end", "class" if kinds[2] == "t" else "label")
    if set(kinds) == {"i"}:
        several(source, line, "path" if names_video(paths[0]) else "path,frames")
    ask(source, line, [named("label", *["_"] * (len(rest) - 1))], f"has {len(rest)} columns besides the path")
