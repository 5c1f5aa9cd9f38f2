"""Show the docstring sections ``Args:``, ``Returns:`` and ``Raises:`` as lists on the site.

Sphinx has Napoleon for that, but it also takes any text before a colon for a type.
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

_SECTION = re.compile(r"(Args|Returns|Raises):")
_ENTRY = re.compile(r"([\w*][\w*, ]*): (.*)")
_SETTING = re.compile(r"(\w+(?:=\{[^…]*…\}+)?)(?:: (.*))?")
_ARRAY = re.compile(r"[~\w.]*ndarray\[.*?dtype\[([~\w.]+)\]\]")
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
            names = entry[1].replace("*", "").replace(" ", "")  # a space would make the first name a type
            done.append(f":{_FIELDS[section]} {names}: {entry[2]}")
        else:
            if line and not inside:
                section = ""
            done.append(line)
    return done


def as_bullets(lines: list[str]) -> list[str]:
    """The docstring of a verb, with one bullet per setting, whose names may be nested."""
    start = lines.index("Args:") if "Args:" in lines else len(lines)
    done = [*as_fields(lines[:start]), ""]
    for line in lines[start + 1 :]:
        if line.startswith("        "):
            done.append("  " + line.strip())
        elif line.strip():
            if match := _SETTING.fullmatch(line.strip()):
                done.append(f"* ``{match[1]}`` {match[2] or ''}".rstrip())
        else:
            done.append("")
    return done


def process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = as_bullets(lines) if hasattr(obj, "takes_settings") else as_fields(lines)


def skip(app: Sphinx, what: str, name: str, obj: Any, skipped: bool, options: Any) -> bool | None:
    return True if name == "__new__" else None  # of named tuples, whose fields are shown anyway


def short_arrays(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, arguments: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Replace Sphinx's expansion of ``NDArray[uint8]`` by that short form."""
    return tuple(text and _ARRAY.sub(r"NDArray[\1]", text) for text in (arguments, returned))  # type: ignore[return-value]


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-process-signature", short_arrays)
    app.connect("autodoc-skip-member", skip)
    return {"parallel_read_safe": True}
