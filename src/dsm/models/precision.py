"""How precisely encoders compute: float32, or bfloat16 where bfloat16 is correct.

oneDNN, which computes PyTorch's convolutions on CPU, has a fault: in bfloat16 the weight gradient of a padded
3-D convolution is garbage, and memory next to it may be overwritten, when the input is smaller than the
kernel. Networks for 16 frames end at a depth of 2, so I3D and R3D are affected. Without padding the result is
correct. :func:`compute_in` therefore writes the zeros out where this matters and convolves without padding:
the same numbers, still in bfloat16. On processors with AMX there is a second fault: with strides along the
width even the output may be garbage. Those few convolutions are computed in float32.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Precision = Literal["fp32", "bf16", "fp16"]


@contextmanager
def compute_in(precision: Precision, device_type: str) -> Iterator[None]:
    """Forward passes inside compute in this precision, and so do their backward passes anywhere.

    Nothing is changed in a module: it may be copied, saved and loaded as ever. What it returns
    may be bfloat16; a loss wants ``.float()``. Activations that are recomputed
    (``torch.utils.checkpoint``) want it around the second forward pass too: see ``recompute.py``.

    Args:
        precision: ``fp32`` leaves everything as it is; ``fp16`` wants a GPU, and a scaled loss.
        device_type: ``cpu``, ``cuda``: where the module is. Only the CPU needs the guard.
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
    """What is computed inside is as exact as its tensors are, whatever :func:`compute_in` says outside."""
    # There is no autocast on `meta`, where operations are only counted.
    if not (torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)):
        yield
        return
    with torch.autocast(device_type, enabled=False):
        yield


def fast_in_bf16(device_type: str) -> bool:
    """Whether a device has instructions for bfloat16; a CPU without is many times slower in it."""
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device_type != "cpu":
        return True
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    asked = [getattr(torch.cpu, name, lambda: False)() for name in names]
    if platform.machine() in ("x86_64", "AMD64"):
        return any(asked)
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def channels_last(module: nn.Module) -> nn.Module:
    """Lay the weights of 3-D convolutions with channels last, twice as fast on CPU if the clips lie so too.

    ``module.to(memory_format=torch.channels_last_3d)`` would refuse a module that has 2-D ones besides.
    """
    for parameter in module.parameters():
        if parameter.ndim == 5:
            # Not contiguous(): it would leave kernels of size 1, which lie either way, as they are.
            parameter.data = parameter.data.to(memory_format=torch.channels_last_3d)
    return module


def encode(encoder: nn.Module, clips: Tensor, precision: Precision) -> Tensor:
    """Clips (B, C, T, H, W) -> features (B, D) in float32, the encoder's own work in ``precision``."""
    with compute_in(precision, clips.device.type):
        features: Tensor = encoder(clips)
    return features if precision == "fp32" else features.float()


def may_be_wrong(
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
) -> bool:
    """Whether a bfloat16 convolution of an input of this depth, height and width is not to be trusted.

    Found by trying kernels 2 to 7, strides 1 to 3, all usual paddings and sizes 1 to 12 along each
    axis: all that failed had a padded axis shorter than the kernel or the stride. Not all such
    convolutions fail, nor always: it depends on the threads and on what memory held before.
    """
    axes = zip(size, kernel, stride, padding, strict=True)
    return any(p > 0 and n < max(k, s) for n, k, s, p in axes)


def stride_may_be_wrong(size: int, kernel: int, stride: int, padding: int) -> bool:
    """Whether the output of a bfloat16 convolution is not to be trusted on a processor with AMX.

    The numbers are those along the width. Found by trying some 20,000 shapes in two and three dimensions: all
    that failed had a kernel wider than 1, and a stride, and either one output across or a stride of 3 or
    more. Networks for video have strides of 2; the tokens of a transformer (16) are the exception.
    """
    return kernel > 1 and stride > 1 and (stride > 2 or (size + 2 * padding - kernel) // stride == 0)


def _strided(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> bool:
    """Whether a convolution is one of those; autocast leaves double precision alone."""
    wide = (weight.shape[-1] - 1) * _last(dilation) + 1
    around = 0 if isinstance(padding, str) else _last(padding)  # "same" takes no strides
    return input.dtype != torch.float64 and stride_may_be_wrong(input.shape[-1], wide, _last(stride), around)


def _last(value: int | Sequence[int]) -> int:
    return value if isinstance(value, int) else value[-1]


def _to_float32(value: Any) -> Any:
    """Tensors in float32, alone or in a tuple of arguments; all else as it is."""
    if isinstance(value, tuple):
        return tuple(_to_float32(one) for one in value)
    return value.float() if isinstance(value, Tensor) else value


class _Guard(TorchFunctionMode):
    """Sends each convolution in bfloat16 the right way; all but max pooling besides passes through.

    Of max pooling autocast would make float32, there and back: a tenth of I3D's time, for the same numbers.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in (torch.conv2d, torch.conv3d) and _strided(*args, **kwargs):
            with torch.autocast("cpu", enabled=False):
                exact = func(*_to_float32(args), **{k: _to_float32(v) for k, v in kwargs.items()})
            return exact.bfloat16()
        if func is torch.conv3d:
            return _conv3d(*args, **kwargs)
        if func in (F.max_pool3d, torch.max_pool3d):
            with torch.autocast("cpu", enabled=False):
                return func(*args, **kwargs)
        return func(*args, **kwargs)


def _conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """``torch.conv3d`` under autocast to bfloat16 on CPU."""
    if input.ndim == 5:
        # In the other format bfloat16 is ten times as slow; a copy only where it lies so.
        input = input.contiguous(memory_format=torch.channels_last_3d)
    kernel = weight.shape[2:]
    if padding == "same":  # as PyTorch has it: the odd zero at the end
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
