"""The sections of docstrings, ``Args:``, ``Returns:`` and ``Raises:``, as lists on the site.

Napoleon, which Sphinx has for that, also takes what is before a colon in a sentence for a type.
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

_SECTION = re.compile(r"(Args|Returns|Raises):")
_ENTRY = re.compile(r"([\w*][\w*, ]*): (.*)")
_FIELDS = {"Args": "param", "Raises": "raises"}


def as_fields(lines: list[str]) -> list[str]:
    """A docstring's lines, its sections in reStructuredText: ``:param name: text``."""
    done: list[str] = []
    section = ""
    for line in lines:
        inside = line.startswith("    ")
        if match := _SECTION.fullmatch(line):
            section = match[1]
            done += ["", ":returns:"] if section == "Returns" else [""]
        elif section in _FIELDS and inside and (entry := _ENTRY.fullmatch(line[4:])):
            names = entry[1].replace("*", "").replace(" ", "")  # of two words, one would be the other's type
            done.append(f":{_FIELDS[section]} {names}: {entry[2]}")
        else:
            if line and not inside:
                section = ""
            done.append(line)
    return done


def process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = as_fields(lines)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", process)
    return {"parallel_read_safe": True}
