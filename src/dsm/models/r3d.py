"""``r3d18``, ``r3d34``, ``r3d50``: residual networks in 3-D (Hara et al. 2018; Tran et al. 2018).

The two papers differ in the stem: Hara's is 7x7x7 with max pooling, as in two dimensions; Tran's and
torchvision's is 3x7x7 without pooling (``stem="3x7x7"``). With ``flat_from=2`` the blocks from the second
layer on process single frames: Tran's MC3.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from dsm.models.backbone import Backbone, MaxPool, Triple
from dsm.models.settings import Pooling

Stem = Literal["7x7x7", "3x7x7"]
Shortcut = Literal["A", "B"]


class PadShortcut(nn.Module):
    """Shortcut A of He et al. 2016: subsamples by the stride and fills new channels with zeros."""

    def __init__(self, outputs: int, stride: Triple) -> None:
        super().__init__()
        self.outputs, self.stride = outputs, stride

    def forward(self, x: Tensor) -> Tensor:
        t, h, w = self.stride
        x = x[:, :, ::t, ::h, ::w]
        return F.pad(x, (0, 0, 0, 0, 0, 0, 0, self.outputs - x.shape[1]))


def make_shortcut(inputs: int, outputs: int, stride: Triple, kind: Shortcut) -> nn.Module:
    """The identity if shapes agree, else a shortcut of this kind; B is a convolution with kernel 1."""
    if inputs == outputs and stride == (1, 1, 1):
        return nn.Identity()
    if kind == "A":
        return PadShortcut(outputs, stride)
    return nn.Sequential(
        OrderedDict(conv=nn.Conv3d(inputs, outputs, 1, stride, bias=False), norm=nn.BatchNorm3d(outputs))
    )


class BasicBlock(nn.Module):
    """Two 3x3x3 convolutions and a shortcut; ``flat`` ones are 1x3x3 and keep the frames."""

    widening = 1

    def __init__(self, inputs: int, width: int, stride: int, shortcut: Shortcut, flat: bool = False) -> None:
        super().__init__()
        deep, step = (1, (1, stride, stride)) if flat else (3, (stride, stride, stride))
        kernel, padding = (deep, 3, 3), (deep // 2, 1, 1)
        self.conv1 = nn.Conv3d(inputs, width, kernel, step, padding, bias=False)
        self.norm1 = nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(width, width, kernel, padding=padding, bias=False)
        self.norm2 = nn.BatchNorm3d(width)
        self.shortcut = make_shortcut(inputs, width, step, shortcut)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x), inplace=True)


class Bottleneck(nn.Module):
    """Kernels 1, 3, 1: narrow in the middle, four times as wide at the end, and a shortcut."""

    widening = 4

    def __init__(self, inputs: int, width: int, stride: int, shortcut: Shortcut, flat: bool = False) -> None:
        super().__init__()
        outputs = width * self.widening
        deep, step = (1, (1, stride, stride)) if flat else (3, (stride, stride, stride))
        self.conv1 = nn.Conv3d(inputs, width, 1, bias=False)
        self.norm1 = nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(width, width, (deep, 3, 3), step, (deep // 2, 1, 1), bias=False)
        self.norm2 = nn.BatchNorm3d(width)
        self.conv3 = nn.Conv3d(width, outputs, 1, bias=False)
        self.norm3 = nn.BatchNorm3d(outputs)
        self.shortcut = make_shortcut(inputs, outputs, step, shortcut)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        y = F.relu(self.norm2(self.conv2(y)), inplace=True)
        return F.relu(self.norm3(self.conv3(y)) + self.shortcut(x), inplace=True)


class R3D(Backbone):
    """See the module docstring. (B, C, T, H, W) -> (B, 512), for ``r3d50`` (B, 2048).

    The feature map is (B, 512 or 2048, T/16, H/32, W/32); with the stem 3x7x7 (…, T/8, H/16, W/16).
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, int, int, int],
        in_channels: int = 3,
        pooling: Pooling = "avg",
        stem: Stem = "7x7x7",
        shortcut: Shortcut = "B",
        flat_from: int | None = None,
    ) -> None:
        deep = 7 if stem == "7x7x7" else 3
        stages: dict[str, nn.Module] = {
            "conv1": nn.Conv3d(in_channels, 64, (deep, 7, 7), (1, 2, 2), (deep // 2, 3, 3), bias=False),
            "norm1": nn.BatchNorm3d(64),
            "relu": nn.ReLU(inplace=True),
        }
        if stem == "7x7x7":
            stages["pool1"] = MaxPool((3, 3, 3), (2, 2, 2), (1, 1, 1))
        inputs = 64
        for number, (width, depth) in enumerate(zip((64, 128, 256, 512), depths, strict=True), start=1):
            blocks = []
            for place in range(depth):
                stride = 2 if number > 1 and place == 0 else 1
                flat = flat_from is not None and number >= flat_from
                blocks.append(block(inputs, width, stride, shortcut, flat))
                inputs = width * block.widening
            stages[f"layer{number}"] = nn.Sequential(*blocks)
        super().__init__(stages, inputs, pooling)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


r3d18 = partial(R3D, BasicBlock, (2, 2, 2, 2))
r3d34 = partial(R3D, BasicBlock, (3, 4, 6, 3))
r3d50 = partial(R3D, Bottleneck, (3, 4, 6, 3))
