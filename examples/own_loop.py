"""The disturbances in a training loop of your own: python examples/own_loop.py FOLDER

Trains an encoder to place a clip nearer to its scene-broken version than to its motion-broken one. It uses
only the disturbances, a loss and the video reader of `dsm`: no trainer, no config, no command.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import nn

import dsm
from dsm.data.folders import find_videos
from dsm.disturb import SpatialMix, TemporalMix
from dsm.methods.losses import triplet
from dsm.render import normalize
from dsm.video.decode import probe


@dataclass(frozen=True)
class Options:
    folder: tyro.conf.Positional[Path]
    steps: int = 200
    batch_size: int = 8


def read_batch(files: list[Path], count: int, rng: np.random.Generator) -> torch.Tensor:
    """Clips (B, 3, T, H, W) in [0, 1] of random videos, from random start frames."""
    clips = []
    for file in rng.choice(np.array(files, dtype=object), count):
        start = int(rng.integers(max(probe(file).frames - 16, 1)))
        frames = dsm.read_clip(file, frames=8, stride=2, start=start, size=64)
        clips.append(torch.from_numpy(frames[:, :64, :64]).permute(3, 0, 1, 2) / 255)
    return torch.stack(clips)


def main(options: Options) -> None:
    files, rng = find_videos(options.folder), np.random.default_rng(0)
    torch.manual_seed(0)
    encoder = dsm.create_model("tiny")
    break_scene, break_motion = SpatialMix(strength=1.0), TemporalMix()
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-3)

    def embed(clips: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(encoder(normalize(clips)), dim=1)

    for step in range(options.steps):
        clips = read_batch(files, options.batch_size, rng)
        # One batch: with separate statistics, BatchNorm would remove what distinguishes the negatives.
        views = [break_scene(clips, seed=step), clips, break_motion(clips, seed=step)]
        anchor, positive, negative = embed(torch.cat(views)).chunk(3)
        loss = triplet(anchor, positive, negative, margin=0.5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 0:
            nearer = ((anchor * positive).sum(1) > (anchor * negative).sum(1)).float().mean()
            print(
                f"step {step}: loss {loss.item():.3f}, positive nearer than negative for {nearer:.0%}",
                flush=True,
            )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
