"""The pixels of views: augmentation, disturbance and modality, for a whole batch at a time, on its device.

Random draws come from ``views.py``. Rotation, zoom and SLD are combined into one resampling of
the picture, so it is blurred only once.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dsm.disturb.grid import constant, identity_grid, warp
from dsm.video.flow import BOUND
from dsm.views import LUMA, SLD, TAKEN, ModalityName, View

# One mean and spread for all channels, so that colour jitter and warps commute with normalisation, and flow
# or grey video need no values of their own.
MEAN, STD = 0.45, 0.225


def normalize(clip: Tensor) -> Tensor:
    """Normalise a clip in [0, 1] to about zero mean and unit spread."""
    return (clip - MEAN) / STD


def to_network(clip: Tensor, modality: ModalityName) -> Tensor:
    """Convert clips, as read or disturbed, to the input of a network.

    Args:
        clip: (B, 3, T or T+1, H, W) RGB in [0, 1], or (B, 2, T, H, W) flow in pixels.

    Returns:
        (B, C, T, H, W): RGB with about zero mean and unit spread; its difference from frame to frame in the
        same unit; or flow, clipped at 20 pixels and scaled to [-1, 1] (I3D, Carreira & Zisserman 2017).
    """
    if modality == "rgbdiff":
        return (clip[:, :, 1:] - clip[:, :, :-1]) / STD
    if modality == "flow":
        return clip.clamp(-BOUND, BOUND) / BOUND
    return normalize(clip)


def jitter_colour(clip: Tensor, colour: Tensor, like: Tensor | None = None) -> Tensor:
    """Apply :meth:`dsm.views.Augment.draw_colour` to clips.

    Args:
        clip: (B, 3, T, H, W) RGB in [0, 1].
        colour: (B, 3, 4).
        like: (B, 3, T, H, W), the clips whose mean lightness contrast pivots about; by default their own.

    Returns:
        (B, 3, T, H, W), clamped to [0, 1].
    """
    b, _, t, h, w = clip.shape
    luma = constant(LUMA, clip.dtype, clip.device)
    mean = torch.einsum("c,bc->b", luma, (clip if like is None else like).mean((2, 3, 4)))
    offset = colour[:, :, 3] * mean[:, None]
    out = torch.baddbmm(offset[:, :, None], colour[:, :, :3], clip.reshape(b, 3, -1))
    return out.clamp_(0, 1).reshape(b, 3, t, h, w)


Clips = Mapping[str, Tensor]


def render_view(
    view: View,
    clips: Clips,
    parameters: dict[str, Tensor],
    modality: ModalityName = "rgb",
    progress: float = 1.0,
) -> Tensor:
    """Render a view for a batch of cropped clips.

    Args:
        clips: of all views by name: uint8 (B, T, H, W, 3), or flow in pixels, float (B, T, H, W, 2).
        parameters: what :func:`dsm.views.draw_views` drew for this view, stacked, on the clips' device.
        progress: from 0 to 1 over the training; SLD with a ramp grows with it.

    Returns:
        float32 (B, C, T, H, W), the input of a network.
    """
    return to_network(disturb_view(view, clips, parameters, progress), modality)


def disturb_view(
    view: View,
    clips: Clips,
    parameters: dict[str, Tensor],
    progress: float = 1.0,
) -> Tensor:
    """Like :func:`render_view`, but RGB in [0, 1] or flow in pixels, for display."""
    clip = clips[view.name]
    affine = parameters["affine"]
    # The colours, and the mixed-in picture and its position, belong to the look, so they come from its clip.
    look = None
    if clip.dtype == torch.uint8:
        look = from_frames(clips[view.look_of]) if view.look_of else None
        x = _coloured(from_frames(clip), parameters, look)
    else:
        # The picture is sampled at `affine @ p`, so its content moves by the inverse. Not `inverse()`: to see
        # whether there is one, the CPU would wait for the GPU.
        x = torch.einsum("bij,bthwj->bithw", torch.linalg.inv_ex(affine).inverse, clip.float())
    grid = identity_grid(x.shape[-2], x.shape[-1], x).expand(len(x), -1, -1, -1)
    if view.spatial:
        draws = {name.removeprefix(SLD): p for name, p in parameters.items() if name.startswith(SLD)}
        if clip.dtype == torch.uint8:
            seen = None if look is None or not view.spatial.mixes else _coloured(look, parameters)
            x = view.spatial.mix(x, draws, seen, progress, parameters.get(TAKEN))
        grid = view.spatial.field(draws, grid)
    grid = torch.einsum("bij,bhwj->bhwi", affine, grid)
    return warp(x, grid, view.spatial.padding if view.spatial else "reflection")


def _coloured(clip: Tensor, parameters: dict[str, Tensor], look: Tensor | None = None) -> Tensor:
    """RGB (B, 3, T, H, W) in [0, 1], with the colours and light of a view, or with those of the ``look``."""
    x = jitter_colour(clip, parameters["colour"], look)
    if "light" not in parameters:
        return x
    light = parameters["light"]  # (B, T), from dsm.views.Augment.draw_light
    return (x * light[:, None, :, None, None]).clamp_(0, 1)


def from_frames(clips: Tensor) -> Tensor:
    """Convert frames, uint8 (B, T, H, W, C), to clips (B, C, T, H, W) in [0, 1]."""
    return clips.permute(0, 4, 1, 2, 3).float() / 255


def to_frames(clip: Tensor) -> NDArray[np.uint8]:
    """Convert a clip (3, T, H, W) in [0, 1] to frames, uint8 (T, H, W, 3)."""
    return (clip.clamp(0, 1) * 255).round().byte().permute(1, 2, 3, 0).contiguous().cpu().numpy()
