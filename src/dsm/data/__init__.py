"""Lists of videos, the clips taken from them, and the verbs that make, check, split and convert lists.

``dsm.data.index(folder="videos", out="train.txt")`` does what ``dsm data index`` does.
"""

from __future__ import annotations

from typing import Any

from dsm.commands import VERBS

# The modules of the verbs import this package, so they are imported on use.
_VERBS = {verb.removeprefix("data "): how for verb, how in VERBS.items() if verb.startswith("data ")}

__all__ = list(_VERBS)


def __getattr__(name: str) -> Any:
    if name in _VERBS:
        return _VERBS[name].find_function()
    raise AttributeError(f"module 'dsm.data' has no attribute '{name}'")
