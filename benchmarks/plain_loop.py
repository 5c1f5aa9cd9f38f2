"""The loop that one would write without this package, for benchmarks/gpu.py to compare with.

Each worker decodes a video from its start with PyAV, and resizes, crops, recolours and bends each of the
three views of a clip by itself, in float32. The step is like that of `dsm`: one network for the three views,
InfoNCE with the rest of the batch and the motion-broken negative, SGD.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial

import av
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler

from dsm.data.settings import ClipConfig
from dsm.models.settings import Precision
from dsm.models.zoo import create_model


class PlainClips(Dataset[Tensor]):
    """Three views (3, C, T, S, S) of a random window of each video."""

    def __init__(self, paths: list[str], length: int, clip: ClipConfig) -> None:
        self.paths, self.length, self.clip = paths, length, clip

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        span = self.clip.frames * self.clip.stride
        start = int(torch.randint(max(self.length - span, 1), ()))
        wanted = set(range(start, start + span, self.clip.stride))
        frames = []
        with av.open(self.paths[index]) as container:
            for number, frame in enumerate(itertools.islice(container.decode(video=0), start + span)):
                if number in wanted:
                    frames.append(frame.to_ndarray(format="rgb24"))
        clip = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 255  # (T, C, H, W)
        shuffled = clip[torch.randperm(len(clip))]
        return torch.stack([self.augmented(view) for view in (clip, clip, shuffled)])

    def augmented(self, clip: Tensor) -> Tensor:
        """(T, C, H, W) -> (C, T, S, S)"""
        height, width = clip.shape[-2:]
        scale, size = self.clip.resize / min(height, width), self.clip.size
        clip = F.interpolate(clip, scale_factor=scale, mode="bilinear", align_corners=False)
        top, left = (int(torch.randint(side - size + 1, ())) for side in clip.shape[-2:])
        clip = clip[..., top : top + size, left : left + size]
        brightness, contrast, saturation = 0.6 + 0.8 * torch.rand(3)
        clip = (clip * brightness).clamp(0, 1)
        clip = (clip.mean() + contrast * (clip - clip.mean())).clamp(0, 1)
        grey = clip.mean(1, keepdim=True)
        clip = (grey + saturation * (clip - grey)).clamp(0, 1)
        identity = F.affine_grid(torch.eye(2, 3)[None], [1, 1, size, size], align_corners=False)
        bend = F.interpolate(0.1 * torch.randn(1, 2, 4, 4), size=(size, size), mode="bicubic")
        grid = (identity + bend.permute(0, 2, 3, 1)).expand(len(clip), -1, -1, -1)
        bent = F.grid_sample(clip, grid, padding_mode="reflection", align_corners=False)
        return ((bent - 0.45) / 0.225).transpose(0, 1)


def plain_batches(
    paths: list[str], length: int, clip: ClipConfig, batch: int, workers: int, pin: bool
) -> Iterator[Tensor]:
    """Batches (B, 3, C, T, S, S), without end: an epoch of few videos would be over, and the workers idle,
    every few batches."""
    clips = PlainClips(paths, length, clip)
    endless = RandomSampler(clips, replacement=True, num_samples=2**40)
    yield from DataLoader(
        clips, batch, sampler=endless, num_workers=workers, pin_memory=pin, worker_init_fn=one_thread
    )


def one_thread(worker: int) -> None:
    torch.set_num_threads(1)


def plain_step(backbone: str, device: torch.device, precision: Precision) -> Callable[[Tensor], float]:
    """A function that trains on a batch and returns the loss."""
    encoder = create_model(backbone)
    head = nn.Sequential(
        nn.Linear(encoder.feature_dim, encoder.feature_dim), nn.ReLU(), nn.Linear(encoder.feature_dim, 128)
    )
    network = nn.Sequential(encoder, head).to(device).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.003, momentum=0.9, weight_decay=1e-4)
    half = partial(torch.autocast, device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext

    def step(batch: Tensor) -> float:
        views = batch.to(device, non_blocking=True).transpose(0, 1).flatten(0, 1)  # (3 B, C, T, S, S)
        with half():
            embedded = network(views)
        anchor, positive, negative = F.normalize(embedded.float(), dim=1).chunk(3)
        logits = torch.cat([anchor @ positive.T, (anchor * negative).sum(1, keepdim=True)], dim=1) / 0.1
        loss = F.cross_entropy(logits, torch.arange(len(anchor), device=device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step
