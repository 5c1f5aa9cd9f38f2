"""The one exception for mistakes a user can mend: a wrong flag, path, list or file."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

USER_ERROR = 2
"""What a command that ends with a :class:`UserError` exits with."""


class UserError(Exception):
    """One clear sentence: what is wrong, where, and what to do. The command exits with code 2."""


def nearest(name: str, known: Iterable[str]) -> str:
    """'; did you mean 'x'?' with the known names nearest to one, or all of them where none is near."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.65)
    if close:
        return "; did you mean " + " or ".join(f"'{one}'" for one in close) + "?"
    return "; known are " + ", ".join(names)
