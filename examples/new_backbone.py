"""A backbone of your own: python examples/new_backbone.py LIST OUT

Convolves single frames, and sees motion because neighbouring frames exchange channels (TSM, Lin et al. 2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
import tyro
from torch import Tensor, nn

import dsm
from dsm.data.reading import ClipConfig
from dsm.models.backbone import Backbone, Pooling
from dsm.models.zoo import MODELS
from dsm.train.config import DataConfig
from dsm.train.pretrain import PretrainConfig, pretrain


def lend(x: Tensor) -> Tensor:
    """Take an eighth of the channels from the previous frame, an eighth from the next: (B, C, T, H, W)."""
    n = max(x.shape[1] // 8, 1)
    before, after = torch.zeros_like(x[:, :n]), torch.zeros_like(x[:, :n])
    before[:, :, 1:] = x[:, :n, :-1]
    after[:, :, :-1] = x[:, n : 2 * n, 1:]
    return torch.cat([before, after, x[:, 2 * n :]], dim=1)


class Stage(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False)
        self.norm = nn.BatchNorm3d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(lend(x))).relu()


class ShiftNet(Backbone):
    def __init__(self, in_channels: int = 3, pooling: Pooling = "avg", width: int = 32) -> None:
        widths = [in_channels, width, 2 * width, 4 * width, 8 * width]
        stages = {f"stage{n}": Stage(one, two) for n, (one, two) in enumerate(pairwise(widths))}
        super().__init__(stages, widths[-1], pooling)


MODELS["shift"] = ShiftNet


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
            backbone="shift",
            steps=options.steps,
            clip=ClipConfig(frames=8, stride=2, resize=80, size=64),
        )
    )
    encoder = dsm.load_encoder(options.out)
    print(f"{options.out}: features of {encoder.feature_dim} dimensions")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
