"""The settings of each method, whose code is in the file of its name.

They are apart from the code because command-line help needs them, but not torch.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from dsm.disturb.spatial_mix import SpatialMix
from dsm.disturb.temporal import TemporalMix
from dsm.errors import UserError, check_range, did_you_mean
from dsm.models.settings import HeadKind
from dsm.views import NegativeLook

SldOn = Literal["anchor", "positive", "both"]


@dataclass(frozen=True)
class MocoConfig:
    """Settings of the method `moco`."""

    temperature: float = 0.1
    """Temperature of the softmax: cosines are divided by it (the paper: 0.07)."""
    momentum: float = 0.5
    """Momentum of the key encoder: higher follows more slowly (the paper: 0.999, for long schedules)."""
    ramp: bool = True
    """Raise the momentum to 1 over the training, along a cosine."""
    dim: int = 128
    """Dimensions of the embedding in which clips are compared."""
    head: HeadKind = "mlp"
    """The projection head: `linear` as in the paper, `mlp` with BatchNorm in its hidden layer, or `mlp-bn`
    with BatchNorm after its output too, which keeps the embeddings from all becoming alike."""
    queue: int = 0
    """Number of keys of earlier clips used as negatives; old keys need a high momentum (the paper: 3569 or
    16384)."""
    in_batch: bool = True
    """Use the other clips of the batch as negatives."""
    symmetric: bool = False
    """Also pull the positive, encoded by the trained encoder, towards the anchor's key: a third more work, or
    with `joint` none."""
    joint: bool = False
    """Encode all views in one batch with the trained encoder, with gradients, as SimCLR does, instead of the
    momentum encoder. BatchNorm then sees intact and broken motion together, so small motions are learned
    sooner. Costs more time and memory."""
    negatives: int = 0
    """Motion-broken negatives per clip."""
    tld: TemporalMix = field(default_factory=TemporalMix)
    """How the negatives' motion is broken (TLD, temporal local disturbance): the weight of each kind."""
    motion_weight: float = 0.0
    """Weight of a separate loss that asks whether the positive is nearer than each motion-broken negative. 0
    puts these negatives into one softmax with the other videos, as the paper does; they then dominate the
    loss until the encoder sees motion."""
    look: NegativeLook = "anchor"
    """A negative's crop, colours and broken scene (SLD): `anchor` copies its anchor's, so that only motion
    makes the negative less like the anchor; `positive` copies the positive's, so that the two differ only in
    motion; `own`, as in the paper's code, draws its own crop and colours, without SLD; `redrawn` draws SLD
    too."""

    def __post_init__(self) -> None:
        check_range(self, "dim", least=1)
        check_range(self, "temperature", above=0)
        check_range(self, "momentum", least=0, most=1)
        check_range(self, "queue", "negatives", "motion_weight", least=0)
        if self.queue == 0 and not self.in_batch and not self.negatives:
            raise UserError(
                "with queue 0, no-in-batch and negatives 0 there are no negatives; change one of them."
            )


@dataclass(frozen=True)
class DsmConfig(MocoConfig):
    """Settings of the method `dsm`: those of `moco`, plus the disturbances.

    docs/evidence.md measures the defaults against `moco` in six different data sets. The paper's own settings
    are in its recipes (`dsm recipes`).
    """

    head: HeadKind = "mlp-bn"
    """The projection head: `linear` as in the paper, `mlp` with BatchNorm in its hidden layer, or `mlp-bn`
    with BatchNorm after its output too, which keeps the embeddings from all becoming alike while the encoder
    cannot yet recognise a clip in a broken scene."""
    symmetric: bool = True
    """Pull in both directions: also from the positive to the anchor, and push both from the clips with broken
    motion. With `joint` this costs nothing; without, a third more."""
    joint: bool = True
    """Encode all views in one batch with the trained encoder, with gradients, instead of the momentum
    encoder. BatchNorm then sees intact and broken motion together, so small motions are learned sooner. Costs
    more time and memory."""
    sld: SpatialMix = field(
        default_factory=lambda: SpatialMix(smooth=1, exchange=1, together=True, strength=0.5, ramp=0.5)
    )
    """How the scene is broken (SLD, spatial local disturbance): the weight of each kind. By default the
    picture is bent a little and, over the first half of the training, its scene is more and more exchanged
    for another video's.
    `--dsm.sld.strength 0 --dsm.sld.mixing-strength 0` leaves the scene intact."""
    sld_on: SldOn = "both"
    """Whose scene is broken (the paper's code: the anchor's)."""
    negatives: int = 1
    """Motion-broken negatives (TLD) per clip."""
    # Without shift and speed: a periodic motion remains the same motion in another window or at another pace.
    tld: TemporalMix = field(default_factory=lambda: TemporalMix(shift=0, speed=0))
    """How the negatives' motion is broken (TLD, temporal local disturbance): the weight of each kind."""
    motion_weight: float = 1.0
    """Weight of a separate loss that asks whether the positive is nearer than each motion-broken negative. 0
    puts these negatives into one softmax with the other videos, as the paper does; they then dominate the
    loss until the encoder sees motion."""
    look: NegativeLook = "positive"
    """A negative's crop, colours and broken scene (SLD): `positive` copies the positive's, so that the two
    differ only in motion; `anchor` copies its anchor's, so that only the motion makes the negative less like
    the anchor; `own`, as in the paper's code, draws its own crop and colours, without SLD; `redrawn` draws
    SLD too."""


@dataclass(frozen=True)
class DsmTripletConfig:
    """Settings of the method `dsm-triplet`."""

    margin: float = 0.5
    """How much farther than the positive the negative must be."""
    dim: int = 128
    """Dimensions of the embedding in which clips are compared."""
    head: HeadKind = "mlp"
    """The projection head: `linear` as in the paper, `mlp` or `mlp-bn` with BatchNorm."""
    sld: SpatialMix = field(default_factory=SpatialMix)
    """How the anchor's scene is broken: the weight of each kind."""
    tld: TemporalMix = field(default_factory=TemporalMix)
    """How the negative's motion is broken: the weight of each kind."""
    look: NegativeLook = "anchor"
    """A negative's crop, colours and broken scene (SLD): `anchor` copies its anchor's, so that only motion
    makes the negative less like the anchor; `positive` copies the positive's, so that the two differ only in
    motion; `own`, as in the paper's code, draws its own crop and colours, without SLD; `redrawn` draws SLD
    too."""
    joint: bool = True
    """Encode anchor, positive and negative in one batch, so that BatchNorm sees intact and broken motion
    together. Without, as in the paper's recipes, each is normalised by itself, which removes some of what
    distinguishes them."""
    intra: float = 1.0
    """Weight of the triplet with the clip's own motion-broken version."""
    inter: float = 1.0
    """Weight of the triplet with another video's version."""

    def __post_init__(self) -> None:
        check_range(self, "margin", above=0)
        check_range(self, "dim", least=1)
        check_range(self, "intra", "inter", least=0)
        if not self.intra + self.inter:
            raise UserError("dsm-triplet: intra or inter must be above 0.")


@dataclass(frozen=True)
class BeConfig(MocoConfig):
    """Settings of the method `be`: those of `moco`, plus the frame that is mixed in."""

    strength: float = 1.0
    """How much of the frame is mixed in: at 1 its share is drawn from 0.1 to 0.3."""
    consistency: float = 0.0
    """Weight of the temporal term of the paper's first version: the feature map of the positive played
    backwards should equal the anchor's, reversed in time. For RGB; costs two more passes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "consistency", least=0)


@dataclass(frozen=True)
class SimclrConfig:
    """Settings of the method `simclr`."""

    temperature: float = 0.1
    """Temperature of the softmax: cosines are divided by it."""
    dim: int = 128
    """Dimensions of the embedding in which clips are compared."""
    head: HeadKind = "mlp"
    """The projection head: `linear`, `mlp` or `mlp-bn` with BatchNorm."""

    def __post_init__(self) -> None:
        check_range(self, "dim", least=1)
        check_range(self, "temperature", above=0)


@dataclass(frozen=True)
class MethodSettings:
    """The settings of all methods; a run uses those of its own method."""

    dsm: DsmConfig = field(default_factory=DsmConfig)
    dsm_triplet: DsmTripletConfig = field(default_factory=DsmTripletConfig)
    moco: MocoConfig = field(default_factory=MocoConfig)
    be: BeConfig = field(default_factory=BeConfig)
    simclr: SimclrConfig = field(default_factory=SimclrConfig)

    def without_mixing(self) -> MethodSettings:
        """The same, but SLD mixes in no pictures where it also bends them: optical flow has no pictures."""
        methods = {one.name: getattr(self, one.name) for one in fields(self)}
        bending: dict[str, Any] = {
            name: replace(method, sld=method.sld.bending())
            for name, method in methods.items()
            if hasattr(method, "sld")
        }
        return replace(self, **bending)


def check_method(name: str) -> None:
    """Raise UserError, with the nearest names, if there is no such method."""
    # A method from outside was added to METHODS, so that module is loaded then.
    registry = sys.modules.get("dsm.methods.registry")
    names = [one.name.replace("_", "-") for one in fields(MethodSettings)]
    names += [name for name in (registry.METHODS if registry else ()) if name not in names]
    if name not in names:
        raise UserError(f"unknown method '{name}'{did_you_mean(name, names)}")


@dataclass(frozen=True)
class ClassifyConfig:
    """How a classifier is trained."""

    linear_probe: bool = False
    """Train only the classifier; the encoder is frozen."""
    train_from: str | None = None
    """Train only this stage of the encoder and those after it; an unknown name makes dsm list them."""
    stage_decay: float = 1.0
    """Learning rate of each stage relative to the next stage towards the classifier. Pooling layers do not
    count as stages; a norm on its own belongs to the stage before it."""
    dropout: float = 0.5
    """Share of the features dropped at each step."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes."""
    balanced: bool = False
    """Weight each class by the inverse of its number of videos, so that rare classes count as much."""
    mixup: float = 0.0
    """Mix pairs of clips and of their labels by shares from Beta(a, a) (Zhang et al. 2018); 0 is off."""

    def __post_init__(self) -> None:
        check_range(self, "dropout", "label_smoothing", least=0, below=1)
        check_range(self, "stage_decay", above=0, most=1)
        check_range(self, "mixup", least=0)
        if self.linear_probe and self.train_from:
            raise UserError("--linear-probe trains no stage of the encoder; drop --train-from.")
