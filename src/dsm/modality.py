"""What a network looks at: colours, their change, or optical flow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from dsm.normalization import STD, normalize
from dsm.video.flow import BOUND

ModalityName = Literal["rgb", "rgbdiff", "flow"]


@dataclass(frozen=True)
class Modality:
    """How a clip of T frames is made."""

    channels: int
    more_frames: int
    """Read besides the T: a change needs a frame after the last."""


MODALITIES: dict[ModalityName, Modality] = {
    "rgb": Modality(channels=3, more_frames=0),
    "rgbdiff": Modality(channels=3, more_frames=1),
    "flow": Modality(channels=2, more_frames=1),
}


def to_network(clip: Tensor, modality: ModalityName) -> Tensor:
    """Clips as they are read, or disturbed, to what a network takes.

    Args:
        clip: (B, 3, T or T+1, H, W) RGB in [0, 1], or (B, 2, T, H, W) flow in pixels.

    Returns:
        (B, C, T, H, W): RGB to about zero mean and unit spread; its difference from frame to frame in the
        same unit; flow cut off at 20 pixels and brought to [-1, 1] (I3D, Carreira & Zisserman 2017).
    """
    if modality == "rgbdiff":
        return (clip[:, :, 1:] - clip[:, :, :-1]) / STD
    if modality == "flow":
        return clip.clamp(-BOUND, BOUND) / BOUND
    return normalize(clip)
