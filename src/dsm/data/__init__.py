"""Lists of videos, the clips taken from them, and the verbs that make, check, split and convert lists.

``dsm.data.index(folder="videos", out="train.txt")`` does what ``dsm data index`` does.
"""

from __future__ import annotations

import importlib
from typing import Any

# The list is of a room above, but imports nothing. The verbs import this package, so they come on use.
_LISTED = importlib.import_module("dsm.cli.commands").VERBS
_VERBS = {verb.removeprefix("data "): how for verb, how in _LISTED.items() if verb.startswith("data ")}

__all__ = list(_VERBS)


def __getattr__(name: str) -> Any:
    if name in _VERBS:
        return _VERBS[name].find_function()
    raise AttributeError(f"module 'dsm.data' has no attribute '{name}'")
