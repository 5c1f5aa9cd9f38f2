"""Converts the official annotation files of well-known data sets to lists and class names.

Each data set has a function from the folder of its annotation files to :class:`Official`; paths are
the data set's own names of videos, relative to the folder of videos.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from dsm.data.list_lines import UNKNOWN, UNLABELLED
from dsm.errors import UserError
from dsm.limits import ANNOTATION_BYTES
from dsm.terminal import many, note, some
from dsm.untrusted import parse_json


class Entry(NamedTuple):
    """One line of a list."""

    path: str
    label: int
    frames: int = UNKNOWN


@dataclass(frozen=True)
class Official:
    """The contents of annotation files."""

    classes: list[str]
    """Names by label."""
    lists: dict[str, list[Entry]]
    """Entries by list name: ``train1``, ``test1``, ``val``…"""
    published: dict[str, int] = field(default_factory=dict)
    """The published number of videos in each list, and of ``classes``."""


PUBLISHED: dict[str, dict[str, int]] = {
    "ucf101": {"train1": 9537, "test1": 3783, "train2": 9586, "test2": 3734, "train3": 9624, "test3": 3696,
               "classes": 101},
    "hmdb51": {"train1": 3570, "test1": 1530, "train2": 3570, "test2": 1530, "train3": 3570, "test3": 1530,
               "classes": 51},
    "something-something-v1": {"train": 86017, "val": 11522, "test": 10930, "classes": 174},
    "something-something-v2": {"train": 168913, "val": 24777, "test": 27157, "classes": 174},
    "diving48": {"train": 15027, "test": 1970, "classes": 48},
}  # fmt: skip
"""The published number of videos in each list. For Kinetics it depends on when it was downloaded."""


def ucf101(folder: Path) -> Official:
    """UCF101 (Soomro et al. 2012): ``classInd.txt``, ``trainlist01.txt``, ``testlist01.txt`` … ``03``.

    Train lists say the label, test lists do not; the first folder of a path is its class in both.
    """
    named = [line.split(maxsplit=1) for line in _lines(folder / "classInd.txt")]
    if not all(len(fields) == 2 for fields in named):
        raise UserError(f"{folder / 'classInd.txt'}: expected `number name` on each line.")
    classes = [fields[1] for fields in named]
    label_of = {name: label for label, name in enumerate(classes)}
    lists, lacking = {}, []
    for split in (1, 2, 3):
        for kind in ("train", "test"):
            file = folder / f"{kind}list{split:02}.txt"
            if not file.is_file():
                lacking.append(file.name)
                continue
            # A path ends with .avi; what follows is the label.
            paths = [line.split(".avi")[0] + ".avi" for line in _lines(file)]
            lists[f"{kind}{split}"] = [
                Entry(path, _known(path.split("/")[0], label_of, file)) for path in paths
            ]
    _tell_lacking(folder, lacking, lists)
    return Official(classes, lists, PUBLISHED["ucf101"])


def hmdb51(folder: Path) -> Official:
    """HMDB51 (Kuehne et al. 2011): ``CLASS_test_splitN.txt``, lines ``NAME 1|2|0``: train, test, unused."""
    lists: dict[str, list[Entry]] = {
        f"{kind}{split}": [] for split in (1, 2, 3) for kind in ("train", "test")
    }
    named = {}
    for file in sorted(folder.glob("*_test_split[123].txt")):
        named[file] = re.fullmatch(r"(.+)_test_split([123])\.txt", file.name)
    if not named:
        raise UserError(
            f"{folder}: contains no CLASS_test_split1.txt; give the folder of the official splits."
        )
    classes = sorted({match[1] for match in named.values() if match})
    for file, match in named.items():
        assert match is not None
        for line in _lines(file):
            name, _, part = line.rpartition(" ")
            if part not in ("0", "1", "2"):
                raise UserError(f"{file}: expected `NAME 0|1|2`, found `{line}`.")
            if part != "0":
                kind = "train" if part == "1" else "test"
                path = f"{match[1]}/{name.strip()}"
                lists[f"{kind}{match[2]}"].append(Entry(path, classes.index(match[1])))
    lacking = [f"CLASS_test_split{split}.txt" for split in (1, 2, 3) if not lists[f"train{split}"]]
    lists = {name: entries for name, entries in lists.items() if entries}
    _tell_lacking(folder, lacking, lists)
    return Official(classes, lists, PUBLISHED["hmdb51"])


def kinetics(folder: Path) -> Official:
    """Kinetics (Kay et al. 2017): csv files with ``label, youtube_id, time_start, time_end, split``.

    A clip is ``ID_000012_000022.mp4`` in a folder named after its class, the layout of the usual downloaders.
    The number of clips depends on when they were downloaded; only the classes are checked.
    """
    rows = []
    for file in sorted(folder.glob("*.csv")):
        for row in _table(file, ("youtube_id", "time_start", "time_end")):
            split = row.get("split") or file.stem.split("_")[-1]
            if not re.fullmatch(r"\w[\w-]*", split) or split in ("classes", "absent"):
                raise UserError(f"{file}: '{split}' is not the name of a split (train, validate, test).")
            rows.append((split, row))
    if not rows:
        raise UserError(f"{folder}: contains no csv file of Kinetics (train.csv, val.csv).")
    classes = sorted({row["label"] for _, row in rows if row.get("label")})
    label_of = {name: label for label, name in enumerate(classes)}
    lists: dict[str, list[Entry]] = {}
    for split, row in rows:
        try:
            start, end = round(float(row["time_start"])), round(float(row["time_end"]))
        except (ValueError, OverflowError):
            raise UserError(
                f"{folder}: time_start and time_end of {row['youtube_id']} are not numbers."
            ) from None
        name = f"{row['youtube_id']}_{start:06d}_{end:06d}.mp4"
        named = row.get("label") or ""  # the test's csv has no such column
        label = label_of.get(named, UNLABELLED)
        place = named.replace(" ", "_") if named else "unlabelled"
        lists.setdefault(split, []).append(Entry(f"{place}/{name}", label))
    known = min((400, 600, 700), key=lambda size: abs(size - len(classes)))
    return Official(classes, lists, {"classes": known})


def something_something_v1(folder: Path) -> Official:
    """Something-Something v1 (Goyal et al. 2017): ``something-something-v1-*.csv``; lines ``ID;LABEL``.

    Videos are folders of frames, named by the ID.
    """
    prefix = "something-something-v1"
    classes = _lines(folder / f"{prefix}-labels.csv")
    label_of = {name: label for label, name in enumerate(classes)}
    lists, lacking = {}, []
    for name in ("train", "validation", "test"):
        file = folder / f"{prefix}-{name}.csv"
        if not file.is_file():
            lacking.append(file.name)
            continue
        entries = []
        for line in _lines(file):
            number, _, text = line.partition(";")
            entries.append(Entry(number, _known(text, label_of, file) if text else UNLABELLED))
        lists["val" if name == "validation" else name] = entries
    _tell_lacking(folder, lacking, lists)
    return Official(classes, lists, PUBLISHED["something-something-v1"])


def something_something_v2(folder: Path) -> Official:
    """Something-Something v2 (Mahdisoltani et al. 2018): ``labels.json`` (name -> number), ``train.json``,
    ``validation.json``, ``test.json``: entries with ``id`` and ``template``; test entries have no label.

    A label is an entry's ``template`` without the brackets, which ``labels.json`` omits. Videos are
    ``ID.webm``. Files may also have the names of later downloads, ``something-something-v2-train.json``;
    ``test-answers.csv`` (lines ``ID;LABEL``) labels the test.
    """

    def official(name: str) -> Path:
        files = [folder / f"{prefix}{name}" for prefix in ("", "something-something-v2-")]
        return next((file for file in files if file.is_file()), files[0])

    numbers = _json(official("labels.json"), dict)
    try:
        named = sorted((int(number), name) for name, number in numbers.items())
    except (TypeError, ValueError):
        named = []
    if [number for number, _ in named] != list(range(len(named))) or not named:
        raise UserError(f"{official('labels.json')}: expected label names with their numbers, from 0 on.")
    classes = [name for _, name in named]
    label_of = {name: label for label, name in named}
    answers = official("test-answers.csv")
    answer = dict(line.split(";", 1) for line in _lines(answers) if ";" in line) if answers.is_file() else {}
    lists, lacking = {}, []
    for name in ("train", "validation", "test"):
        file = official(f"{name}.json")
        if not file.is_file():
            lacking.append(file.name)
            continue
        entries = []
        for row in _json(file):
            if not isinstance(row, dict) or "id" not in row:
                raise UserError(f"{file}: expected entries with id and template.")
            text = row.get("template") or answer.get(str(row["id"]), "")
            label = _known(re.sub(r"[\[\]]", "", str(text)), label_of, file) if text else UNLABELLED
            entries.append(Entry(f"{row['id']}.webm", label))
        lists["val" if name == "validation" else name] = entries
    _tell_lacking(folder, lacking, lists)
    return Official(classes, lists, PUBLISHED["something-something-v2"])


def diving48(folder: Path) -> Official:
    """Diving48 V2 (Li et al. 2018): ``Diving48_V2_train.json``, ``…_test.json``, ``Diving48_vocab.json``."""
    lists = {}
    lacking = []
    for name in ("train", "test"):
        file = folder / f"Diving48_V2_{name}.json"
        if not file.is_file():
            lacking.append(file.name)
            continue
        try:
            lists[name] = [
                Entry(f"{row['vid_name']}.mp4", int(row["label"]), int(row["end_frame"]) or UNKNOWN)
                for row in _json(file)
            ]
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{file}: expected entries with vid_name, label, end_frame.") from None
    _tell_lacking(folder, lacking, lists)
    if not any(lists.values()):
        raise UserError(f"{folder}: the annotation files of Diving48 name no video.")
    vocabulary = folder / "Diving48_vocab.json"
    count = 1 + max(entry.label for entries in lists.values() for entry in entries)
    if vocabulary.is_file():
        classes = ["+".join(row) if isinstance(row, list) else str(row) for row in _json(vocabulary)]
    else:
        classes = [f"dive{label:02}" for label in range(count)]
    return Official(classes, lists, PUBLISHED["diving48"])


OFFICIAL: dict[str, Callable[[Path], Official]] = {
    "ucf101": ucf101,
    "hmdb51": hmdb51,
    "kinetics": kinetics,
    "something-something-v1": something_something_v1,
    "something-something-v2": something_something_v2,
    "diving48": diving48,
}
"""Readers of annotation files, by the name of the data set."""


def _text(file: Path) -> str:
    if not file.is_file():
        raise UserError(f"{file}: no such annotation file.")
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        return file.read_text(encoding="latin-1")


def _lines(file: Path) -> list[str]:
    return [line.strip() for line in _text(file).splitlines() if line.strip()]


def _table(file: Path, columns: Iterable[str]) -> Iterator[dict[str, str]]:
    for number, row in enumerate(csv.DictReader(_text(file).splitlines()), start=2):
        missing = [name for name in columns if row.get(name) is None]
        if missing:
            raise UserError(f"{file}, line {number}: has no {', '.join(missing)}.")
        yield row


def _json(file: Path, kind: type = list) -> Any:
    try:
        rows = parse_json(_text(file), most=ANNOTATION_BYTES)
    except ValueError as error:
        raise UserError(f"{file}: not valid JSON ({error}).") from None
    if not isinstance(rows, kind):
        raise UserError(f"{file}: expected a JSON {'list' if kind is list else 'object'}.")
    return rows


def _tell_lacking(folder: Path, lacking: list[str], lists: dict[str, list[Entry]]) -> None:
    """Note which annotation files are missing.

    Raises:
        UserError: all are missing.
    """
    if not lists:
        raise UserError(f"{folder / lacking[0]}: no such annotation file, nor {some(lacking[1:])}.")
    if lacking:
        note(f"{folder}: missing, so not converted: {some(lacking, 6)}")


def _known(name: str, label_of: dict[str, int], file: Path) -> int:
    if name not in label_of:
        raise UserError(f"{file}: '{name}' is not one of the {many(len(label_of), 'class', 'classes')}.")
    return label_of[name]
