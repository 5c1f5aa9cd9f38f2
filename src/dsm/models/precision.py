"""Numeric precision of encoders: float32, float16, or bfloat16 with workarounds for bugs on CPUs.

oneDNN, which computes PyTorch's convolutions on CPU, has a bug: in bfloat16 the weight gradient of a padded
3-D convolution is garbage, and memory next to it may be overwritten, when the input is smaller than the
kernel. Networks for 16 frames end at a depth of 2, so I3D and R3D are affected. Without padding the result is
correct, so :func:`compute_in` writes the zeros explicitly where this matters and convolves without padding:
the same numbers, still in bfloat16. Processors with AMX have a second bug: with strides along the width
even the output may be garbage. Those few convolutions are computed in float32.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dsm.errors import UserError
from dsm.models.settings import Precision
from dsm.terminal import note


@contextmanager
def compute_in(precision: Precision, device_type: str) -> Iterator[None]:
    """Context in which forward passes use this precision; their backward passes do too, even outside.

    Modules are not changed: they can be copied, saved and loaded as usual. Their output may be bfloat16; call
    ``.float()`` before a loss. If activations are recomputed (``torch.utils.checkpoint``), the second forward
    pass needs this context too: see ``train/prepare.py``.

    Args:
        precision: ``fp32`` changes nothing; ``fp16`` needs a GPU and a scaled loss.
        device_type: device of the module, ``cpu`` or ``cuda``. Only the CPU needs the guard.
    """
    if precision == "fp32":
        yield
        return
    with torch.autocast(device_type, dtype=torch.bfloat16 if precision == "bf16" else torch.float16):
        if device_type != "cpu":
            yield
            return
        with _Guard():
            yield


@contextmanager
def compute_exactly(device_type: str) -> Iterator[None]:
    """Context in which computations use the precision of their tensors, even within :func:`compute_in`."""
    # The device `meta`, on which operations are only counted, has no autocast.
    if not (torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)):
        yield
        return
    with torch.autocast(device_type, enabled=False):
        yield


def fast_in_bf16(device_type: str) -> bool:
    """Whether a device has instructions for bfloat16; a CPU without them is many times slower with it."""
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device_type != "cpu":
        return True
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    supported = [getattr(torch.cpu, name, lambda: False)() for name in names]
    if platform.machine() in ("x86_64", "AMD64"):
        return any(supported)
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def check_precision(precision: Precision, device_type: str) -> None:
    """Say where a precision is slow on a device, or raise UserError where it is impossible."""
    if precision == "fp16" and device_type == "cpu":
        raise UserError("--precision fp16 needs a GPU; on the CPU use bf16.")
    if precision == "bf16" and not fast_in_bf16(device_type):
        note(
            f"this {device_type} has no instructions for bfloat16 and is many times slower with it; use "
            "--precision fp32 here."
        )


def channels_last(module: nn.Module) -> nn.Module:
    """Store weights of 3-D convolutions with channels last: twice as fast on CPU if the clips are too.

    ``module.to(memory_format=torch.channels_last_3d)`` would refuse a module that also has 2-D convolutions.
    """
    for parameter in module.parameters():
        if parameter.ndim == 5:
            # Not contiguous(): it would leave kernels of size 1 unchanged, as they satisfy both layouts.
            parameter.data = parameter.data.to(memory_format=torch.channels_last_3d)
    return module


def encode(encoder: nn.Module, clips: Tensor, precision: Precision) -> Tensor:
    """Clips (B, C, T, H, W) -> features (B, D) in float32; the encoder computes in ``precision``.

    Raises:
        UserError: a feature is not a finite number.
    """
    with compute_in(precision, clips.device.type):
        features: Tensor = encoder(clips)
    if not torch.isfinite(features).all():
        remedy = "use other weights" if precision == "fp32" else "use --precision fp32"
        raise UserError(f"in {precision}, the weights give features that are not finite numbers; {remedy}.")
    return features if precision == "fp32" else features.float()


def may_be_wrong(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> bool:
    """Whether a bfloat16 convolution of an input of this depth, height and width may give wrong gradients.

    Found by trying kernels 2 to 7, strides 1 to 3, all usual paddings and sizes 1 to 12 along each
    axis: every failure had a padded axis shorter than the kernel or the stride. Not all such convolutions
    fail, and not every time: it depends on the threads and on the previous content of memory.
    """
    axes = zip(size, kernel, stride, padding, strict=True)
    return any(p > 0 and n < max(k, s) for n, k, s, p in axes)


def stride_may_be_wrong(size: int, kernel: int, stride: int, padding: int) -> bool:
    """Whether the output of a bfloat16 convolution may be wrong on a processor with AMX.

    The arguments are those along the width. Found by trying some 20,000 shapes in two and three dimensions:
    every failure had a kernel wider than 1, a stride above 1, and either one output across or a stride of 3
    or more. Networks for video have strides of 2; the patches of a transformer (16) are the exception.
    """
    return kernel > 1 and stride > 1 and (stride > 2 or (size + 2 * padding - kernel) // stride == 0)


class _Convolution(NamedTuple):
    """The arguments of ``torch.conv2d`` and ``torch.conv3d``."""

    input: Tensor
    weight: Tensor
    bias: Tensor | None = None
    stride: int | Sequence[int] = 1
    padding: str | int | Sequence[int] = 0
    dilation: int | Sequence[int] = 1
    groups: int = 1


def _strided(one: _Convolution) -> bool:
    """:func:`stride_may_be_wrong` of a convolution; autocast does not change double precision."""
    kernel = (one.weight.shape[-1] - 1) * _last(one.dilation) + 1
    pad = 0 if isinstance(one.padding, str) else _last(one.padding)  # "same" allows no strides
    wrong = stride_may_be_wrong(one.input.shape[-1], kernel, _last(one.stride), pad)
    return wrong and one.input.dtype != torch.float64


def _last(value: int | Sequence[int]) -> int:
    return value if isinstance(value, int) else value[-1]


def _to_float32(value: Any) -> Any:
    """Convert tensors to float32, single or in a tuple of arguments; leave everything else unchanged."""
    if isinstance(value, tuple):
        return tuple(_to_float32(one) for one in value)
    return value.float() if isinstance(value, Tensor) else value


class _Guard(TorchFunctionMode):
    """Replaces bfloat16 convolutions that may be wrong and keeps max pooling in bfloat16.

    Autocast would convert max pooling to float32 and back: a tenth of I3D's time, for the same numbers.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in (torch.conv2d, torch.conv3d) and _strided(_Convolution(*args, **kwargs)):
            with torch.autocast("cpu", enabled=False):
                exact = func(*_to_float32(args), **{k: _to_float32(v) for k, v in kwargs.items()})
            return exact.bfloat16()
        if func is torch.conv3d:
            return _conv3d(_Convolution(*args, **kwargs))
        if func in (F.max_pool3d, torch.max_pool3d):
            with torch.autocast("cpu", enabled=False):
                return func(*args, **kwargs)
        return func(*args, **kwargs)


def _conv3d(one: _Convolution) -> Tensor:
    """``torch.conv3d`` under autocast to bfloat16 on CPU."""
    input, weight, bias, stride, padding, dilation, groups = one
    if input.ndim == 5:
        # In the other layout bfloat16 takes ten times as long; this copies only if needed.
        input = input.contiguous(memory_format=torch.channels_last_3d)
    kernel = weight.shape[2:]
    if padding == "same":  # as in PyTorch: an odd zero goes to the end
        totals = [d * (k - 1) for k, d in zip(kernel, _triple(dilation), strict=True)]
        pads = [(total // 2, total - total // 2) for total in totals]
    else:
        pads = [(p, p) for p in _triple(0 if isinstance(padding, str) else padding)]
    if may_be_wrong(input.shape[-3:], kernel, _triple(stride), [after for _, after in pads]):
        input = F.pad(input, [n for pair in reversed(pads) for n in pair])
        padding = 0
    return torch.conv3d(input, weight, bias, stride, padding, dilation, groups)


def _triple(value: int | Sequence[int]) -> Sequence[int]:
    return (value,) * 3 if isinstance(value, int) else value if len(value) == 3 else tuple(value) * 3
