"""``tiny``: a small 3-D ResNet for laptops, demos and tests.

A stem over single frames and three residual blocks over time and space, for clips of about 8 frames and 48²
pixels. Features are max pooled by default, so that small moving objects are not averaged away. The stem of
``tiny3d`` spans three frames: it captures small motions before downsampling removes them. ``tiny2d`` sees
each frame alone and averages over frames: it cannot see their order, so it is a baseline without motion.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from dsm.models.backbone import Backbone, Triple, pool
from dsm.models.settings import Pooling


class Block(nn.Module):
    """Two convolutions of ``frames`` x 3 x 3 and a shortcut (He et al. 2016, in three dimensions)."""

    def __init__(self, inputs: int, outputs: int, stride: Triple, frames: int = 3) -> None:
        super().__init__()
        kernel, padding = (frames, 3, 3), (frames // 2, 1, 1)
        self.conv1 = nn.Conv3d(inputs, outputs, kernel, stride, padding, bias=False)
        self.norm1 = nn.BatchNorm3d(outputs)
        self.conv2 = nn.Conv3d(outputs, outputs, kernel, padding=padding, bias=False)
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

    The feature map is (B, 128, T/2, H/16, W/16); frame by frame, its length is T.

    Args:
        frame_by_frame: each frame is seen and pooled alone, and the feature is the mean over frames.
    """

    def __init__(
        self,
        in_channels: int = 3,
        widths: tuple[int, int, int, int] = (12, 32, 64, 128),
        pooling: Pooling = "max",
        stem_frames: int = 1,
        frame_by_frame: bool = False,
    ) -> None:
        a, b, c, d = widths
        frames, halved = (1, 1) if frame_by_frame else (3, 2)
        stages = OrderedDict(
            stem=nn.Sequential(
                nn.Conv3d(
                    in_channels, a, (stem_frames, 5, 5), (1, 2, 2), (stem_frames // 2, 2, 2), bias=False
                ),
                nn.BatchNorm3d(a),
                nn.ReLU(inplace=True),
            ),
            stage1=Block(a, b, (1, 2, 2), frames),
            stage2=Block(b, c, (halved, 2, 2), frames),
            stage3=Block(c, d, (1, 2, 2), frames),
        )
        super().__init__(stages, d, pooling)
        self.frame_by_frame = frame_by_frame

    def forward(self, x: Tensor) -> Tensor:
        if not self.frame_by_frame:
            return super().forward(x)
        frames = self.feature_map(x).transpose(1, 2)  # (B, T, C, H, W)
        each = pool(frames.flatten(0, 1).unsqueeze(2), self.pooling)
        return each.reshape(*frames.shape[:2], -1).mean(1)
