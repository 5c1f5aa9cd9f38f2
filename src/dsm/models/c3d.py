"""``c3d``: eight 3x3x3 convolutions (Tran et al. 2015, figure 3), with BatchNorm.

The fully connected layers are removed: the last feature map is pooled, so that clips of any size fit.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from dsm.models.backbone import Backbone, MaxPool
from dsm.models.settings import Pooling


class Unit(nn.Sequential):
    """Convolution, BatchNorm, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            OrderedDict(
                conv=nn.Conv3d(inputs, outputs, 3, padding=1),
                norm=nn.BatchNorm3d(outputs),
                relu=nn.ReLU(inplace=True),
            )
        )


class C3D(Backbone):
    """See the module docstring. (B, C, T, H, W) -> (B, 512).

    The feature map is (B, 512, T/8, H/16, W/16).
    """

    def __init__(self, in_channels: int = 3, pooling: Pooling = "avg") -> None:
        stages = OrderedDict(
            conv1=Unit(in_channels, 64),
            pool1=MaxPool((1, 2, 2)),
            conv2=Unit(64, 128),
            pool2=MaxPool((2, 2, 2)),
            conv3a=Unit(128, 256),
            conv3b=Unit(256, 256),
            pool3=MaxPool((2, 2, 2)),
            conv4a=Unit(256, 512),
            conv4b=Unit(512, 512),
            pool4=MaxPool((2, 2, 2)),
            conv5a=Unit(512, 512),
            conv5b=Unit(512, 512),
        )
        super().__init__(stages, 512, pooling)
