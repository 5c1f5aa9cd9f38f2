"""``i3d``: the Inflated 3-D Inception-v1 (Carreira & Zisserman 2017, figure 3).

Padding is TensorFlow's "SAME", so that weights trained with it give the same results here: enough zeros for
ceil(n / stride) outputs, an odd one at the end.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsm.models.backbone import Backbone, Triple
from dsm.models.settings import Pooling


def same_padding(x: Tensor, kernel: Triple, stride: Triple) -> list[int]:
    """Number of zeros along time, height and width that give ceil(n / stride) outputs each."""
    axes = zip(x.shape[2:], kernel, stride, strict=True)
    return [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in axes]


def pad_same(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Pad (B, C, T, H, W) with these zeros, an odd one at the end."""
    pads: list[int] = []
    for total in reversed(same_padding(x, kernel, stride)):
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads) if any(pads) else x


class Unit(nn.Module):
    """Convolution with "SAME" padding, BatchNorm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.kernel, self.stride = (kernel,) * 3, (stride,) * 3
        # With stride 1 "SAME" is symmetric, so the convolution can pad without a copy.
        self.symmetric = stride == 1
        self.conv = nn.Conv3d(
            inputs, outputs, kernel, stride, padding=kernel // 2 if self.symmetric else 0, bias=False
        )
        self.norm = nn.BatchNorm3d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        if not self.symmetric:
            x = pad_same(x, self.kernel, self.stride)
        return F.relu(self.norm(self.conv(x)), inplace=True)


class MaxPool(nn.Module):
    """Max pooling with "SAME" padding, only for outputs of a ReLU, whose maximum zeros do not change.

    It does not write the zeros, which would copy the largest maps. If one side needs an odd number of zeros,
    the last window is truncated instead (``ceil_mode``; correct for odd kernels and for those as wide as
    their stride).
    """

    def __init__(self, kernel: Triple, stride: Triple) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        totals = same_padding(x, self.kernel, self.stride)
        pads, odd = [total // 2 for total in totals], any(total % 2 for total in totals)
        return F.max_pool3d(x, self.kernel, self.stride, pads, ceil_mode=odd)


class Mixed(nn.Module):
    """An Inception block: four branches side by side."""

    def __init__(self, inputs: int, widths: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        b0, b1_in, b1, b2_in, b2, b3 = widths
        self.branch0 = Unit(inputs, b0, 1)
        self.branch1 = nn.Sequential(Unit(inputs, b1_in, 1), Unit(b1_in, b1, 3))
        self.branch2 = nn.Sequential(Unit(inputs, b2_in, 1), Unit(b2_in, b2, 3))
        self.branch3 = nn.Sequential(MaxPool((3, 3, 3), (1, 1, 1)), Unit(inputs, b3, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch0(x), self.branch1(x), self.branch2(x), self.branch3(x)], dim=1)


class I3D(Backbone):
    """See the module docstring. (B, C, T, H, W) -> (B, 1024).

    The feature map is (B, 1024, ceil(T/8), ceil(H/32), ceil(W/32)).
    """

    def __init__(self, in_channels: int = 3, pooling: Pooling = "avg", norm_eps: float = 1e-5) -> None:
        stages = OrderedDict(
            conv1=Unit(in_channels, 64, 7, stride=2),
            pool2=MaxPool((1, 3, 3), (1, 2, 2)),
            conv2b=Unit(64, 64, 1),
            conv2c=Unit(64, 192, 3),
            pool3=MaxPool((1, 3, 3), (1, 2, 2)),
            mixed3b=Mixed(192, (64, 96, 128, 16, 32, 32)),
            mixed3c=Mixed(256, (128, 128, 192, 32, 96, 64)),
            pool4=MaxPool((3, 3, 3), (2, 2, 2)),
            mixed4b=Mixed(480, (192, 96, 208, 16, 48, 64)),
            mixed4c=Mixed(512, (160, 112, 224, 24, 64, 64)),
            mixed4d=Mixed(512, (128, 128, 256, 24, 64, 64)),
            mixed4e=Mixed(512, (112, 144, 288, 32, 64, 64)),
            mixed4f=Mixed(528, (256, 160, 320, 32, 128, 128)),
            pool5=MaxPool((2, 2, 2), (2, 2, 2)),
            mixed5b=Mixed(832, (256, 160, 320, 32, 128, 128)),
            mixed5c=Mixed(832, (384, 192, 384, 48, 128, 128)),
        )
        super().__init__(stages, 1024, pooling)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.eps = norm_eps  # 1e-3 in the weights of Carreira & Zisserman
