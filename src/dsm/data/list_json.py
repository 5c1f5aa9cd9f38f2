"""Reads lists in JSON: a list of objects, one object per line, or one object of labels by path."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Any

from dsm.data.list_columns import by_header, several
from dsm.errors import UserError
from dsm.limits import ANNOTATION_BYTES
from dsm.untrusted import parse_json
from dsm.video.source import EXTENSIONS

JSON = "json"
"""Stands for the separator of cells."""


def lines_of(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are neither blank nor a comment, each with its number, from 1."""
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.strip(" \r")
        if line.strip() and not line.startswith("#"):
            yield number, line


def json_columns(text: str, source: str) -> tuple[str, ...] | None:
    """What the fields of the first object mean; None if the text is not a list of objects.

    Raises:
        UserError: it is one object that holds the videos by name.
    """
    start = text.lstrip()[:1]
    if start not in ("{", "["):
        return None
    first = text.lstrip().split("\n", 1)[0].strip()
    try:
        one = _parse(text)[0] if start == "[" else _parse(first)
    except (ValueError, LookupError):
        one = _object(text)
    if not isinstance(one, dict) or not one:
        return None
    if _is_by_path(one):
        return by_header(("path", "label"), source, first)
    if all(isinstance(value, dict) for value in one.values()):
        raise UserError(
            f"{source}: is one JSON object; a JSON list must be a list of objects, or one object per line, "
            'each with the path and the label of a video, such as {"path": "v/a.mp4", "label": 0}, or one '
            'object of labels by path, such as {"v/a.mp4": 0}.'
        )
    return by_header(list(one), source, first)


def objects_of(text: str, columns: Sequence[str], source: str) -> Iterator[tuple[int, list[str]]]:
    """The values of each object, by the first object's keys, with its line number.

    Args:
        columns: what each key of the first object means; '' for an unused one.

    Raises:
        UserError: an object lacks a key, or has several labels.
    """
    names: list[str] = []
    try:
        whole = _parse(text) if text.lstrip().startswith("[") else None
        if _is_by_path(one := _object(text)):
            whole = [{"path": path, "label": label} for path, label in one.items()]
        objects = enumerate(whole, start=1) if whole is not None else (
            (number, _parse(line)) for number, line in lines_of(text)
        )  # fmt: skip
        for number, one in objects:
            # Additional keys are ignored; missing ones are an error.
            if not isinstance(one, dict) or (names and not set(names) <= set(one)):
                raise UserError(f"{source}, line {number}: expected a JSON object with {', '.join(names)}.")
            names = names or list(one)
            cells = zip(names, columns, strict=True)
            yield number, [_plain(one[name], source) if meaning else "" for name, meaning in cells]
    except ValueError as error:
        raise UserError(f"{source}: not JSON with one video per line ({error}).") from None


def _is_by_path(one: Any) -> bool:
    """Whether it is an object of labels by the paths of videos: files, or paths with a folder."""
    return (
        isinstance(one, dict)
        and len(one) > 0
        and all(isinstance(label, (int, str)) for label in one.values())
        and all("/" in path or PurePath(path).suffix.lower() in EXTENSIONS for path in one)
    )


def _parse(text: str) -> Any:
    return parse_json(text, most=ANNOTATION_BYTES)


def _plain(value: Any, source: str) -> str:
    if isinstance(value, dict) or (isinstance(value, list) and len(value) != 1):
        several(source, str(value), before="")
    value = value[0] if isinstance(value, list) else value
    return "" if value is None else str(value)


def _object(text: str) -> Any:
    try:
        return _parse(text)
    except ValueError:
        return None
