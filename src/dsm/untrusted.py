"""Untrusted text and JSON: limited in size and depth, with the fields of JSON checked against type hints."""

from __future__ import annotations

import json
import os
import stat
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

from dsm.limits import JSON_BYTES, JSON_DEPTH, TEXT_BYTES

Kind = TypeVar("Kind")
LARGEST = 1e300
"""Larger integers are refused: they do not fit into a float, so arithmetic on them may fail."""


def open_ordinary(file: Path) -> int:
    """Open a file for reading, without waiting: a pipe would wait for a writer, and a device may have no end.

    Returns:
        Its descriptor.

    Raises:
        OSError: it cannot be read. ValueError: it is a pipe, a device or a folder.
    """
    descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise ValueError("is not an ordinary file")


def read_text(
    file: Path,
    *,
    most: int = TEXT_BYTES,
    encoding: str = "utf-8",
    errors: str = "strict",
    newline: str | None = None,
) -> str:
    """The text of a file of at most ``most`` bytes; ``encoding`` and the like are those of ``open``.

    Raises:
        OSError: it cannot be read.
        ValueError: it is longer, not an ordinary file, or not text in this encoding.
    """
    with open(open_ordinary(file), encoding=encoding, errors=errors, newline=newline) as opened:
        if os.fstat(opened.fileno()).st_size > most:
            raise ValueError(f"has more than {most} bytes")
        return opened.read()


def parse_json(text: str, *, most: int = JSON_BYTES) -> Any:
    """The value of a JSON text of at most ``most`` characters and :data:`~dsm.limits.JSON_DEPTH` levels.

    Raises:
        ValueError: it is not JSON, or too long, or nested too deeply.
    """
    if len(text) > most:
        raise ValueError(f"more than {most} characters of JSON")
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None
    except json.JSONDecodeError:
        raise
    except ValueError:  # Python reads no number of more than 4300 digits
        raise ValueError("a number of thousands of digits") from None
    if "\\ud" in text or "\\uD" in text:  # perhaps a lone surrogate, which no file can store
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except (RecursionError, UnicodeEncodeError):
            raise ValueError("JSON with half a character") from None
    level: list[Any] = [value]
    for _ in range(JSON_DEPTH):
        inner = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, _NESTS)]
        if not inner:
            return value
        level = [one for some in inner for one in some if isinstance(one, _NESTS)]
    if level:
        raise ValueError("JSON that is nested too deeply")
    return value


_NESTS = (dict, list)


def read_json(file: Path, *, most: int = JSON_BYTES) -> Any:
    """The value of a JSON file; see :func:`parse_json`.

    Raises:
        OSError: it cannot be read. ValueError: it is not JSON, or is too long or nested too deeply.
    """
    return parse_json(read_text(file, most=most), most=most)


def is_number(value: Any) -> bool:
    """Whether arithmetic can take the value: any float, also infinite or NaN, or an int within its range."""
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) <= LARGEST
    return isinstance(value, float)


def checked(value: Any, kind: type[Kind], name: str = "it") -> Kind:
    """A JSON value as a type hint describes it.

    Args:
        kind: a dataclass, which is built from an object of its fields; a ``TypedDict``, whose known fields
            are checked and whose other fields are kept; or a type of plain values, lists and dicts.
        name: name of the value in errors.

    Raises:
        ValueError: a field is missing, unknown (of a dataclass), or of another type.
    """
    found: Kind = _checked(value, kind, name)
    return found


def _checked(value: Any, hint: Any, name: str) -> Any:
    origin, inside = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if is_typeddict(hint) or is_dataclass(hint):
        return _fields_checked(value, hint, name)
    if origin in (Union, types.UnionType):
        for one in inside:
            try:
                return _checked(value, one, name)
            except ValueError:
                continue
        raise ValueError(f"{name} is {brief(value)}")
    good = False
    if origin is Literal:
        good = isinstance(value, (str, int)) and value in inside
    elif origin is list:
        if isinstance(value, list):
            return [_checked(one, inside[0], f"one of {name}") for one in value]
    elif origin is dict:
        if isinstance(value, dict):
            return {key: _checked(one, inside[1], f"{name} {key!r}"[:100]) for key, one in value.items()}
    elif hint in (int, float):
        good = is_number(value) and (hint is float or isinstance(value, int))
    elif hint in (None, type(None)):
        good = value is None
    else:
        good = isinstance(value, hint)
    if not good:
        raise ValueError(f"{name} is {brief(value)}")
    return value


def _fields_checked(value: Any, kind: Any, name: str) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} is {brief(value)}")
    hints, needed = _fields(kind)
    if missing := [one for one in needed if one not in value]:
        raise ValueError(f"{name} has no {missing[0]}")
    found = {key: _checked(value[key], hint, key) for key, hint in hints.items() if key in value}
    if is_dataclass(kind):
        if unknown := [key for key in value if key not in hints]:
            raise ValueError(f"{name} has an unknown {unknown[0]!r}"[:200])
        return kind(**found)  # type: ignore[operator]
    return {**value, **found}


@cache
def _fields(kind: Any) -> tuple[dict[str, Any], frozenset[str]]:
    """The hints of a dataclass or TypedDict, and the names of the fields that it must have."""
    hints = get_type_hints(kind)
    if is_dataclass(kind):
        given = {one.name for one in fields(kind) if one.default is one.default_factory is MISSING}
        return hints, frozenset(given)
    return hints, kind.__required_keys__


def brief(value: Any) -> str:
    """A short description of a value: the value if it is plain, otherwise its kind."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    text = repr(value) if not isinstance(value, int) or abs(value) < LARGEST else "a huge number"
    return text if len(text) <= 40 else f"{text[:40]}…"
