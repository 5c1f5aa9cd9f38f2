"""Lists of videos, the clips taken from them, and the verbs that make, check, split and convert lists.

``dsm.data.index(folder="videos", out="train.txt")`` does what ``dsm data index`` does.
"""

from __future__ import annotations

import importlib
from typing import Any

_VERBS = {
    "check": "check",
    "convert": "convert",
    "dedup": "dedup",
    "export": "export_features",
    "features": "features",
    "frames": "frames",
    "index": "index",
    "leaks": "subset",
    "pack": "pack",
    "preview": "preview",
    "split": "subset",
    "subset": "subset",
    "synth": "synth",
}
"""The module in ``dsm/verbs`` of each verb, imported on use because it imports this package."""

__all__ = list(_VERBS)


def __getattr__(name: str) -> Any:
    if name in _VERBS:
        return getattr(importlib.import_module(f"dsm.verbs.{_VERBS[name]}"), name)
    raise AttributeError(f"module 'dsm.data' has no attribute '{name}'")
