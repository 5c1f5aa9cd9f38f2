"""The training methods by name. Only this module and ``settings.py`` list them."""

from __future__ import annotations

from typing import Any

from torch import nn

from dsm.methods.be import Be
from dsm.methods.dsm import Dsm
from dsm.methods.moco import Moco
from dsm.methods.settings import MethodSettings
from dsm.methods.simclr import Simclr
from dsm.methods.triplet import DsmTriplet

METHODS: dict[str, type[Any]] = {
    "dsm": Dsm,
    "dsm-triplet": DsmTriplet,
    "moco": Moco,
    "be": Be,
    "simclr": Simclr,
}
"""The class of each method, by name."""


def create_method(name: str, encoder: nn.Module, settings: MethodSettings) -> Any:
    """Build a method around an encoder, with that method's settings."""
    return METHODS[name](encoder, getattr(settings, name.replace("-", "_")))
