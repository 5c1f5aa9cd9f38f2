"""Readers of the official annotations of Something-Something v1 and v2 and Jester, which share a format."""

from __future__ import annotations

import re
from pathlib import Path

from dsm.data.list_format import UNLABELLED
from dsm.data.official.files import Entry, Official, json_of, known, lines_of, one_of, tell_lacking
from dsm.errors import UserError


def something_something_v1(folder: Path) -> Official:
    """Something-Something v1 (Goyal et al. 2017): ``something-something-v1-*.csv``; lines ``ID;LABEL``.

    Videos are folders of frames, named by the ID.
    """
    return _of_lines(folder, "something-something-v1")


def jester(folder: Path) -> Official:
    """Jester (Materzynska et al. 2019): ``jester-v1-*.csv``, in the format of Something-Something v1."""
    return _of_lines(folder, "jester-v1")


def _of_lines(folder: Path, prefix: str) -> Official:
    classes = lines_of(folder / f"{prefix}-labels.csv")
    label_of = {name: label for label, name in enumerate(classes)}
    lists, lacking = {}, []
    for name in ("train", "validation", "test"):
        file = folder / f"{prefix}-{name}.csv"
        if not file.is_file():
            lacking.append(file.name)
            continue
        entries = []
        for line in lines_of(file):
            number, _, text = line.partition(";")
            entries.append(Entry(number, known(text, label_of, file) if text else UNLABELLED))
        lists["val" if name == "validation" else name] = entries
    tell_lacking(folder, lacking, lists)
    return Official(classes, lists)


def something_something_v2(folder: Path) -> Official:
    """Something-Something v2 (Mahdisoltani et al. 2018): ``labels.json`` (name -> number), ``train.json``,
    ``validation.json``, ``test.json``: entries with ``id`` and ``template``; test entries have no label.

    A label is an entry's ``template`` without the brackets, which ``labels.json`` omits. Videos are
    ``ID.webm``. Files may also have the names of later downloads, ``something-something-v2-train.json``;
    ``test-answers.csv`` (lines ``ID;LABEL``) labels the test.
    """

    def official(name: str) -> Path:
        return one_of(folder, name, f"something-something-v2-{name}")

    numbers = json_of(official("labels.json"), dict)
    try:
        named = sorted((int(number), name) for name, number in numbers.items())
    except (TypeError, ValueError, OverflowError):
        named = []
    if [number for number, _ in named] != list(range(len(named))) or not named:
        raise UserError(f"{official('labels.json')}: expected label names with their numbers, from 0 on.")
    classes = [name for _, name in named]
    label_of = {name: label for label, name in named}
    answers = official("test-answers.csv")
    answer = (
        dict(line.split(";", 1) for line in lines_of(answers) if ";" in line) if answers.is_file() else {}
    )
    lists, lacking = {}, []
    for name in ("train", "validation", "test"):
        file = official(f"{name}.json")
        if not file.is_file():
            lacking.append(file.name)
            continue
        entries = []
        for row in json_of(file):
            if not isinstance(row, dict) or not isinstance(row.get("id"), (str, int)):
                raise UserError(f"{file}: expected entries with id and template.")
            text = row.get("template") or answer.get(str(row["id"]), "")
            label = known(re.sub(r"[\[\]]", "", str(text)), label_of, file) if text else UNLABELLED
            entries.append(Entry(f"{row['id']}.webm", label))
        lists["val" if name == "validation" else name] = entries
    tell_lacking(folder, lacking, lists)
    return Official(classes, lists)
