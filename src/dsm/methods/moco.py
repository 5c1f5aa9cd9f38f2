"""``moco``: the baseline. Standard augmentation, no disturbance, no intra-video negative.

A clip is pulled towards the same frames augmented anew, seen by a momentum encoder, and pushed
from other videos: a queue of earlier keys, the rest of the batch, or both (MoCo, He et al. 2020).
Clips of the same video with their motion broken may be pushed from too; the published baseline did so
unasked, here it is a setting, and off.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from dsm.disturb.temporal import TemporalMix
from dsm.errors import UserError
from dsm.methods.gather import gather, rows_of_others
from dsm.methods.losses import info_nce, motion_loss
from dsm.methods.momentum import MomentumTwin, Queue, ramped
from dsm.methods.step import StepOutput
from dsm.models.heads import Embedder, HeadKind
from dsm.views import NegativeLook, View, broken_motion

ANCHOR, POSITIVE = View("anchor"), View("positive")


@dataclass(frozen=True)
class MocoConfig:
    """Settings of the method `moco`."""

    temperature: float = 0.1
    """What the cosines are divided by (the paper: 0.07)."""
    momentum: float = 0.5
    """How slowly the key encoder follows (the paper: 0.999, which needs a long schedule)."""
    ramp: bool = True
    """Let the momentum rise to 1 over the training, along a cosine."""
    dim: int = 128
    """Dimensions of the space in which clips are compared."""
    head: HeadKind = "mlp"
    """The projection head: `linear` as in the paper, or `mlp` with BatchNorm."""
    queue: int = 0
    """Keys of earlier clips to push from; stale keys need a high momentum (the paper: 3569 or 16384)."""
    in_batch: bool = True
    """Push from the other clips of the batch."""
    symmetric: bool = False
    """Also pull the positive, seen by the encoder in training, towards the anchor's key; a third dearer."""
    joint: bool = False
    """Show all views to the encoder itself in one batch, with gradients, as SimCLR does; the momentum encoder
    is not used. BatchNorm then sees whole and broken motion side by side: small motions are learned sooner.
    Dearer."""
    negatives: int = 0
    """Motion-broken negatives a clip."""
    tld: TemporalMix = field(default_factory=TemporalMix)
    """How the negatives' motion is broken: the weight of each kind."""
    motion_weight: float = 0.0
    """Weight of a loss in which a clip's motion-broken negatives stand alone: is the positive nearer than
    each of them? 0 puts them among the other videos, in one softmax, as the paper does: there they drown what
    is learned from other videos while motion is not yet seen."""
    look: NegativeLook = "anchor"
    """A negative's crop, colours and SLD: its anchor's, so that nothing but the motion sets the two apart;
    or, as in the paper's code, its `own` crop and colours, and no SLD."""

    def __post_init__(self) -> None:
        if min(self.dim, self.queue + 1) < 1 or self.temperature <= 0 or not 0 <= self.momentum <= 1:
            raise UserError(
                "dim must be at least 1, queue at least 0, temperature above 0, momentum from 0 to 1."
            )
        if self.negatives < 0 or not 0 <= self.motion_weight < float("inf"):
            raise UserError(
                f"negatives ({self.negatives}) and motion_weight ({self.motion_weight}) must be at least 0."
            )
        if self.queue == 0 and not self.in_batch and not self.negatives:
            raise UserError("queue 0, no in-batch and negatives 0: nothing to push from; allow one of them.")


class Moco(nn.Module):
    """See the module's text. Methods that see the clips in another way give other views."""

    def __init__(
        self,
        encoder: nn.Module,
        config: MocoConfig,
        anchor: View = ANCHOR,
        positive: View = POSITIVE,
    ) -> None:
        super().__init__()
        self.config = config
        self.query = Embedder(encoder, config.dim, config.head)
        self.key = MomentumTwin(self.query)
        self.queue = Queue(config.queue, config.dim)
        broken = (
            broken_motion(f"negative{i}", anchor, config.tld, config.look) for i in range(config.negatives)
        )
        self.views = (anchor, positive, *broken)

    def forward(self, views: dict[str, Tensor]) -> StepOutput:
        c = self.config
        if c.joint:
            return self._forward_jointly(views)
        anchor = self.query(views["anchor"])  # (B, D)
        # One batch for all keys: with statistics of their own, BatchNorm would level out what sets the
        # negatives apart. No gradient flows here.
        seen = [views[view.name] for view in self.views[0 if c.symmetric else 1 :]]
        keys = list(self.key(torch.cat(seen)).chunk(len(seen)))  # (B, D) each
        anchor_key = keys.pop(0) if c.symmetric else None
        positive, *broken = keys
        negatives = torch.stack(broken, dim=1) if broken else None  # (B, N, D)
        everyone = gather(positive)  # (P B, D)
        loss = self._loss(anchor, positive, everyone, negatives)
        if anchor_key is not None:
            back = self._loss(self.query(views["positive"]), anchor_key, gather(anchor_key), negatives)
            loss = (loss + back) / 2
        return StepOutput(loss, anchor.detach(), positive, negatives, keys=everyone)

    def _forward_jointly(self, views: dict[str, Tensor]) -> StepOutput:
        seen = [views[view.name] for view in self.views]
        anchor, positive, *broken = self.query(torch.cat(seen)).chunk(len(seen))  # (B, D) each
        negatives = torch.stack(broken, dim=1) if broken else None  # (B, N, D)
        everyone = gather(positive)  # (P B, D)
        loss = self._loss(anchor, positive, everyone, negatives)
        if self.config.symmetric:
            loss = (loss + self._loss(positive, anchor, gather(anchor), negatives)) / 2
        told = negatives.detach() if negatives is not None else None
        return StepOutput(loss, anchor.detach(), positive.detach(), told, keys=everyone.detach())

    def _loss(self, query: Tensor, key: Tensor, everyone: Tensor, negatives: Tensor | None) -> Tensor:
        c = self.config
        more = [self.queue.current(), rows_of_others(everyone) if c.in_batch else None]
        there = [keys for keys in more if keys is not None]
        apart = negatives is not None and c.motion_weight > 0
        loss = info_nce(
            query,
            key,
            temperature=c.temperature,
            queue=torch.cat(there) if there else None,
            in_batch=c.in_batch,
            negatives=None if apart else negatives,
        )
        if negatives is None or not apart:
            return loss
        return loss + c.motion_weight * motion_loss(query, key, negatives, temperature=c.temperature)

    def after_step(self, keys: Tensor | None, progress: float) -> None:
        c = self.config
        self.key.follow(self.query, ramped(c.momentum, progress) if c.ramp else c.momentum)
        if keys is not None:
            self.queue.push(keys)
