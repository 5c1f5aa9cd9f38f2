"""dsm: motion-aware video encoders from unlabelled video.

``dsm.load_encoder``, ``dsm.read_clip`` and ``dsm.create_model`` are the way in from Python; they are
imported when first used, so that ``import dsm`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dsm.version import __version__

if TYPE_CHECKING:
    from dsm import disturb
    from dsm.models.weights import load_encoder
    from dsm.models.zoo import create_model
    from dsm.video.decode import read_clip

_PLACES = {
    "create_model": "dsm.models.zoo",
    "load_encoder": "dsm.models.weights",
    "read_clip": "dsm.video.decode",
}

__all__ = ["__version__", "create_model", "disturb", "load_encoder", "read_clip"]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    if name == "disturb":
        return importlib.import_module("dsm.disturb")
    raise AttributeError(f"module 'dsm' has no attribute '{name}'")
