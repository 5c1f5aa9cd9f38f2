"""A GPU computes what the CPU does: views, warps, losses, backbones, steps of every method, resuming.

Each comparison takes the device. The reference is the CPU, in double precision where the code allows it, so
the comparisons also say something on the CPU, where they run on small cases in every test run. On a machine
with CUDA run ``pytest -m gpu``, or ``make gpu``, which also measures.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from runs import equal, small_run, weights_of
from test_processes import DOUBLE, script_of
from torch import Tensor, nn
from warm_dsm import HANG

from dsm.devices import algorithms
from dsm.disturb.grid import identity_grid, warp
from dsm.disturb.spatial_kinds import KINDS
from dsm.disturb.spatial_mix import SpatialMix
from dsm.errors import sentence
from dsm.methods import METHODS, MethodSettings
from dsm.methods.losses import info_nce, motion_loss, nt_xent, temporal_consistency, triplet
from dsm.methods.moco import MocoConfig
from dsm.models.checkpoint_file import list_checkpoints
from dsm.models.precision import encode
from dsm.models.zoo import MODELS, create_model
from dsm.render import render_view
from dsm.runs.logs import read_metrics
from dsm.train.config import MonitorConfig
from dsm.train.optim import OptimConfig
from dsm.train.pretrain import build_trainer
from dsm.train.trainer import Trainer
from dsm.views import Augment, View, draw_views
from dsm.workers import usable_cores

# cuBLAS reads it when it starts; without it its results may differ from call to call.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

GPU = (
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here: compares a GPU with the CPU"),
)
DEVICES = ["cpu", pytest.param("cuda", marks=GPU)]
TOLERANCE = 1e-4


def on_the_cpu_only(chosen: str, every: list[str]) -> list[Any]:
    """Pairs of a device and a name: one name on the CPU, to see that the comparison works; all on a GPU."""
    return [("cpu", chosen), *(pytest.param("cuda", name, marks=GPU) for name in every)]


@pytest.fixture(autouse=True)
def _full_precision() -> Iterator[None]:
    """Float32 without TF32, which has 10 bits of mantissa and is PyTorch's default for convolutions. The CPU,
    which computes the references, may use all cores beside a GPU."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, torch.get_num_threads()
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    if torch.cuda.is_available():
        torch.set_num_threads(usable_cores())
    yield
    matmul.allow_tf32, cudnn.allow_tf32 = before[:2]
    torch.set_num_threads(before[2])


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_deterministic_algorithms_are_chosen_for_a_gpu_and_for_no_longer_than_the_run(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    with algorithms(device, deterministic=False):
        assert torch.backends.cudnn.benchmark == (device == "cuda")
        assert not torch.are_deterministic_algorithms_enabled()
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    with algorithms(device, deterministic=True):
        assert torch.are_deterministic_algorithms_enabled() == (device == "cuda")
        assert torch.is_deterministic_algorithms_warn_only_enabled() == (device == "cuda")
        assert torch.backends.cudnn.benchmark == (device == "cpu")
        assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == (":4096:8" if device == "cuda" else None)
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.benchmark


def assert_near(found: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> None:
    """The largest difference is at most this share of the largest number."""
    found, expected = found.detach().cpu().double(), expected.detach().cpu().double()
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= tolerance * float(expected.abs().max().clamp(min=1e-12))


def to(device: str, tree: Any) -> Any:
    """The tensors of dictionaries of dictionaries on a device."""
    if isinstance(tree, dict):
        return {name: to(device, value) for name, value in tree.items()}
    return tree.to(device) if isinstance(tree, Tensor) else tree


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", ["", *KINDS])
def test_views_have_the_pixels_of_the_cpu(kind: str, device: str) -> None:
    """A whole batch on the device, against the CPU: one clip at a time where clips do not mix."""
    view = View("anchor", spatial=SpatialMix.only(kind) if kind else None)
    rng = np.random.default_rng(0)
    augment = Augment(light=0.3)
    draws = [draw_views([view], augment, np.arange(4), 20, rng)[0].parameters for _ in range(3)]
    parameters = {name: torch.from_numpy(np.stack([one[name] for one in draws])) for name in draws[0]}
    clips = {"anchor": torch.from_numpy(rng.integers(0, 256, (3, 4, 24, 24, 3), dtype=np.uint8))}
    found = render_view(view, to(device, clips), to(device, parameters))
    mixes = view.spatial is not None and view.spatial.mixes
    parts = [slice(None)] if mixes else [slice(i, i + 1) for i in range(3)]
    expected = [
        render_view(view, {"anchor": clips["anchor"][part]}, {k: v[part] for k, v in parameters.items()})
        for part in parts
    ]
    assert found.device.type == device
    assert_near(found, torch.cat(expected))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("padding", ["reflection", "border", "zeros"])
def test_warps_have_the_pixels_of_the_cpu(padding: Any, device: str) -> None:
    generator = torch.Generator().manual_seed(0)
    clip = torch.rand(2, 3, 4, 24, 20, generator=generator)
    bend = 0.4 * torch.randn(2, 24, 20, 2, generator=generator)  # some of it leaves the picture
    grid = identity_grid(24, 20, clip) + bend
    expected = warp(clip.double(), grid.double(), padding)
    assert_near(warp(clip.to(device), grid.to(device), padding), expected)


def _losses(a: Tensor, p: Tensor, n: Tensor, queue: Tensor) -> dict[str, Tensor]:
    """Every loss. ``a`` and ``p`` are (B, D), ``n`` (B, 2, D), ``queue`` (K, D)."""
    maps = [x.reshape(2, -1, 2, 2, 2) for x in (a, p)]
    return {
        "info_nce": info_nce(a, p, temperature=0.1, queue=queue, in_batch=True, negatives=n),
        "motion": motion_loss(a, p, n, temperature=0.1),
        "nt_xent": nt_xent(a, p, temperature=0.1),
        "triplet": triplet(a, p, n[:, 0], 0.5),
        "temporal_consistency": temporal_consistency(maps[0], maps[1]),
    }


@pytest.mark.parametrize("device", DEVICES)
def test_losses_and_their_gradients_are_those_of_the_cpu(device: str) -> None:
    generator = torch.Generator().manual_seed(0)
    given = [F.normalize(torch.randn(*shape, generator=generator), dim=-1) for shape in
             ((6, 32), (6, 32), (6, 2, 32), (40, 32))]  # fmt: skip
    for name in _losses(*given):
        results = []
        for where, dtype in ((device, torch.float32), ("cpu", torch.float64)):
            leaves = [one.to(where, dtype, copy=True).requires_grad_() for one in given]
            loss = _losses(*leaves)[name]
            loss.backward()
            results.append((loss, leaves[0].grad))
        (loss, gradient), (expected, its_gradient) = results
        assert_near(loss, expected)
        assert_near(gradient, its_gradient)


def features_and_gradient(
    name: str, device: str, dtype: torch.dtype, precision: Any = "fp32", *, training: bool = False
) -> tuple[Tensor, Tensor]:
    """Features of clips and the whole gradient of a loss, as one vector, without dropout.

    In training BatchNorm subtracts the mean of the batch, which in a new network is nearly everything. What
    is left is so small that bfloat16 turns the gradient of I3D (to a cosine of 0.3 to 0.6, on a CPU).
    """
    torch.manual_seed(0)
    model = create_model(name).to(device, dtype).train(training)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    generator = torch.Generator().manual_seed(1)
    # Coarse blobs: clips of noise all look alike to a network.
    blobs = torch.randn(4, 3, 4, 6, 6, generator=generator)
    side = 32 if name == "tiny" else 48
    clips = F.interpolate(blobs, size=(8, side, side), mode="trilinear").to(device, dtype)
    features = encode(model, clips, precision)
    target = torch.randn(features.shape, generator=generator).to(device, features.dtype)
    (features * target).mean().backward()
    return features, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def cosine(one: Tensor, two: Tensor) -> float:
    one, two = (x.detach().cpu().double().flatten() for x in (one, two))
    return float(F.cosine_similarity(one, two, dim=0))


@pytest.mark.parametrize(("device", "name"), on_the_cpu_only("tiny", sorted(MODELS)))
def test_backbones_compute_what_they_do_on_the_cpu(device: str, name: str) -> None:
    features, gradient = features_and_gradient(name, device, torch.float32)
    expected, its_gradient = features_and_gradient(name, "cpu", torch.float64)
    assert_near(features, expected)
    assert cosine(gradient, its_gradient) > 1 - TOLERANCE
    if device != "cpu":
        found = features_and_gradient(name, device, torch.float64, training=True)
        wanted = features_and_gradient(name, "cpu", torch.float64, training=True)
        for one, other in zip(found, wanted, strict=True):
            assert_near(one, other, 1e-6)


@pytest.mark.parametrize(("device", "name"), on_the_cpu_only("tiny", sorted(MODELS)))
def test_gradients_in_bfloat16_point_the_same_way(device: str, name: str) -> None:
    features, gradient = features_and_gradient(name, device, torch.float32, "bf16")
    expected, its_gradient = features_and_gradient(name, "cpu", torch.float32)
    assert cosine(features, expected) > 0.999
    assert cosine(gradient, its_gradient) > 0.95


def trained(
    monkeypatch: pytest.MonkeyPatch, scenes: Path, out: Path, device: str, *, double: bool = False,
    change: Any = lambda trainer: None, **settings: Any,
) -> Trainer:  # fmt: skip
    """A short run on a device, of SGD, as AdamW turns small differences of gradients into signs."""
    settings = {
        "optim": OptimConfig("sgd", lr=0.02, warmup=2),
        "monitor": MonitorConfig(videos=0),
        **settings,
    }
    render = Trainer.render
    with monkeypatch.context() as patch:
        patch.setattr("dsm.train.trainer.make_fabric", lambda: Fabric(accelerator=device, devices=1))
        if double:
            # Rendered on the CPU, in single precision as always: the same pixels on each device.
            patch.setattr(
                Trainer,
                "render",
                lambda self, batch: {
                    k: x.to(device).double() for k, x in render(self, to("cpu", batch)).items()
                },
            )
        trainer = build_trainer(small_run(scenes, out, **settings))
        change(trainer)
        before = torch.get_default_dtype()
        if double:  # only now: the weights should be those that are drawn in single precision
            trainer.method.double()
            torch.set_default_dtype(torch.float64)
        try:
            trainer.run()
        finally:
            torch.set_default_dtype(before)
    assert trainer.fabric.device.type == device
    return trainer


def logged(out: Path, name: str = "loss") -> list[float]:
    return [line[name] for line in read_metrics(out)]


@pytest.mark.parametrize(("device", "method"), on_the_cpu_only("dsm", sorted(METHODS)))
def test_twenty_steps_have_the_losses_of_the_cpu(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, method: str
) -> None:
    """In double precision: steps amplify a difference, in 20 steps more than a thousandfold, and in single
    precision the order of a sum would show. There the first step is compared, which has all of the code."""
    given: dict[str, Any] = {"method": method, "steps": 3 if device == "cpu" else 20}
    trained(monkeypatch, scenes, tmp_path / "expected", "cpu", double=True, **given)
    trained(monkeypatch, scenes, tmp_path / "single", device, **given)
    for name in ("loss", "grad_norm"):
        single, expected = (logged(tmp_path / run, name) for run in ("single", "expected"))
        assert single[0] == pytest.approx(expected[0], rel=TOLERANCE)
    if device != "cpu":
        trained(monkeypatch, scenes, tmp_path / "found", device, double=True, **given)
        assert logged(tmp_path / "found") == pytest.approx(logged(tmp_path / "expected"), abs=1e-6)


@pytest.mark.parametrize(("device", "backbone"), on_the_cpu_only("tiny", ["tiny", "r3d18", "i3d"]))
def test_a_resumed_run_is_the_same_bit_for_bit(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, backbone: str
) -> None:
    """With ``--deterministic``, also on a GPU."""
    given: dict[str, Any] = {"backbone": backbone, "steps": 8, "deterministic": True}
    trained(monkeypatch, scenes, tmp_path / "whole", device, **given)
    shutil.copytree(tmp_path / "whole", tmp_path / "part")
    list_checkpoints(tmp_path / "part")[-1].unlink()  # as if it had been killed after step 5
    trained(monkeypatch, scenes, tmp_path / "part", device, resume=True, **given)
    assert logged(tmp_path / "part") == logged(tmp_path / "whole")
    assert equal(weights_of(tmp_path / "part"), weights_of(tmp_path / "whole"))


@pytest.mark.parametrize("device", DEVICES)
def test_parts_of_a_batch_make_the_step_of_the_whole(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    """A queue gives the negatives and norms are frozen, as a part of a batch sees only itself."""

    def freeze_norms(trainer: Trainer) -> None:
        for module in trainer.method.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.eval()
                module.train = lambda mode=True: None  # type: ignore[method-assign,assignment]

    moco = MethodSettings(moco=MocoConfig(queue=16, in_batch=False, momentum=0.9, head="linear"))
    for name, parts in (("whole", 1), ("parts", 4)):
        trained(
            monkeypatch, scenes, tmp_path / name, device, change=freeze_norms, method="moco", settings=moco,
            steps=6, optim=OptimConfig("sgd", lr=0.02, warmup=2, accumulate=parts),
        )  # fmt: skip
    assert max(logged(tmp_path / "whole")) > 0  # the queue has negatives
    assert logged(tmp_path / "parts") == pytest.approx(logged(tmp_path / "whole"), abs=TOLERANCE)


@pytest.mark.parametrize("device", DEVICES)
def test_too_little_memory_is_one_sentence_with_the_remedy(device: str) -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50, dtype=torch.uint8, device=device)
    begins = {"cpu": "memory ran out; try a smaller batch (--data.batch-size",
              "cuda": "the GPU's memory ran out; try a smaller batch (--data.batch-size"}  # fmt: skip
    message = sentence(caught.value)
    assert message is not None
    assert message.startswith(begins[device])


@pytest.mark.gpu
@GPU[1]
@pytest.mark.parametrize("method", sorted(METHODS))
def test_the_cpu_waits_for_the_gpu_once_a_step(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    waits: list[int] = []

    def watch(trainer: Trainer) -> None:
        step = trainer.train_step

        def watched(*args: Any) -> Any:
            torch.cuda.set_sync_debug_mode("warn")
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                try:
                    return step(*args)
                finally:
                    torch.cuda.set_sync_debug_mode("default")
                    waits.append(sum("synchronizing CUDA operation" in str(one.message) for one in caught))

        trainer.train_step = watched  # type: ignore[method-assign]

    trained(monkeypatch, scenes, tmp_path / "run", "cuda", method=method, steps=5, change=watch)
    assert waits[1:] == [1] * 4  # in the first step constants are copied


# As a launcher that shows each process one GPU; here it is the same one, over gloo, as NCCL refuses that.
ONE_CARD = """
from functools import partial
import dsm.distributed as d
d.gpus_to_choose_from = lambda *_: 1
d.DDPStrategy = partial(d.DDPStrategy, process_group_backend="gloo")
"""


@pytest.mark.gpu
@GPU[1]
def test_two_processes_on_a_gpu_give_the_losses_of_one(scenes: Path, tmp_path: Path) -> None:
    for name, devices, more in (("one", 1, DOUBLE), ("two", 2, DOUBLE + ONE_CARD)):
        script = script_of(scenes, tmp_path / name, method="dsm", devices=devices, more=more)
        subprocess.run([sys.executable, script], check=True, timeout=HANG)
    assert logged(tmp_path / "two") == pytest.approx(logged(tmp_path / "one"), abs=1e-6)
    norms = [logged(tmp_path / name, "grad_norm") for name in ("two", "one")]
    assert norms[0] == pytest.approx(norms[1], rel=1e-6)


@pytest.mark.gpu
@GPU[1]
def test_a_run_that_fills_the_gpu_says_so_and_leaves_its_memory(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = replace(small_run(scenes, tmp_path).clip, frames=16, stride=1, resize=128, size=112)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 2**28) / total)
    try:
        with pytest.raises(torch.cuda.OutOfMemoryError) as caught:
            trained(monkeypatch, scenes, tmp_path / "large", "cuda", backbone="i3d", clip=clip)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "smaller batch" in str(sentence(caught.value))
    trained(monkeypatch, scenes, tmp_path / "small", "cuda", steps=2)


@pytest.mark.gpu
@GPU[1]
def test_half_precision_lowers_its_scale_until_numbers_are_finite(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scale_high(trainer: Trainer) -> None:
        trainer.scaler = torch.amp.GradScaler("cuda", init_scale=2.0**24)

    trainer = trained(
        monkeypatch, scenes, tmp_path / "run", "cuda", precision="fp16", steps=20, change=scale_high
    )
    assert 0 < trainer.skipped < 20
    assert trainer.scaler.get_scale() < 2.0**24
    assert np.isfinite(logged(tmp_path / "run")).all()


def test_the_comparison_notices_a_thousandth() -> None:
    """Otherwise nothing above would mean anything."""
    good = torch.linspace(-1, 1, 9)
    assert_near(good * (1 + 1e-6), good)
    with pytest.raises(AssertionError):
        assert_near(good + 1e-3, good)
