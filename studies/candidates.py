"""The candidates of ``places.py``: settings of `moco` and `dsm` among which it chooses.

Every candidate has the same settings in all places. Compute is counted in passes over a clip: one for a
forward pass, two for a backward pass. A step of `dsm` encodes three views of each video with gradients: nine
passes. Candidates of `moco` train for more steps, so that their number of passes is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dsm.disturb.spatial_mix import SpatialMix
from dsm.methods.settings import DsmConfig, MethodSettings, MocoConfig
from dsm.views import Augment


@dataclass(frozen=True)
class Candidate:
    """A method and its settings."""

    method: str
    settings: MethodSettings = field(default_factory=MethodSettings)
    augment: Augment = field(default_factory=Augment)
    longer: float = 1.0
    """Number of steps, relative to a candidate of `dsm`."""


MIXED = DsmConfig()
"""The defaults: the loss in both directions; the scene of both clips is bent and, over half of the training,
more and more exchanged; a separate loss pushes from a clip that differs from the positive in its broken
motion alone; the embeddings of a batch have mean 0."""
PASSES, KEYS_PASSES, TWO_VIEWS_PASSES = 9, 5, 6
"""Per step of `dsm`, with gradients through all views; with a momentum encoder, which needs none, for
positive and negative; and without motion-broken negatives."""
MOCO_PASSES, JOINT_PASSES, SYMMETRIC_PASSES = 4, 6, 8
"""Per step of `moco`; of `moco` with both views in one batch, with gradients; of `moco` with the loss of both
views."""
JOINT = MocoConfig(joint=True)


def _moco(
    config: MocoConfig | None = None, passes: int = MOCO_PASSES, jitter: float = Augment.jitter
) -> Candidate:
    settings, augment = MethodSettings(moco=config or MocoConfig()), Augment(jitter=jitter)
    return Candidate("moco", settings, augment, PASSES / passes)


def _dsm(config: DsmConfig = MIXED, passes: int = PASSES) -> Candidate:
    return Candidate("dsm", MethodSettings(dsm=config), longer=PASSES / passes)


MOCO = {
    "moco": _moco(),
    "moco-bn": _moco(MocoConfig(head="mlp-bn")),
    "moco-symmetric": _moco(MocoConfig(symmetric=True), SYMMETRIC_PASSES),
    "moco-colours": _moco(jitter=1.0),
    "moco-joint": _moco(JOINT, JOINT_PASSES),
    "moco-joint-symmetric": _moco(replace(JOINT, symmetric=True), JOINT_PASSES),
    "moco-joint-plain": _moco(JOINT, JOINT_PASSES, jitter=0.0),
}
DSM = {
    "dsm": _dsm(),
    "dsm-mlp": _dsm(replace(MIXED, head="mlp")),
    "dsm-one-way": _dsm(replace(MIXED, symmetric=False, head="mlp")),
    "dsm-keys": _dsm(replace(MIXED, joint=False, symmetric=False), KEYS_PASSES),
    "dsm-at-once": _dsm(replace(MIXED, sld=replace(MIXED.sld, ramp=0.0))),
    "dsm-partly": _dsm(replace(MIXED, sld=replace(MIXED.sld, mixing_strength=0.7))),
    "dsm-redrawn": _dsm(replace(MIXED, look="redrawn")),
    "dsm-bend": _dsm(replace(MIXED, sld=SpatialMix(strength=0.5), sld_on="anchor", look="own")),
    "dsm-one-softmax": _dsm(replace(MIXED, motion_weight=0.0)),
}
OTHERS = {
    "moco-steps": replace(MOCO["moco"], longer=1.0),
    "scene-only": _dsm(replace(MIXED, negatives=0), TWO_VIEWS_PASSES),
}
"""Not for a search: `moco` for as many steps as `dsm`, and `dsm` without motion-broken negatives."""
CANDIDATES: Mapping[str, Candidate] = {**MOCO, **DSM, **OTHERS}
FAMILIES: Mapping[str, Mapping[str, Candidate]] = {"moco": MOCO, "dsm": DSM}
"""The candidates of a search, by method."""
