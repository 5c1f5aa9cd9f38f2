"""``s3d``, ``s3dg``: Inception over space, then over time (Xie et al. 2018), without and with feature gating.

Each 3x3x3 convolution of I3D becomes a 1x3x3 and a 3x1x1. With gating, a weight for each channel, computed
from the mean over the clip, follows each pair.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

import torch
from torch import Tensor, nn

from dsm.models.backbone import Backbone, MaxPool, Triple
from dsm.models.settings import Pooling


class Unit(nn.Sequential):
    """Convolution, BatchNorm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: Triple, stride: Triple = (1, 1, 1)) -> None:
        t, h, w = (side // 2 for side in kernel)
        parts: dict[str, nn.Module] = {}
        if stride[0] > 1:
            # Explicit zeros: for clips of only 5 to 7 frames, PyTorch on CPU computes a wrong weight gradient
            # of the padded convolution, or crashes.
            parts["pad"] = nn.ConstantPad3d((0, 0, 0, 0, t, t), 0.0)
            t = 0
        parts["conv"] = nn.Conv3d(inputs, outputs, kernel, stride, (t, h, w), bias=False)
        parts["norm"] = nn.BatchNorm3d(outputs, eps=1e-3, momentum=0.001)
        parts["relu"] = nn.ReLU(inplace=True)
        super().__init__(OrderedDict(parts))


class Gate(nn.Module):
    """Weigh each channel by a sigmoid of a linear map of all channels' means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weigh = nn.Conv3d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weigh(x.mean((2, 3, 4), keepdim=True)).sigmoid()


class Separable(nn.Sequential):
    """A unit over space, one over time, and the gate."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, *, gating: bool) -> None:
        parts: dict[str, nn.Module] = {
            "space": Unit(inputs, outputs, (1, kernel, kernel), (1, stride, stride)),
            "time": Unit(outputs, outputs, (kernel, 1, 1), (stride, 1, 1)),
        }
        if gating:
            parts["gate"] = Gate(outputs)
        super().__init__(OrderedDict(parts))


class Mixed(nn.Module):
    """An Inception block: four branches side by side."""

    def __init__(self, inputs: int, widths: tuple[int, int, int, int, int, int], *, gating: bool) -> None:
        super().__init__()
        b0, b1_in, b1, b2_in, b2, b3 = widths
        one = (1, 1, 1)
        self.branch0 = Unit(inputs, b0, one)
        self.branch1 = nn.Sequential(Unit(inputs, b1_in, one), Separable(b1_in, b1, 3, gating=gating))
        self.branch2 = nn.Sequential(Unit(inputs, b2_in, one), Separable(b2_in, b2, 3, gating=gating))
        self.branch3 = nn.Sequential(MaxPool((3, 3, 3), one, one), Unit(inputs, b3, one))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch0(x), self.branch1(x), self.branch2(x), self.branch3(x)], dim=1)


class S3D(Backbone):
    """See the module docstring. (B, C, T, H, W) -> (B, 1024).

    The feature map is (B, 1024, T/8, H/32, W/32).
    """

    def __init__(self, gating: bool = False, in_channels: int = 3, pooling: Pooling = "avg") -> None:
        mixed = partial(Mixed, gating=gating)
        stages = OrderedDict(
            conv1=Separable(in_channels, 64, 7, stride=2, gating=gating),
            pool2=MaxPool((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            conv2b=Unit(64, 64, (1, 1, 1)),
            conv2c=Separable(64, 192, 3, gating=gating),
            pool3=MaxPool((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            mixed3b=mixed(192, (64, 96, 128, 16, 32, 32)),
            mixed3c=mixed(256, (128, 128, 192, 32, 96, 64)),
            pool4=MaxPool((3, 3, 3), (2, 2, 2), (1, 1, 1)),
            mixed4b=mixed(480, (192, 96, 208, 16, 48, 64)),
            mixed4c=mixed(512, (160, 112, 224, 24, 64, 64)),
            mixed4d=mixed(512, (128, 128, 256, 24, 64, 64)),
            mixed4e=mixed(512, (112, 144, 288, 32, 64, 64)),
            mixed4f=mixed(528, (256, 160, 320, 32, 128, 128)),
            pool5=MaxPool((2, 2, 2)),
            mixed5b=mixed(832, (256, 160, 320, 32, 128, 128)),
            mixed5c=mixed(832, (384, 192, 384, 48, 128, 128)),
        )
        super().__init__(stages, 1024, pooling)


s3d = partial(S3D, False)
s3dg = partial(S3D, True)
