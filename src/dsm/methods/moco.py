"""``moco``: the baseline. Standard augmentation, no disturbance, no intra-video negative.

The loss pulls a clip towards another augmentation of the same frames, encoded by a momentum encoder, and
pushes it away from other videos: a queue of earlier keys, the rest of the batch, or both (MoCo, He et al.
2020). Optionally it also pushes it away from clips of the same video with broken motion; the published
baseline always did, but here this is off by default.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dsm.methods.gather import gather, rows_of_others
from dsm.methods.losses import info_nce, motion_loss
from dsm.methods.momentum import MomentumTwin, Queue, ramped
from dsm.methods.settings import MocoConfig
from dsm.methods.step import StepOutput
from dsm.models.heads import Embedder
from dsm.views import ANCHOR, POSITIVE, View, broken_motion


class Moco(nn.Module):
    """See the module docstring. Subclasses pass other views."""

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
            broken_motion(f"negative{i}", anchor, config.tld, config.look, positive)
            for i in range(config.negatives)
        )
        self.views = (anchor, positive, *broken)

    def forward(self, views: dict[str, Tensor]) -> StepOutput:
        c = self.config
        if c.joint:
            return self._forward_jointly(views)
        anchor = self.query(views["anchor"])  # (B, D)
        # One batch for all keys: with separate statistics, BatchNorm would remove what distinguishes the
        # negatives. No gradient flows here.
        clips = [views[view.name] for view in self.views[0 if c.symmetric else 1 :]]
        keys = list(self.key(torch.cat(clips)).chunk(len(clips)))  # (B, D) each
        anchor_key = keys.pop(0) if c.symmetric else None
        positive, *broken = keys
        negatives = torch.stack(broken, dim=1) if broken else None  # (B, N, D)
        all_keys = gather(positive)  # (P B, D)
        loss = self._loss(anchor, positive, all_keys, negatives)
        if anchor_key is not None:
            back = self._loss(self.query(views["positive"]), anchor_key, gather(anchor_key), negatives)
            loss = (loss + back) / 2
        return StepOutput(loss, anchor.detach(), positive, negatives, all_keys)

    def _forward_jointly(self, views: dict[str, Tensor]) -> StepOutput:
        clips = [views[view.name] for view in self.views]
        anchor, positive, *broken = self.query(torch.cat(clips)).chunk(len(clips))  # (B, D) each
        negatives = torch.stack(broken, dim=1) if broken else None  # (B, N, D)
        all_keys = gather(positive)  # (P B, D)
        loss = self._loss(anchor, positive, all_keys, negatives)
        if self.config.symmetric:
            loss = (loss + self._loss(positive, anchor, gather(anchor), negatives)) / 2
        detached = negatives.detach() if negatives is not None else None
        return StepOutput(loss, anchor.detach(), positive.detach(), detached, all_keys.detach())

    def _loss(self, query: Tensor, key: Tensor, all_keys: Tensor, negatives: Tensor | None) -> Tensor:
        c = self.config
        sources = [self.queue.current(), rows_of_others(all_keys) if c.in_batch else None]
        other_keys = [keys for keys in sources if keys is not None]
        separate = negatives is not None and c.motion_weight > 0
        loss = info_nce(
            query,
            key,
            temperature=c.temperature,
            queue=torch.cat(other_keys) if other_keys else None,
            in_batch=c.in_batch,
            negatives=None if separate else negatives,
        )
        if negatives is None or not separate:
            return loss
        return loss + c.motion_weight * motion_loss(query, key, negatives, temperature=c.temperature)

    def after_step(self, keys: Tensor | None, progress: float) -> None:
        c = self.config
        if not c.joint:
            self.key.follow(self.query, ramped(c.momentum, progress) if c.ramp else c.momentum)
        if keys is not None:
            self.queue.push(keys)
