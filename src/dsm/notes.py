"""What a user should know though nothing ends by it: said once, by the first of several processes."""

from __future__ import annotations

import os
import sys

from dsm.errors import without_control

_said: set[str] = set()


def note(text: str, about: str = "") -> None:
    """Say a sentence on stderr, unless it, or another ``about`` the same matter, was said before."""
    text = without_control(text)
    if (about or text) in _said or os.environ.get("RANK", "0") != "0":
        return
    _said.add(about or text)
    print(text.encode("utf-8", "backslashreplace").decode(), file=sys.stderr, flush=True)


def some(names: list[str], most: int = 5) -> str:
    """The first of many names, for a sentence."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def many(count: int, one: str, more: str = "") -> str:
    """A count and what is counted, for a sentence: `1 file`, `3 files`.

    Args:
        one: what one is called. more: what several are called; empty for ``one`` with an s.
    """
    return f"{count} {one if count == 1 else more or f'{one}s'}"
