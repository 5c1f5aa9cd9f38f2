"""Training methods, one file each. Only this module lists them by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from dsm.methods.be import Be, BeConfig
from dsm.methods.dsm import Dsm, DsmConfig
from dsm.methods.moco import Moco, MocoConfig
from dsm.methods.simclr import Simclr, SimclrConfig
from dsm.methods.triplet import DsmTriplet, DsmTripletConfig

METHODS: dict[str, type[Any]] = {
    "dsm": Dsm,
    "dsm-triplet": DsmTriplet,
    "moco": Moco,
    "be": Be,
    "simclr": Simclr,
}
"""The class of each method, by name."""


@dataclass(frozen=True)
class MethodSettings:
    """The settings of all methods; a run uses those of its own method."""

    dsm: DsmConfig = field(default_factory=DsmConfig)
    dsm_triplet: DsmTripletConfig = field(default_factory=DsmTripletConfig)
    moco: MocoConfig = field(default_factory=MocoConfig)
    be: BeConfig = field(default_factory=BeConfig)
    simclr: SimclrConfig = field(default_factory=SimclrConfig)


def create_method(name: str, encoder: nn.Module, settings: MethodSettings) -> Any:
    """Build a method around an encoder, with that method's settings."""
    return METHODS[name](encoder, getattr(settings, name.replace("-", "_")))
