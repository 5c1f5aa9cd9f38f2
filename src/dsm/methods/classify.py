"""Supervised training of a classifier on an encoder: whole, its last stages, or nothing but the classifier.

Not among the methods of `dsm pretrain`: it wants labels. The engine trains it as it trains any other.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsm.errors import UserError, nearest
from dsm.methods.step import StepOutput
from dsm.models.heads import Classifier
from dsm.views import View


@dataclass(frozen=True)
class ClassifyConfig:
    """How a classifier is trained."""

    linear_probe: bool = False
    """Train nothing but the classifier; the encoder stays as it is."""
    train_from: str | None = None
    """Train this stage of the encoder and those after it only; a wrong name is told which there are."""
    stage_decay: float = 1.0
    """Each stage farther from the classifier trains at so many times the rate of the one after it. Pools and
    the like are no stages, and a norm on its own is part of the one before it."""
    dropout: float = 0.5
    """Share of the features left out at each step."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes."""
    balanced: bool = False
    """Weigh classes against their numbers, so that rare ones count as much."""
    mixup: float = 0.0
    """Mix pairs of clips and of their labels by shares from Beta(a, a) (Zhang et al. 2018); 0 is off."""

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1 or not 0 <= self.label_smoothing < 1:
            raise UserError("dropout and label-smoothing must be from 0 to below 1.")
        if not 0 < self.stage_decay <= 1 or self.mixup < 0:
            raise UserError("stage-decay must be above 0 and at most 1, mixup at least 0.")
        if self.linear_probe and self.train_from:
            raise UserError("--linear-probe trains no stage; leave --train-from out.")


class Classify(nn.Module):
    """See the module's text."""

    views = (View("clip"),)

    def __init__(self, encoder: nn.Module, config: ClassifyConfig, counts: Tensor) -> None:
        """``counts``: (classes,), how many training videos each class has."""
        super().__init__()
        self.config = config
        self.query = Classifier(encoder, len(counts), config.dropout)
        # Their mean over the training videos is 1.
        weights = counts.sum() / ((counts > 0).sum() * counts.clamp(min=1)) if config.balanced else None
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", None if weights is None else weights.float())
        children = dict(getattr(encoder, "stages", nn.Sequential()).named_children())
        self.stages = list(children)
        self.rates = _rates(children, config.stage_decay)
        if config.stage_decay < 1 and not self.stages:
            raise UserError("--stage-decay: this encoder has no stages; leave it out.")
        self.frozen_stages: list[str] = []
        if config.train_from:
            if config.train_from not in self.stages:
                known = nearest(config.train_from, self.stages) if self.stages else "; it has none"
                raise UserError(f"--train-from: no stage '{config.train_from}'{known}")
            self.frozen_stages = self.stages[: self.stages.index(config.train_from)]
        for module in self._frozen():
            module.requires_grad_(False)

    def _frozen(self) -> list[nn.Module]:
        # Looked up each time: several processes have other modules put in the place of BatchNorms.
        encoder = self.query.encoder
        if self.config.linear_probe:
            return [encoder]
        return [encoder.stages.get_submodule(name) for name in self.frozen_stages]  # type: ignore[union-attr]

    def train(self, mode: bool = True) -> Classify:
        """Frozen stages stay in evaluation mode: their BatchNorms neither learn nor go by the batch."""
        super().train(mode)
        for module in self._frozen():
            module.eval()
        return self

    def rate(self, name: str) -> float:
        """At what share of the learning rate a parameter is trained."""
        inside = name.removeprefix("query.encoder.stages.")
        if inside == name or self.config.stage_decay == 1:
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
        right = (logits.detach().argmax(1) == label).float().mean()
        return StepOutput(loss, metrics={"top1": right})

    def _loss(self, logits: Tensor, label: Tensor) -> Tensor:
        # Weights are of clips, by their class: given to the loss itself, they would also weigh what smoothing
        # gives to the other classes, of which the rarest would then get nearly all.
        losses = F.cross_entropy(logits, label, label_smoothing=self.config.label_smoothing, reduction="none")
        if self.class_weights is not None:
            losses = losses * self.class_weights[label]
        # A mean over clips, not over their weights: what parts of a batch, or processes, find is what all do.
        return losses.mean()

    def after_step(self, keys: Tensor | None, progress: float) -> None:
        """Nothing follows."""


def _rates(stages: dict[str, nn.Module], decay: float) -> dict[str, float]:
    """Of each stage its share of the learning rate: ``decay`` to the number of stages with weights behind."""
    weighs = [any(one.ndim > 1 for one in stage.parameters()) for stage in stages.values()]
    behind = {name: sum(weighs[place + 1 :]) + 1 for place, name in enumerate(stages)}
    return {name: float(decay**count) for name, count in behind.items()}
