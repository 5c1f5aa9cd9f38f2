"""The disturbances as transforms for a torchvision-v2 pipeline, or for batches on any device.

A video is (…, T, C, H, W), a tensor or a ``tv_tensors.Video``. Random numbers come from torch's global
generator, so ``torch.manual_seed`` and the seeds of loader workers control them::

    from torchvision.transforms import v2
    from dsm.disturb import SmoothWarp
    from dsm.disturb.transforms import Disturb

    transform = v2.Compose([v2.RandomCrop(112), Disturb(SmoothWarp())])
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Disturb(nn.Module):
    """Apply a kind of SLD or a mix, or a mix of TLD, to videos (…, T, C, H, W)."""

    def __init__(self, kind: Callable[[Tensor, int], Tensor]) -> None:
        """``kind``: anything in ``dsm.disturb`` that takes clips (B, C, T, H, W) and a seed."""
        super().__init__()
        self.kind = kind

    def forward(self, video: Tensor) -> Tensor:
        """Disturb each video differently; keeps shape, type, range and device.

        Args:
            video: (…, T, C, H, W), uint8 or floating point in [0, 1].
        """
        plain = video.as_subclass(Tensor)
        clips = plain.reshape(-1, *plain.shape[-4:]).transpose(1, 2)
        seed = int(torch.randint(2**62, ()))
        out = self.kind(clips, seed).transpose(1, 2).reshape(plain.shape)
        return _like(out, video)

    def extra_repr(self) -> str:
        return repr(self.kind)


def _like(out: Tensor, video: Tensor) -> Tensor:
    """Wrap the output as a ``tv_tensors.Video`` if the input was one."""
    if type(video) is Tensor:
        return out
    from torchvision import tv_tensors

    wrapped: Tensor = tv_tensors.wrap(out, like=video)
    return wrapped
