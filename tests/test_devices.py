"""A GPU is not kept waiting: tests without one.

Views are rendered from fake tensors, of which only shape, type and device are computed: an operation on
tensors of two devices, or one that reads a number back, is an error there. The device ``meta`` stands for a
GPU, as without one PyTorch indexes no tensor of ``cuda``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import small_run
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from dsm.disturb import grid, spatial
from dsm.disturb.spatial_kinds import KINDS
from dsm.disturb.spatial_mix import SpatialMix
from dsm.methods import METHODS
from dsm.render import render_view
from dsm.train.config import MonitorConfig, OptimConfig
from dsm.train.prepare import train_mode
from dsm.train.pretrain import build_trainer
from dsm.train.progress import StepTimer
from dsm.views import Augment, View, draw_views


@pytest.fixture
def fake() -> Iterator[FakeTensorMode]:
    """What is kept for later calls must not be fake."""
    kept = (grid.constant, spatial._pixel_spline)
    for one in kept:
        one.cache_clear()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():
        yield mode
    for one in kept:
        one.cache_clear()


READING = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2"}


class Reads(TorchDispatchMode):
    """Counts how often a number, or a number of elements, is read from tensors, but for ``tolist``."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.overloadpacket._qualified_op_name.removeprefix("aten::") in READING
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_step_reads_numbers_once(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """On a GPU each time costs a wait for all that it has to do; tests/test_gpu.py counts these waits."""
    optim = OptimConfig("sgd", lr=0.02, warmup=2, clip=1.0, accumulate=2)
    run = small_run(scenes, tmp_path / "run", method=method, optim=optim, monitor=MonitorConfig(videos=0))
    trainer = build_trainer(replace(run, nonfinite="skip"))
    train_mode(trainer.method)
    batches = list(itertools.islice(iter(trainer.batches), 4))
    trainer.train_step(iter(batches[:2]), StepTimer())
    lists: list[int] = []
    to_list = Tensor.tolist
    monkeypatch.setattr(Tensor, "tolist", lambda one: lists.append(one.numel()) or to_list(one))
    with Reads() as reads:
        trainer.train_step(iter(batches[2:]), StepTimer())
    assert reads.count == 0
    assert lists == [4]  # two losses, the norm, and whether the embeddings are finite
    if queue := getattr(trainer.method, "queue", None):
        assert queue.count == int(queue.filled)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_view_is_rendered_on_its_device_and_nothing_is_read_back(fake: FakeTensorMode, kind: str) -> None:
    weights = {name: float(name == kind) for name in SpatialMix.kind_names()}
    view = View("anchor", spatial=SpatialMix(**weights, ramp=0.5))
    drawn = draw_views([view], Augment(light=0.3), np.arange(4), 20, np.random.default_rng(0))[0].parameters
    parameters = {
        name: torch.empty(3, *one.shape, dtype=torch.float32, device="meta") for name, one in drawn.items()
    }
    clips = {"anchor": torch.empty(3, 4, 24, 24, 3, dtype=torch.uint8, device="meta")}
    found = render_view(view, clips, parameters, progress=0.2)
    assert found.device.type == "meta"
    assert found.shape == (3, 3, 4, 24, 24)


def test_flow_is_rendered_on_its_device_and_nothing_is_read_back(fake: FakeTensorMode) -> None:
    clips = {"anchor": torch.empty(3, 4, 24, 24, 2, device="meta")}
    parameters = {"affine": torch.empty(3, 2, 2, device="meta")}
    assert render_view(View("anchor"), clips, parameters, "flow").device.type == "meta"
