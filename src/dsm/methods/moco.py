"""``moco``: the baseline. Standard augmentation, no disturbance, no intra-video negative.

A clip is pulled towards the same frames augmented anew, seen by a momentum encoder, and pushed
from other videos: a queue of earlier keys, the rest of the batch, or both (MoCo, He et al. 2020).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from dsm.disturb.views import View
from dsm.errors import UserError
from dsm.methods.contrast import info_nce
from dsm.methods.momentum import MomentumTwin, Queue, ramped
from dsm.methods.step import StepOutput, margin_metrics
from dsm.models.heads import Embedder, HeadKind


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

    def __post_init__(self) -> None:
        if min(self.dim, self.queue + 1) < 1 or self.temperature <= 0 or not 0 <= self.momentum <= 1:
            raise UserError(
                "dim must be at least 1, queue at least 0, temperature above 0, momentum from 0 to 1."
            )
        if self.queue == 0 and not self.in_batch:
            raise UserError("queue 0 and no in-batch: nothing to push from; allow one of the two.")


class Moco(nn.Module):
    """See the module's text."""

    views = (View("anchor"), View("positive"))

    def __init__(self, encoder: nn.Module, config: MocoConfig) -> None:
        super().__init__()
        self.config = config
        self.query = Embedder(encoder, config.dim, config.head)
        self.key = MomentumTwin(self.query)
        self.queue = Queue(config.queue, config.dim)

    def forward(self, views: dict[str, Tensor]) -> StepOutput:
        c = self.config
        anchor = self.query(views["anchor"])  # (B, D)
        positive = self.key(views["positive"])  # (B, D), no gradient
        loss = info_nce(
            anchor, positive, temperature=c.temperature, queue=self.queue.current(), in_batch=c.in_batch
        )
        return StepOutput(loss, margin_metrics(anchor, positive, None), keys=positive)

    def after_step(self, output: StepOutput, progress: float) -> None:
        c = self.config
        self.key.follow(self.query, ramped(c.momentum, progress) if c.ramp else c.momentum)
        if output.keys is not None:
            self.queue.push(output.keys)
