"""The one exception for mistakes a user can mend: a wrong flag, path, list or file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

USER_ERROR = 2
"""What a command that ends with a :class:`UserError` exits with."""


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class UserError(Exception):
    """One clear sentence: what is wrong, where, and what to do. The command exits with code 2."""

    def __str__(self) -> str:
        return without_control(super().__str__())  # it may quote a stranger's file


def sentence(error: Exception) -> str | None:
    """What to say of an error that a user can mend; None of one that nobody foresaw."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.filename:
        return f"{without_control(str(error.filename))}: {error.strerror}."
    return None


def first_line(error: Exception) -> str:
    """What a library said, for a sentence: its first line, or the kind of error where it said nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def without_control(text: str) -> str:
    """A stranger's text for a terminal, which obeys what it is sent: control characters are escaped."""
    return _CONTROL.sub(lambda match: repr(match[0])[1:-1], text)


def has_control(text: str) -> bool:
    """Whether a terminal would obey some of it rather than show it; tabs and line feeds are no matter."""
    return _CONTROL.search(text) is not None


def nearest(name: str, known: Iterable[str]) -> str:
    """'; did you mean 'x'?' with the known names nearest to one, or all of them where none is near."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.65)
    if close:
        return "; did you mean " + " or ".join(f"'{one}'" for one in close) + "?"
    return "; known are " + ", ".join(names)
