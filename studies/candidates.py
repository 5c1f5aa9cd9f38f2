"""What ``places.py`` trains: `moco` and `dsm` in the settings between which it chooses.

Every candidate is a method with one setting for all places. The first of each method is what `dsm pretrain`
does when nothing is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dsm.augment import Augment
from dsm.demo import AUGMENT
from dsm.disturb.spatial_mix import SpatialMix
from dsm.methods import MethodSettings
from dsm.methods.dsm import DsmConfig
from dsm.methods.moco import MocoConfig


@dataclass(frozen=True)
class Candidate:
    """A method and its settings."""

    method: str
    settings: MethodSettings = field(default_factory=MethodSettings)
    augment: Augment = AUGMENT
    longer: float = 1.0
    """Times the steps of the others."""


DSM_VIEWS, MOCO_VIEWS = 3, 2
"""Clips that a step shows to the encoder for each video: anchor, positive and, of `dsm`, a negative."""
SAME_COMPUTE = DSM_VIEWS / MOCO_VIEWS
"""So many times the steps, and `moco` has shown the encoder as many clips as `dsm`."""


def _moco(longer: float = SAME_COMPUTE, augment: Augment = AUGMENT, **settings: object) -> Candidate:
    moco = replace(MocoConfig(), **settings)  # type: ignore[arg-type]
    return Candidate("moco", MethodSettings(moco=moco), augment, longer)


def _dsm(**settings: object) -> Candidate:
    return Candidate("dsm", MethodSettings(dsm=replace(DsmConfig(), **settings)))  # type: ignore[arg-type]


MOCO = {
    "moco": _moco(),
    "moco-twin": _moco(joint=False),
    "moco-symmetric": _moco(symmetric=True),
    "moco-colours": _moco(augment=replace(AUGMENT, jitter=1.0)),
    "moco-plain": _moco(augment=replace(AUGMENT, jitter=0.0)),
    "moco-warm": _moco(temperature=0.2),
}
"""All as dear as `dsm`: as many clips are shown to the encoder."""
DSM = {
    "dsm": _dsm(),
    "dsm-bend": _dsm(sld=replace(DsmConfig().sld, exchange=0.0)),
    "dsm-exchange": _dsm(sld=replace(DsmConfig().sld, smooth=0.0, exchange=1.0)),
    "dsm-one-softmax": _dsm(motion_weight=0.0),
    "dsm-heavy": _dsm(motion_weight=3.0),
    "dsm-anchor-look": _dsm(look="anchor"),
}
OTHERS = {
    "moco-steps": _moco(longer=1.0),
    "scene-only": _dsm(negatives=0),
    "dsm-before": Candidate(
        "dsm",
        MethodSettings(
            dsm=DsmConfig(
                joint=False,
                sld=SpatialMix(strength=1.25),
                sld_on="anchor",
                motion_weight=0.0,
                look="anchor",
                negatives=2,
            )
        ),
    ),
}
"""Not chosen among: `moco` for as many steps as `dsm`; `dsm` without its motion-broken negatives; and `dsm`
as it was when its settings had been chosen on two of the places alone."""
CANDIDATES: Mapping[str, Candidate] = {**MOCO, **DSM, **OTHERS}
FAMILIES: Mapping[str, Mapping[str, Candidate]] = {"moco": MOCO, "dsm": DSM}
"""Of each method, the candidates that a search chooses among."""
