"""``r2plus1d18``, ``34``, ``10``: convolutions over space, then over time (Tran et al. 2018).

Each 3x3x3 convolution of a residual network becomes a 1x3x3 and a 3x1x1 with BatchNorm and ReLU between; the
number of channels between keeps the number of parameters. ``r2plus1d10`` follows DSM's published code: one
block per layer, a split stem with its channels chosen by the same rule, and split shortcuts.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from dsm.models.backbone import Backbone, Triple
from dsm.models.settings import Pooling


def middle_channels(inputs: int, outputs: int, kernel: Triple) -> int:
    """Channels between the two that keep the parameters of the full convolution (section 3.5)."""
    t, h, w = kernel
    return (t * h * w * inputs * outputs) // (h * w * inputs + t * outputs)


class SplitConv(nn.Module):
    """A convolution over space, BatchNorm, ReLU, and one over time."""

    def __init__(
        self, inputs: int, outputs: int, kernel: Triple, stride: Triple, middle: int | None = None
    ) -> None:
        super().__init__()
        t, h, w = kernel
        middle = middle or middle_channels(inputs, outputs, kernel)
        self.space = nn.Conv3d(inputs, middle, (1, h, w), (1, *stride[1:]), (0, h // 2, w // 2), bias=False)
        self.norm = nn.BatchNorm3d(middle)
        self.time = nn.Conv3d(middle, outputs, (t, 1, 1), (stride[0], 1, 1), (t // 2, 0, 0), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.time(F.relu(self.norm(self.space(x)), inplace=True))


class Block(nn.Module):
    """Two split convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, published: bool) -> None:
        super().__init__()
        strides = (stride, stride, stride)
        # The paper's authors use the first convolution's channels for both; DSM's code does not.
        middle = None if published else middle_channels(inputs, outputs, (3, 3, 3))
        self.conv1 = SplitConv(inputs, outputs, (3, 3, 3), strides, middle)
        self.norm1 = nn.BatchNorm3d(outputs)
        self.conv2 = SplitConv(outputs, outputs, (3, 3, 3), (1, 1, 1), middle)
        self.norm2 = nn.BatchNorm3d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            conv: nn.Module = nn.Conv3d(inputs, outputs, 1, stride, bias=False)
            if published:
                conv = SplitConv(inputs, outputs, (1, 1, 1), strides)
            self.shortcut = nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm3d(outputs)))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x), inplace=True)


class R2Plus1D(Backbone):
    """See the module docstring. (B, C, T, H, W) -> (B, 512).

    The feature map is (B, 512, T/8, H/16, W/16).
    """

    def __init__(
        self,
        depths: tuple[int, int, int, int],
        in_channels: int = 3,
        pooling: Pooling = "avg",
        *,
        published: bool = False,
    ) -> None:
        middle = None if published else 45
        stages: dict[str, nn.Module] = {
            "conv1": SplitConv(in_channels, 64, (3, 7, 7), (1, 2, 2), middle),
            "norm1": nn.BatchNorm3d(64),
            "relu": nn.ReLU(inplace=True),
        }
        inputs = 64
        for number, (width, depth) in enumerate(zip((64, 128, 256, 512), depths, strict=True), start=1):
            blocks = []
            for place in range(depth):
                stride = 2 if number > 1 and place == 0 else 1
                blocks.append(Block(inputs, width, stride, published=published))
                inputs = width
            stages[f"layer{number}"] = nn.Sequential(*blocks)
        super().__init__(stages, 512, pooling)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


r2plus1d10 = partial(R2Plus1D, (1, 1, 1, 1), published=True)
r2plus1d18 = partial(R2Plus1D, (2, 2, 2, 2))
r2plus1d34 = partial(R2Plus1D, (3, 4, 6, 3))
