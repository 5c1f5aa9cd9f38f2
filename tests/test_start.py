"""Before a run begins: what cannot work is found while the run that it would replace is still there."""

from __future__ import annotations

import resource
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from runs import CLIP, small_run
from torch import nn

from dsm.disturb.spatial_mix import SpatialMix
from dsm.disturb.temporal import TemporalMix
from dsm.errors import UserError
from dsm.methods import MethodSettings
from dsm.methods.dsm import DsmConfig
from dsm.models.zoo import MODELS, create_model
from dsm.train.config import DataConfig, OptimConfig, PretrainConfig
from dsm.train.finetune import FinetuneConfig, FinetuneData, finetune
from dsm.train.pretrain import pretrain


@pytest.fixture(scope="module")
def before(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is there already."""
    return pretrain(small_run(scenes, tmp_path_factory.mktemp("before") / "run", steps=1))


def wrong_root(config: PretrainConfig, folder: Path, patch: pytest.MonkeyPatch) -> PretrainConfig:
    folder.mkdir()
    return replace(config, data=replace(config.data, root=folder))


def no_torchcodec(config: PretrainConfig, folder: Path, patch: pytest.MonkeyPatch) -> PretrainConfig:
    for module in ("torchcodec", "torchcodec.decoders"):
        patch.setitem(sys.modules, module, None)
    return replace(config, data=replace(config.data, decoder="torchcodec"))


def a_gpu_in_workers(config: PretrainConfig, folder: Path, patch: pytest.MonkeyPatch) -> PretrainConfig:
    return replace(config, data=replace(config.data, decoder="torchcodec-cuda", workers=1))


def flow_without_opencv(config: PretrainConfig, folder: Path, patch: pytest.MonkeyPatch) -> PretrainConfig:
    patch.setitem(sys.modules, "cv2", None)
    return replace(config, clip=replace(CLIP, modality="flow"))


def paces_without_opencv(config: PretrainConfig, folder: Path, patch: pytest.MonkeyPatch) -> PretrainConfig:
    patch.setitem(sys.modules, "cv2", None)
    return replace(config, settings=MethodSettings(dsm=DsmConfig(tld=TemporalMix.only("flow"))))


def two_processes_for_a_gpu(
    config: PretrainConfig, folder: Path, patch: pytest.MonkeyPatch
) -> PretrainConfig:
    patch.setattr(torch.cuda, "is_available", lambda: True)
    patch.setattr(torch.cuda, "device_count", lambda: 1)
    return replace(config, devices=2)


class Activated(nn.BatchNorm3d):
    """Like timm's BatchNorms: with the activation inside."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input).relu()


def own_norms_in_two_processes(
    config: PretrainConfig, folder: Path, patch: pytest.MonkeyPatch
) -> PretrainConfig:
    def build(**settings: object) -> nn.Module:
        encoder = create_model("r3d18")
        encoder.stages.add_module("last", Activated(encoder.feature_dim))
        return encoder

    patch.setitem(MODELS, "own", build)
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "0")):
        patch.setenv(name, value)
    return replace(config, backbone="own")


def few_open_files(config: PretrainConfig, folder: Path, patch: pytest.MonkeyPatch) -> PretrainConfig:
    patch.setattr(resource, "getrlimit", lambda _: (40, 40))
    return replace(config, data=replace(config.data, workers=2))


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (wrong_root, "none of its first videos can be read"),
        (no_torchcodec, "--data.decoder torchcodec needs torchcodec"),
        (a_gpu_in_workers, "torchcodec-cuda needs CUDA and --data.workers 0"),
        (flow_without_opencv, "optical flow needs OpenCV"),
        (paces_without_opencv, "optical flow needs OpenCV"),
        (two_processes_for_a_gpu, "2 processes for 1 GPUs"),
        (own_norms_in_two_processes, "several processes cannot train this network: its Activated"),
        (few_open_files, "needs 128 open files, but only 40 are allowed"),
    ],
)
def test_a_mistake_leaves_the_run_that_was_to_be_replaced(
    before: Path, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: object, message: str
) -> None:
    run = Path(shutil.copytree(before, tmp_path / "run"))
    held = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    config = small_run(scenes, run, steps=1, overwrite=True)
    with monkeypatch.context() as patch, pytest.raises(UserError, match=message):
        pretrain(mistake(config, tmp_path / "folder", patch))  # type: ignore[operator]
    assert held == {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}


def test_a_wrong_root_leaves_the_classifier_that_was_to_be_replaced(
    before: Path, scenes: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(before, tmp_path / "run"))
    data = FinetuneData(scenes / "train.txt", root=tmp_path, batch_size=8, workers=0)
    with pytest.raises(UserError, match="none of its first videos can be read"):
        finetune(FinetuneConfig(data=data, out=run, backbone="tiny", clip=CLIP, overwrite=True))
    assert list((run / "checkpoints").glob("step_*.pt"))


def test_a_list_whose_first_videos_are_broken_is_trained_on(scenes: Path, tmp_path: Path) -> None:
    lines = (scenes / "train.txt").read_text().splitlines()
    broken = tmp_path / "train.txt"
    broken.write_text("\n".join([*(f"gone{number}.mp4 0 40" for number in range(8)), *lines]) + "\n")
    data = DataConfig(broken, root=scenes, batch_size=8, workers=0, max_bad=0.5)
    run = pretrain(small_run(scenes, tmp_path / "run", steps=1, data=data))
    assert list((run / "checkpoints").glob("step_*.pt"))


@pytest.mark.parametrize(
    ("parts", "settings", "noted"),
    [
        (1, MethodSettings(), False),
        (2, MethodSettings(), True),
        (2, MethodSettings(dsm=DsmConfig(sld=SpatialMix(exchange=1, smooth=0, source="clip"))), False),
    ],
)
def test_a_run_says_if_few_clips_lend_their_scenes(
    scenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    parts: int,
    settings: MethodSettings,
    noted: bool,
) -> None:
    monkeypatch.setattr("dsm.terminal._noted", set())
    optim = OptimConfig(accumulate=parts)
    pretrain(small_run(scenes, tmp_path / "run", steps=1, optim=optim, settings=settings))
    told = capfd.readouterr().err
    assert ("which has only 4 (8 in 1 x 2 parts" in told) is noted
