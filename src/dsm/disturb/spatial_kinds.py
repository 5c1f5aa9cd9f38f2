"""The kinds of SLD by name."""

from __future__ import annotations

from typing import Any

from dsm.disturb.appearance import AddBackground, ExchangeScene, ReplaceBackground
from dsm.disturb.spatial import Affine, LocalWarp, SmoothWarp, ThinPlate

KINDS: dict[str, type[Any]] = {
    "smooth": SmoothWarp,
    "local": LocalWarp,
    "tps": ThinPlate,
    "affine": Affine,
    "background": AddBackground,
    "replace": ReplaceBackground,
    "exchange": ExchangeScene,
}
