"""Sixty-four videos of MotionScenes, which each method must get the better of: minutes, so by name only.

pytest -m slow tests/test_tiny_problem.py
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dsm.data.clips import collate
from dsm.demo import CLIP
from dsm.methods import MethodSettings
from dsm.methods.dsm import DsmConfig
from dsm.methods.triplet import DsmTripletConfig
from dsm.synthetic.motionscenes import write_motionscenes
from dsm.synthetic.settings import MotionScenesConfig
from dsm.train.config import DataConfig
from dsm.train.optim import OptimConfig
from dsm.train.pretrain import PretrainConfig, build_trainer
from dsm.train.trainer import Trainer
from dsm.views import Augment

VIDEOS, STEPS = 64, 300


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_motionscenes(MotionScenesConfig(train=VIDEOS, test=10), folder)
    return folder / "train.txt"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "videos_apart", "motion_apart"),
    [
        ("moco", 0.5, None),
        ("simclr", 0.5, None),
        ("be", 0.5, None),
        ("dsm", 0.5, 0.2),
        ("dsm-triplet", 0.5, 0.2),
    ],
)
def test_a_tiny_problem_is_driven_to_its_margin(
    method: str, videos_apart: float, motion_apart: float | None, videos: Path, tmp_path: Path
) -> None:
    """Cosines of newly drawn views: how much nearer a clip is to its positive than to another video's, and
    than to itself with the motion broken."""
    trainer = build_trainer(
        PretrainConfig(
            DataConfig(videos, batch_size=16, workers=0, cache_mb=300),
            out=tmp_path / "run",
            method=method,
            backbone="tiny",
            steps=STEPS,
            clip=CLIP,
            augment=Augment(jitter=0, rotate=0),
            optim=OptimConfig(lr=2e-3, warmup=10),
            settings=MethodSettings(dsm_triplet=DsmTripletConfig(tld=DsmConfig().tld)),
        )
    )
    before = margins(trainer)
    trainer.run()
    found = margins(trainer)
    print(f"{method}: " + ", ".join(f"{name} {before[name]:.2f} -> {found[name]:.2f}" for name in found))
    assert found["videos"] > videos_apart
    if motion_apart is not None:
        assert found["motion"] > motion_apart


@torch.no_grad()
def margins(trainer: Trainer) -> dict[str, float]:
    """All videos in one batch, in the epoch after the last."""
    clips = trainer.batches.clips
    views = trainer.render(collate([clips[STEPS, index] for index in range(VIDEOS)]))  # type: ignore[index]
    output = trainer.module(views)
    anchor, positive, negatives = output.anchor, output.positive, output.negatives
    near = (anchor * positive).sum(1)
    others = (anchor @ positive.T).fill_diagonal_(0).sum(1) / (VIDEOS - 1)
    found = {"videos": float((near - others).mean())}
    if negatives is not None:
        found["motion"] = float((near[:, None] - torch.einsum("bd,bnd->bn", anchor, negatives)).mean())
    return found
