"""bfloat16 on CPU: every convolution agrees with double precision, its gradients too."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from dsm.models.precision import (
    channels_last,
    compute_in,
    encode,
    fast_in_bf16,
    may_be_wrong,
    stride_may_be_wrong,
)
from dsm.models.zoo import create_model

# (kernel, stride, padding, input): oneDNN alone was wrong for each of these.
RISKY = [
    ((3, 3, 3), (1, 1, 1), (1, 1, 1), (2, 7, 7)), ((3, 1, 1), (1, 1, 1), (1, 0, 0), (2, 4, 4)),
    ((2, 1, 1), (1, 1, 1), (1, 0, 0), (1, 4, 4)), ((4, 1, 1), (2, 1, 1), (2, 0, 0), (3, 4, 4)),
    ((5, 1, 1), (2, 1, 1), (4, 0, 0), (4, 4, 4)), ((7, 7, 7), (1, 1, 1), (3, 3, 3), (5, 7, 7)),
    ((7, 1, 1), (3, 1, 1), (6, 0, 0), (6, 4, 4)), ((1, 3, 3), (1, 2, 2), (0, 1, 1), (4, 1, 1)),
    ((1, 1, 2), (1, 1, 3), (0, 0, 1), (4, 4, 2)),
]  # fmt: skip
STRIDED = [
    ((1, 2, 2), (1, 2, 2), (0, 0, 0), (2, 4, 3)),
    ((1, 3, 3), (1, 2, 2), (0, 1, 1), (2, 4, 2)),
    ((1, 1, 4), (1, 1, 4), (0, 0, 0), (3, 1, 16)),
    ((1, 1, 8), (1, 1, 7), (0, 0, 0), (3, 2, 44)),
    ((2, 16, 16), (2, 16, 16), (0, 0, 0), (4, 32, 32)),
]
TRUSTED = [
    ((1, 1, 1), (1, 1, 1), (0, 0, 0), (1, 4, 4)), ((1, 1, 1), (2, 2, 2), (0, 0, 0), (2, 4, 4)),
    ((3, 3, 3), (1, 1, 1), (1, 1, 1), (3, 4, 4)), ((3, 3, 3), (2, 2, 2), (1, 1, 1), (4, 7, 7)),
    ((3, 1, 1), (1, 1, 1), (0, 0, 0), (3, 4, 4)), ((2, 2, 2), (2, 2, 2), (0, 0, 0), (2, 4, 4)),
    ((5, 1, 1), (3, 1, 1), (4, 0, 0), (7, 4, 4)), ((7, 7, 7), (2, 2, 2), (0, 0, 0), (8, 11, 11)),
    ((1, 5, 5), (1, 2, 2), (0, 2, 2), (2, 9, 9)),
]  # fmt: skip
FORMATS = [torch.contiguous_format, torch.channels_last_3d]

# Garbage is off by 1 or more. A CPU without bfloat16 instructions also keeps partial sums in bfloat16.
BOUND = 0.01 if fast_in_bf16("cpu") else 0.03


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    """How oneDNN divides a layer, and so where it is wrong, depends on how many there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def apart(ours: Tensor, exact: Tensor) -> float:
    return float((ours.double() - exact).norm() / exact.norm())


def convolve(layer: nn.Module, clip: Tensor, precision: str) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Output, input gradient and weight gradients under a fixed gradient of the output."""
    clip = clip.clone().requires_grad_()
    with compute_in(precision, "cpu"):
        output = layer(clip)
    torch.manual_seed(1)
    output.backward(torch.randn(output.shape).bfloat16().to(output.dtype))
    return output.detach(), clip.grad, [parameter.grad for parameter in layer.parameters()]


@pytest.mark.parametrize("channels", [(3, 8), (16, 16), (24, 36)])
@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize(("kernel", "stride", "padding", "size"), RISKY + STRIDED + TRUSTED)
def test_a_layer_agrees_with_double_precision(kernel, stride, padding, size, memory_format, channels) -> None:
    torch.manual_seed(0)
    layer = nn.Conv3d(*channels, kernel, stride, padding).to(memory_format=memory_format)
    clip = torch.randn(2, channels[0], *size).contiguous(memory_format=memory_format)
    exact = convolve(copy.deepcopy(layer).double(), clip.double(), "fp32")
    ours = convolve(layer, clip, "bf16")
    assert ours[0].dtype == torch.bfloat16
    assert ours[1].dtype == layer.weight.grad.dtype == torch.float32
    for mine, true in zip([*ours[:2], *ours[2]], [*exact[:2], *exact[2]], strict=True):
        assert apart(mine, true) < BOUND


@pytest.mark.parametrize(("kernel", "stride", "padding", "size"), STRIDED)
def test_a_2d_layer_agrees_with_double_precision(kernel, stride, padding, size) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(24, 36, kernel[1:], stride[1:], padding[1:])
    clip = torch.randn(2, 24, *size[1:])
    exact = convolve(copy.deepcopy(layer).double(), clip.double(), "fp32")
    ours = convolve(layer, clip, "bf16")
    assert ours[0].dtype == torch.bfloat16
    for mine, true in zip([*ours[:2], *ours[2]], [*exact[:2], *exact[2]], strict=True):
        assert apart(mine, true) < BOUND


def test_max_pooling_stays_in_bfloat16() -> None:
    clip = torch.randn(2, 4, 4, 6, 6).bfloat16()
    with compute_in("bf16", "cpu"):
        pooled = nn.functional.max_pool3d(clip, 3, 2, 1)
    assert pooled.dtype == torch.bfloat16
    assert torch.equal(pooled.float(), nn.functional.max_pool3d(clip.float(), 3, 2, 1))


def test_which_layers_are_guarded() -> None:
    assert all(may_be_wrong(size, kernel, stride, padding) for kernel, stride, padding, size in RISKY)
    assert not any(may_be_wrong(size, kernel, stride, padding) for kernel, stride, padding, size in TRUSTED)
    along = [
        [axes[-1] for axes in (size, kernel, stride, padding)] for kernel, stride, padding, size in STRIDED
    ]
    assert all(stride_may_be_wrong(*axis) for axis in along)


@pytest.mark.parametrize(
    "settings",
    [
        {"padding": "same"},
        {"padding": "valid", "kernel_size": (1, 3, 3)},
        {"padding": 2, "dilation": 2},
        {"padding": 1, "padding_mode": "replicate"},
        {"padding": 1, "groups": 4, "bias": False},
        {"padding": "same", "kernel_size": 4},
    ],
)
@pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel")
def test_every_form_of_convolution_agrees_with_double_precision(settings: dict) -> None:
    torch.manual_seed(0)
    layer = nn.Conv3d(16, 16, **{"kernel_size": 3, **settings})
    clip = torch.randn(2, 16, 2, 6, 6)
    exact = convolve(copy.deepcopy(layer).double(), clip.double(), "fp32")
    ours = convolve(layer, clip, "bf16")
    for mine, true in zip([*ours[:2], *ours[2]], [*exact[:2], *exact[2]], strict=True):
        assert apart(mine, true) < BOUND


def test_unbatched_and_double_precision_clips_pass() -> None:
    layer = nn.Conv3d(3, 4, 3, padding=1)
    with compute_in("bf16", "cpu"):
        assert layer(torch.randn(3, 2, 5, 5)).shape == (4, 2, 5, 5)
        assert layer.double()(torch.randn(1, 3, 2, 5, 5).double()).dtype == torch.float64
        strided = nn.Conv3d(3, 4, 4, 4).double()
        assert strided(torch.randn(1, 3, 4, 8, 8).double()).dtype == torch.float64


UNGUARDED = """
import torch
layer = torch.nn.Conv3d(32, 64, 3, padding=1)
clip = torch.randn(2, 32, 2, 7, 7)
layer(clip).sum().backward()
right = layer.weight.grad.clone()
layer.zero_grad()
with torch.autocast("cpu", dtype=torch.bfloat16):
    output = layer(clip)
output.float().sum().backward()
print("right" if (layer.weight.grad - right).norm() < 0.02 * right.norm() else "wrong")
"""


def test_the_guard_is_needed() -> None:
    # In a separate process, because the fault may corrupt memory. The variable fills what malloc returns.
    result = subprocess.run(
        [sys.executable, "-c", UNGUARDED],
        env={**os.environ, "MALLOC_PERTURB_": "128", "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
    )
    if result.stdout.strip() == "right":
        pytest.skip("this machine's bfloat16 convolutions are right without the guard")
    assert result.returncode < 0 or result.stdout.strip() == "wrong", result.stderr


def test_a_whole_network_has_finite_gradients() -> None:
    torch.manual_seed(0)
    model = create_model("i3d").to(memory_format=torch.channels_last_3d)
    features = encode(model, torch.randn(2, 3, 4, 32, 32), "bf16")
    assert features.dtype == torch.float32
    features.square().mean().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key


def test_features_are_close_to_those_in_fp32() -> None:
    torch.manual_seed(0)
    model = create_model("tiny").eval()
    clips = torch.randn(2, 3, 4, 32, 32)
    with torch.no_grad():
        exact = encode(model, clips, "fp32")
        assert torch.equal(exact, model(clips))
        assert 0 < apart(encode(model, clips, "bf16"), exact) < 0.05


def test_the_guard_leaves_a_module_unchanged() -> None:
    torch.manual_seed(0)
    model = create_model("tiny").eval()
    before = copy.deepcopy(model.state_dict())
    clips = torch.randn(2, 3, 4, 32, 32)
    with torch.no_grad(), compute_in("bf16", "cpu"):
        features = model(clips)
        twin = copy.deepcopy(model)
        assert torch.equal(twin(clips), features)
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    twin.load_state_dict(before)
    with torch.no_grad():
        assert model(clips).dtype == torch.float32


def test_the_guard_ends_with_its_block_even_when_it_fails() -> None:
    with pytest.raises(ValueError, match="stop"), compute_in("bf16", "cpu"):
        raise ValueError("stop")
    assert not torch.is_autocast_enabled("cpu")
    assert nn.Conv3d(3, 4, 3, padding=1)(torch.randn(1, 3, 2, 5, 5)).dtype == torch.float32


def test_channels_last_equals_torch_and_leaves_2d_weights() -> None:
    module = nn.Sequential(nn.Conv3d(4, 6, 3), nn.Conv3d(6, 8, 1), nn.Conv2d(4, 6, 3))
    expected = copy.deepcopy(module[:2]).to(memory_format=torch.channels_last_3d)
    channels_last(module)
    for one, other in zip(module[:2], expected, strict=True):
        assert one.weight.stride() == other.weight.stride()
    assert module[2].weight.is_contiguous()
