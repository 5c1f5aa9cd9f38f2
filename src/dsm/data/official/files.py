"""Shared by the readers of official annotation files: their result, and files of text, tables and JSON.

Annotation files are not trusted: their size is limited, any encoding is read, and a file that is not as
documented raises an error that names it.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from dsm.data.list_format import MAX_NUMBER, UNKNOWN
from dsm.errors import UserError
from dsm.files import is_hidden
from dsm.limits import ANNOTATION_BYTES
from dsm.terminal import many, note, some
from dsm.untrusted import parse_json


class Entry(NamedTuple):
    """One line of a list."""

    path: str
    """The data set's own name of the video, relative to the folder of videos; for a part of a long video, its
    segment, ``FILE#START-END``."""
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
    elsewhere: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Other names of the same clip, by path: the file cut out, or the segment of the long video, whichever is
    on disk."""


def one_of(folder: Path, *names: str) -> Path:
    """The first of several names that a file may have; the first name if there is none."""
    files = [folder / name for name in names]
    return next((file for file in files if file.is_file()), files[0])


def files_in(folder: Path, *patterns: str) -> list[Path]:
    """The files whose names match, sorted for each pattern. Not the hidden ones: a Mac may write
    ``._train.csv`` beside ``train.csv``."""
    return [file for pattern in patterns for file in sorted(folder.glob(pattern)) if not is_hidden(file.name)]


def text_of(file: Path) -> str:
    """The text of an annotation file: UTF-8, UTF-16 with a byte-order mark, or otherwise Latin-1.

    Raises:
        UserError: it is missing, or larger than any annotation file.
    """
    if not file.is_file():
        raise UserError(f"{file}: no such annotation file.")
    if file.stat().st_size > ANNOTATION_BYTES:
        raise UserError(f"{file}: has more than {ANNOTATION_BYTES} bytes, so it is not an annotation file.")
    content = file.read_bytes()
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def lines_of(file: Path) -> list[str]:
    """The non-blank lines of a file, without white space at either end."""
    return [line.strip() for line in re.split(r"[\r\n]+", text_of(file)) if line.strip()]


def table_of(file: Path, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    """The rows of a csv file whose first line names the columns.

    Args:
        columns: those that every row must have.

    Raises:
        UserError: a column is missing, or the file is not a table.
    """
    reader = csv.DictReader(io.StringIO(text_of(file), newline=""))
    try:
        if missing := [name for name in columns if name not in (reader.fieldnames or ())]:
            raise UserError(f"{file}, line 1: lacks the columns {', '.join(missing)}.")
        for number, row in enumerate(reader, start=2):
            if missing := [name for name in columns if row[name] is None]:
                raise UserError(f"{file}, line {number}: has no {', '.join(missing)}.")
            yield row
    except csv.Error as error:
        raise UserError(f"{file}: not a csv table ({error}).") from None


def json_of(file: Path, kind: type = list) -> Any:
    """The list or object in a JSON file."""
    try:
        rows = parse_json(text_of(file), most=ANNOTATION_BYTES)
    except ValueError as error:
        raise UserError(f"{file}: not valid JSON ({error}).") from None
    if not isinstance(rows, kind):
        raise UserError(f"{file}: expected a JSON {'list' if kind is list else 'object'}.")
    return rows


def tell_lacking(folder: Path, lacking: Sequence[str], lists: dict[str, list[Entry]]) -> None:
    """Note which annotation files are missing.

    Raises:
        UserError: all are missing.
    """
    if not lists:
        others = f", nor {some(list(lacking[1:]))}" if len(lacking) > 1 else ""
        raise UserError(f"{folder / lacking[0]}: no such annotation file{others}.")
    if lacking:
        note(f"{folder}: missing, so not converted: {some(list(lacking), 6)}")


def known(name: str, label_of: dict[str, int], file: Path) -> int:
    """The label of a class name.

    Raises:
        UserError: no class has the name.
    """
    if name not in label_of:
        raise UserError(f"{file}: '{name}' is not one of the {many(len(label_of), 'class', 'classes')}.")
    return label_of[name]


def whole(text: object, what: str, file: Path) -> int:
    """An integer from a cell.

    Raises:
        UserError: it is not an integer, or is larger than a list allows.
    """
    try:
        if abs(number := int(str(text))) <= MAX_NUMBER:
            return number
    except ValueError:
        pass
    raise UserError(f"{file}: the {what} '{str(text)[:80]}' is not an integer up to {MAX_NUMBER}.")


def by_number(numbered: Iterable[tuple[str, str]], file: Path) -> list[str]:
    """Names in the order of their numbers.

    Raises:
        UserError: the numbers are not 0, 1, 2 … each once.
    """
    named = sorted((whole(number, "number", file), name) for number, name in numbered)
    if not named or [number for number, _ in named] != list(range(len(named))):
        raise UserError(f"{file}: expected class numbers 0, 1, 2 …, each once.")
    return [name for _, name in named]


def names_of_labels(folder: Path) -> list[str]:
    """Class names by label, from a list of names beside the annotations, so that labels mean the same as in a
    published classifier; empty if there is none.

    Reads ``label_map*.txt`` (mmaction2) and ``classes.txt``, one name per line, and ``*labels.csv`` with the
    columns id and name (as published with Kinetics models).
    """
    files = files_in(folder, "label_map*.txt", "classes.txt", "*labels.csv")
    if len(files) > 1:
        names = some([file.name for file in files])
        raise UserError(
            f"{folder}: contains several lists of class names ({names}); keep only the right one."
        )
    for file in files:
        if file.suffix == ".txt":
            return lines_of(file)
        return by_number(((row["id"], row["name"]) for row in table_of(file, ("id", "name"))), file)
    return []
