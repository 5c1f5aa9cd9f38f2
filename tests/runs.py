"""Short runs on small videos, and how to compare them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from dsm.data.settings import ClipConfig
from dsm.methods import MethodSettings
from dsm.methods.dsm import DsmConfig
from dsm.methods.moco import MocoConfig
from dsm.models.weights import read_checkpoint
from dsm.train.config import DataConfig
from dsm.train.finetune import FinetuneConfig, FinetuneData, finetune
from dsm.train.optim import OptimConfig
from dsm.train.pretrain import PretrainConfig, pretrain

CLIP = ClipConfig(frames=4, stride=3, resize=40, size=32)

BOLD = "<b>"
"""A malicious run name."""


def small_run(scenes: Path, out: Path, **changes: object) -> PretrainConfig:
    """Seven steps of `dsm` on `tiny`, a little more than an epoch, with these settings changed."""
    base = PretrainConfig(
        data=DataConfig(scenes / "train.txt", batch_size=8, workers=0),
        out=out,
        method="dsm",
        backbone="tiny",
        steps=7,
        clip=CLIP,
        optim=OptimConfig("adamw", lr=1e-3, schedule="cosine", warmup=2),
        settings=MethodSettings(
            dsm=DsmConfig(queue=32, momentum=0.9), moco=MocoConfig(queue=32, momentum=0.9)
        ),
        log_every=1,
        save_every=5,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(run)["method"]


def equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def runs_to_compare(scenes: Path, out: Path) -> None:
    """A pretraining with `dsm`, one with `moco` of another seed, and a fine-tuning of the first, in `out`."""
    first = pretrain(small_run(scenes, out / BOLD, log_every=2))
    pretrain(small_run(scenes, out / "moco", method="moco", seed=1, log_every=2))
    finetune(
        FinetuneConfig(
            data=FinetuneData(scenes / "train.txt", batch_size=8, workers=0), out=out / "tuned",
            backbone="tiny", weights=str(first), steps=6, clip=CLIP, log_every=1,
            optim=OptimConfig("adamw", lr=1e-3, warmup=2),
        )
    )  # fmt: skip
