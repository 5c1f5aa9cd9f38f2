"""Supervised training of a classifier with the whole encoder, its last stages, or the classifier alone.

It needs labels, so it is not a method of `dsm pretrain`; the trainer treats it like any other method.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsm.errors import UserError, did_you_mean
from dsm.methods.settings import ClassifyConfig
from dsm.methods.step import StepOutput
from dsm.models.heads import Classifier
from dsm.views import View


class Classify(nn.Module):
    """See the module docstring."""

    views = (View("clip"),)

    def __init__(self, encoder: nn.Module, config: ClassifyConfig, counts: Tensor) -> None:
        """``counts``: (classes,), the number of training videos of each class."""
        super().__init__()
        self.config = config
        self.query = Classifier(encoder, len(counts), config.dropout)
        # The weights have mean 1 over the training videos.
        weights = counts.sum() / ((counts > 0).sum() * counts.clamp(min=1)) if config.balanced else None
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", None if weights is None else weights.float())
        children = dict(getattr(encoder, "stages", nn.Sequential()).named_children())
        self.stages = list(children)
        self.rates = _rates(children, config.stage_decay)
        if config.stage_decay < 1 and not self.stages:
            raise UserError("--stage-decay: this encoder has no stages; remove the flag.")
        self.frozen_stages: list[str] = []
        if config.train_from:
            if config.train_from not in self.stages:
                known = did_you_mean(config.train_from, self.stages) if self.stages else "; it has none"
                raise UserError(f"--train-from: the encoder has no stage '{config.train_from}'{known}")
            self.frozen_stages = self.stages[: self.stages.index(config.train_from)]
        for module in self._frozen():
            module.requires_grad_(False)

    def _frozen(self) -> list[nn.Module]:
        # Look them up each time: with several processes, BatchNorms are replaced by other modules.
        encoder = self.query.encoder
        if self.config.linear_probe:
            return [encoder]
        return [encoder.stages.get_submodule(name) for name in self.frozen_stages]  # type: ignore[union-attr]

    def train(self, mode: bool = True) -> Classify:
        """Keep frozen stages in evaluation mode: their BatchNorms neither learn nor use batch statistics."""
        super().train(mode)
        for module in self._frozen():
            module.eval()
        return self

    def rate(self, name: str) -> float:
        """Share of the learning rate at which a parameter is trained."""
        _, staged, inside = name.partition(".stages.")
        if not staged or self.config.stage_decay == 1:
            return 1.0
        return self.rates[inside.split(".")[0]]

    def forward(self, views: dict[str, Tensor]) -> StepOutput:
        clip, label = views["clip"], views["label"]
        other, share = label, 1.0
        if self.config.mixup and self.training:
            share = float(torch.distributions.Beta(self.config.mixup, self.config.mixup).sample())
            order = torch.randperm(len(clip), device=clip.device)
            clip, other = torch.lerp(clip[order], clip, share), label[order]
        logits = self.query(clip)  # (B, classes)
        loss = share * self._loss(logits, label)
        if share < 1:
            loss = loss + (1 - share) * self._loss(logits, other)
        answer = logits.detach().argmax(1)
        right = share * (answer == label).float() + (1 - share) * (answer == other).float()
        top1 = right.mean()
        return StepOutput(loss, metrics={"top1": top1})

    def _loss(self, logits: Tensor, label: Tensor) -> Tensor:
        # Weight each clip by its class. Passed to cross_entropy, the weights would also scale the smoothing
        # targets, and the rarest classes would get nearly all of them.
        losses = F.cross_entropy(logits, label, label_smoothing=self.config.label_smoothing, reduction="none")
        if self.class_weights is not None:
            losses = losses * self.class_weights[label]
        # A mean over clips, not over weights, so that the mean over parts or processes is that of the batch.
        return losses.mean()

    def after_step(self, keys: Tensor | None, progress: float) -> None:
        """Do nothing."""


def _rates(stages: dict[str, nn.Module], decay: float) -> dict[str, float]:
    """Each stage's share of the learning rate: ``decay`` to the power of its distance from the classifier."""
    has_weights = [any(weight.ndim > 1 for weight in stage.parameters()) for stage in stages.values()]
    distances = {name: sum(has_weights[place + 1 :]) + 1 for place, name in enumerate(stages)}
    return {name: float(decay**distance) for name, distance in distances.items()}
