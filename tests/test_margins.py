"""A tiny problem, 64 videos, that each method is known to solve: minutes long, run with ``-m slow``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dsm.augment import Augment
from dsm.datasets.motionscenes import MotionScenesConfig, write_motionscenes
from dsm.datasets.reading import ClipConfig
from dsm.disturb.temporal import TemporalMix
from dsm.engine.optim import OptimConfig
from dsm.engine.pretrain import PretrainConfig, pretrain
from dsm.engine.run import DataConfig
from dsm.engine.runfolder import read_metrics
from dsm.methods import METHODS, MethodSettings
from dsm.methods.dsm import DsmConfig
from dsm.methods.dsm_triplet import DsmTripletConfig

# Motions of MotionScenes are periodic: another window, or another pace, is the same motion.
TLD = TemporalMix(shift=0, speed=0)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("margins")
    write_motionscenes(MotionScenesConfig(train=64, test=10), out)
    return out / "train.txt"


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(METHODS))
def test_each_method_drives_64_videos_to_a_margin(videos: Path, tmp_path: Path, method: str) -> None:
    run = pretrain(
        PretrainConfig(
            DataConfig(videos, batch_size=16, workers=1, cache_mb=200), out=tmp_path / "run", method=method,
            backbone="tiny", steps=300, clip=ClipConfig(frames=8, stride=3, resize=62, size=48),
            augment=Augment(jitter=0.8), optim=OptimConfig(lr=1e-3), log_every=1,
            settings=MethodSettings(
                dsm=DsmConfig(tld=TLD, negatives=2), dsm_triplet=DsmTripletConfig(tld=TLD)
            ),
        )
    )  # fmt: skip
    last = read_metrics(run)[-30:]
    mean = {name: float(np.mean([line[name] for line in last])) for name in last[0] if name != "step"}
    print(method, {name: round(value, 2) for name, value in mean.items()})
    # 1 - spread is the mean cosine of two videos.
    assert mean["positive"] - (1 - mean["spread"]) > 0.5
    if method.startswith("dsm"):
        assert mean["motion"] > 0.9
        assert mean["positive"] - mean["negative"] > 0.2
