"""Disturbances of your own: python examples/new_disturbance.py LIST OUT

SLD permutes tiles of the scene; TLD plays the first half of a clip forwards, then backwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from torch import Tensor
from torch.nn.functional import interpolate

from dsm.data.reading import ClipConfig
from dsm.disturb import SpatialMix, TemporalMix, spatial_kinds, temporal
from dsm.disturb.spatial import Draw, Warp
from dsm.disturb.temporal import Indices
from dsm.methods import MethodSettings
from dsm.methods.dsm import DsmConfig
from dsm.train.config import DataConfig
from dsm.train.pretrain import PretrainConfig, pretrain
from dsm.verbs.preview import PreviewConfig, preview


@dataclass(frozen=True)
class Tiles(Warp):
    """Permute a share of n x n tiles (all at strength 1), alike in all frames of a clip."""

    tiles: int = 3

    def draw(self, rng: np.random.Generator) -> Draw:
        """Where each tile is read from, relative to itself, x first, in a picture from -1 to 1: (2, n, n)."""
        n = self.tiles
        moved = rng.permutation(n * n)[: round(min(self.strength, 1) * n * n)]
        source = np.arange(n * n)
        source[moved] = rng.permutation(moved)
        y, x = np.divmod(source, n) - np.array(np.divmod(np.arange(n * n), n))
        return (np.stack([x, y]).reshape(2, n, n) * 2 / n).astype(np.float32)

    def field(self, draws: Tensor, height: int, width: int) -> Tensor:
        return interpolate(draws, (height, width), mode="nearest").permute(0, 2, 3, 1)


def there_and_back(indices: Indices, total: int, rng: np.random.Generator) -> Indices | None:
    """The first half of the frames, then the same backwards; None if the clip is too short."""
    if len(indices) < 4:
        return None
    half = indices[: (len(indices) + 1) // 2]
    return np.concatenate([half, half[::-1]])[: len(indices)]


@dataclass(frozen=True)
class Scenes(SpatialMix):
    tiles: float = 1.0


@dataclass(frozen=True)
class Motions(TemporalMix):
    there_and_back: float = 1.0


spatial_kinds.KINDS["tiles"] = Tiles
temporal.KINDS["there_and_back"] = there_and_back


@dataclass(frozen=True)
class Options:
    videos: tyro.conf.Positional[Path]
    out: tyro.conf.Positional[Path]
    steps: int = 1000
    batch_size: int = 16


def main(options: Options) -> None:
    clip = ClipConfig(frames=8, stride=2, resize=80, size=64)
    picture = options.out.with_suffix(".html")
    print(
        preview(
            PreviewConfig(
                options.videos,
                picture,
                clip=clip,
                sld=Scenes.only("tiles"),
                tld=Motions.only("there_and_back"),
            )
        )
    )
    pretrain(
        PretrainConfig(
            data=DataConfig(options.videos, batch_size=options.batch_size),
            out=options.out,
            backbone="tiny",
            settings=MethodSettings(dsm=DsmConfig(sld=Scenes(), tld=Motions())),
            steps=options.steps,
            clip=clip,
        )
    )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
