"""What ``places.py`` trains: `moco` and `dsm` in the settings between which it chooses.

Every candidate is a method with one setting for all places. Compute is counted in passes over a clip: a
forward pass is one, a backward pass two. A step of `dsm` shows three views of each video to the encoder, with
gradients: nine passes. A candidate for `moco` takes as many more steps as makes its passes the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dsm.demo import AUGMENT
from dsm.disturb.spatial_mix import SpatialMix
from dsm.disturb.temporal import TemporalMix
from dsm.methods.settings import PLUS, DsmConfig, MethodSettings, MocoConfig
from dsm.views import Augment


@dataclass(frozen=True)
class Candidate:
    """A method and its settings."""

    method: str
    settings: MethodSettings = field(default_factory=MethodSettings)
    augment: Augment = AUGMENT
    longer: float = 1.0
    """Times the steps of the others."""


SLD = SpatialMix(smooth=1, exchange=1, strength=0.5, mixing_strength=1.0, together=True)
MIXED = DsmConfig(
    joint=True,
    sld=SLD,
    sld_on="both",
    tld=TemporalMix(shift=0, speed=0),
    look="redrawn",
    negatives=1,
    motion_weight=1.0,
)
"""The scene bent and exchanged in both clips, and a separate loss for clips whose motion is broken."""
JOINT = MocoConfig(joint=True)
PASSES, JOINT_PASSES, TWIN_PASSES = 9, 6, 4
"""Of `dsm`; of `moco` with both views in one batch; and with a momentum encoder, which needs no gradient."""


def _moco(
    config: MocoConfig = JOINT, passes: int = JOINT_PASSES, jitter: float = AUGMENT.jitter
) -> Candidate:
    settings, augment = MethodSettings(moco=config), replace(AUGMENT, jitter=jitter)
    return Candidate("moco", settings, augment, PASSES / passes)


def _dsm(config: DsmConfig = MIXED, jitter: float = AUGMENT.jitter) -> Candidate:
    return Candidate("dsm", MethodSettings(dsm=config), replace(AUGMENT, jitter=jitter))


MOCO = {
    "moco": _moco(),
    "moco-plain": _moco(jitter=0.0),
    "moco-twin": _moco(replace(JOINT, joint=False), TWIN_PASSES),
    "moco-symmetric": _moco(replace(JOINT, symmetric=True)),
    "moco-colours": _moco(jitter=1.0),
}
DSM = {
    "dsm": _dsm(),
    "dsm-bend": _dsm(replace(MIXED, sld=SpatialMix(strength=0.5), sld_on="anchor", look="own")),
    "dsm-exchange": _dsm(replace(MIXED, sld=SpatialMix.only("exchange"))),
    "dsm-either": _dsm(replace(MIXED, sld=SpatialMix(smooth=1, exchange=1, strength=0.75))),
    "dsm-one-softmax": _dsm(replace(MIXED, motion_weight=0.0)),
    "dsm-plain": _dsm(jitter=0.0),
}
OTHERS = {
    "moco-steps": replace(MOCO["moco"], longer=1.0),
    "scene-only": _dsm(replace(MIXED, negatives=0)),
    "dsm-plus": _dsm(PLUS),
}
"""Not chosen among: `moco` for as many steps as `dsm`; `dsm` without its motion-broken negatives; and the
settings that were chosen on two of the places alone."""
CANDIDATES: Mapping[str, Candidate] = {**MOCO, **DSM, **OTHERS}
FAMILIES: Mapping[str, Mapping[str, Candidate]] = {"moco": MOCO, "dsm": DSM}
"""Of each method, the candidates that a search chooses among."""
