"""``tiny``: a small 3-D ResNet for laptops, demos and tests.

A stem over single frames and three residual blocks over time and space, for clips of about 8 frames and 48²
pixels. Features are max pooled by default, so that small moving objects are not averaged away. The stem of
``tiny3d`` spans three frames: it captures small motions before downsampling removes them.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from dsm.models.backbone import Backbone
from dsm.models.settings import Pooling


class Block(nn.Module):
    """Two 3x3x3 convolutions and a shortcut (He et al. 2016, in three dimensions)."""

    def __init__(self, inputs: int, outputs: int, stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm3d(outputs)
        self.conv2 = nn.Conv3d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm3d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs or stride != (1, 1, 1):
            self.shortcut = nn.Sequential(
                nn.Conv3d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm3d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return self.relu(y + self.shortcut(x))


class Tiny(Backbone):
    """See the module docstring. (B, C, T, H, W) -> (B, feature_dim).

    The feature map is (B, 128, T/2, H/16, W/16).
    """

    def __init__(
        self,
        in_channels: int = 3,
        widths: tuple[int, int, int, int] = (12, 32, 64, 128),
        pooling: Pooling = "max",
        stem_frames: int = 1,
    ) -> None:
        a, b, c, d = widths
        stages = OrderedDict(
            stem=nn.Sequential(
                nn.Conv3d(
                    in_channels, a, (stem_frames, 5, 5), (1, 2, 2), (stem_frames // 2, 2, 2), bias=False
                ),
                nn.BatchNorm3d(a),
                nn.ReLU(inplace=True),
            ),
            stage1=Block(a, b, (1, 2, 2)),
            stage2=Block(b, c, (2, 2, 2)),
            stage3=Block(c, d, (1, 2, 2)),
        )
        super().__init__(stages, d, pooling)
