"""A training method of your own: python examples/new_method.py LIST OUT

Barlow Twins (Zbontar et al. 2021) between a clip with its scene broken and the unchanged clip.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
import tyro
from torch import Tensor, nn

from dsm.data.reading import ClipConfig
from dsm.disturb import SpatialMix, TemporalMix
from dsm.methods import METHODS, MethodSettings
from dsm.methods.gather import gather
from dsm.methods.step import StepOutput
from dsm.models.heads import Embedder
from dsm.train.config import DataConfig
from dsm.train.pretrain import PretrainConfig, pretrain
from dsm.views import View, broken_motion


@dataclass(frozen=True)
class BarlowConfig:
    redundancy: float = 0.005
    """Weight of the correlations between different dimensions."""
    dim: int = 128
    """Dimensions of the space in which clips are compared."""


class Barlow(nn.Module):
    anchor = View("anchor", spatial=SpatialMix())
    views = (anchor, View("positive"), broken_motion("negative", anchor, TemporalMix(), "anchor"))

    def __init__(self, encoder: nn.Module, config: BarlowConfig) -> None:
        super().__init__()
        self.config = config
        self.query = Embedder(encoder, config.dim, "mlp")

    def forward(self, views: dict[str, Tensor]) -> StepOutput:
        # One batch: with separate statistics, BatchNorm would remove what distinguishes the negatives.
        clips = torch.cat([views[view.name] for view in self.views])
        anchor, positive, negative = self.query(clips).chunk(3)  # (B, D) each
        negatives = negative.detach()[:, None]  # (B, 1, D), for the log only: is motion learned?
        a, b = (
            torch.nn.functional.batch_norm(gather(x), None, None, training=True) for x in (anchor, positive)
        )
        correlation = a.T @ b / len(a)  # (D, D), of the batch of all processes
        wrong = (correlation - torch.eye(len(correlation), device=a.device)).square()
        same, different = wrong.trace(), wrong.sum() - wrong.trace()
        loss = same + self.config.redundancy * different
        return StepOutput(
            loss, anchor.detach(), positive.detach(), negatives, metrics={"same": same.detach()}
        )

    def after_step(self, keys: Tensor | None, progress: float) -> None:
        """Nothing to update: no queue, no momentum encoder."""


@dataclass(frozen=True)
class Settings(MethodSettings):
    barlow: BarlowConfig = field(default_factory=BarlowConfig)


METHODS["barlow"] = Barlow


@dataclass(frozen=True)
class Options:
    videos: tyro.conf.Positional[Path]
    out: tyro.conf.Positional[Path]
    steps: int = 1000
    batch_size: int = 16


def main(options: Options) -> None:
    pretrain(
        PretrainConfig(
            data=DataConfig(options.videos, batch_size=options.batch_size),
            out=options.out,
            method="barlow",
            settings=Settings(barlow=BarlowConfig(redundancy=0.01)),
            backbone="tiny",
            steps=options.steps,
            clip=ClipConfig(frames=8, stride=2, resize=80, size=64),
        )
    )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
