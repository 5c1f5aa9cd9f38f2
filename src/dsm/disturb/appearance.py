"""SLD by appearance: changes how the scene looks, but not where things are.

To an encoder that relies on colours and texture, a warped scene is still the same scene. These kinds mix in
another picture, the same one for all frames, so that nothing new moves.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dsm.disturb.draws import Draw, Seed, Source
from dsm.disturb.grid import from_unit, to_unit
from dsm.disturb.scene import box_mean
from dsm.disturb.spatial import Disturbance
from dsm.errors import UserError


@dataclass(frozen=True)
class Appearance(Disturbance):
    """A kind of SLD that mixes in a picture; subclasses define how."""

    source: Source = "batch"
    """Where the picture comes from; in a batch of one, always from the clip itself, so `exchange` changes
    nothing there."""

    @abstractmethod
    def mix(self, clip: Tensor, draws: Tensor, seen: Tensor) -> Tensor:
        """Mix pictures into clips (B, C, T, H, W) in [0, 1].

        Args:
            draws: (B, 3) in [0, 1]: the share of the picture that is mixed in, which frame it is, as a share
                of the clip, and which other clip of the batch it comes from, as a share of the batch.
                The share comes first, as the ramp scales it.
            seen: (B, C, T, H, W): the clips to take pictures from and to detect motion in. The same as
                ``clip``, unless a clip shares the look of another clip: then the other clip.
        """

    def __call__(self, clip: Tensor, seed: Seed = None) -> Tensor:
        """Mix a picture into each of the clips (B, C, T, H, W); keeps shape, type and range."""
        if len(clip) == 0:
            return clip
        draws = self.draw_batch(len(clip), seed, clip)
        x = to_unit(clip)
        return from_unit(self.mix(x, draws, x), clip)

    def picture(self, clip: Tensor, draws: Tensor) -> Tensor:
        """The frames to mix in: (B, C, 1, H, W)."""
        frames = clip.shape[2]
        chosen = (draws[:, 1] * frames).long().clamp(max=frames - 1)
        return clip[self.partners(draws), :, chosen, None]

    def partners(self, draws: Tensor) -> Tensor:
        """The position in the batch of the clip that each clip takes its picture from: (B,).

        Two views of one clip draw independently, and :func:`other_partners` keeps them apart. If both took
        the picture of the same clip, they would show the same new scene, and an encoder could match them by
        it.
        """
        places = torch.arange(len(draws), device=draws.device)
        if self.source == "clip" or len(draws) == 1:
            return places
        return (places + 1 + _steps(draws[:, 2], len(draws) - 1)) % len(draws)

    def adapted(self, draws: Tensor, grown: float, taken: Tensor | None) -> Tensor:
        """The draws with ``grown`` times the shares and, with ``taken``, by :func:`other_partners`."""
        draws = draws.clone()
        draws[:, 0] *= grown
        if taken is not None:
            draws[:, 2] = other_partners(draws[:, 2], taken)
        return draws

    def draw(self, rng: np.random.Generator) -> Draw:
        return self._draw(min(self.strength, 1.0), rng)

    def _draw(self, share: float, rng: np.random.Generator) -> Draw:
        frame = rng.random()
        partner = rng.random() if self.source == "batch" else 0.0
        return np.array([share, frame, partner], np.float32)


@dataclass(frozen=True)
class AddBackground(Appearance):
    """Mix a frame into all frames: "background adding" (Wang et al., Removing the Background, CVPR 2021)."""

    share: tuple[float, float] = (0.1, 0.3)
    """Smallest and largest share of the frame that is mixed in, at strength 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.share[0] <= self.share[1] <= 1:
            raise UserError(f"sld: share must be two rising numbers from 0 to 1, not {self.share}.")

    def draw(self, rng: np.random.Generator) -> Draw:
        share = min(rng.uniform(*self.share) * self.strength, 1.0)
        return self._draw(share, rng)

    def mix(self, clip: Tensor, draws: Tensor, seen: Tensor) -> Tensor:
        share = draws[:, 0, None, None, None, None].to(clip)
        return torch.lerp(clip, self.picture(seen, draws), share)


@dataclass(frozen=True)
class ReplaceBackground(Appearance):
    """Keep the moving part and put a frame of another clip behind it (after FAME, Ding et al., CVPR 2022).

    The moving part is the half of the picture that changes most from frame to frame, smoothed.
    """

    foreground: float = 0.5
    """Share of the picture to keep as the moving part."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.foreground < 1:
            raise UserError(
                f"sld: foreground is a share of the picture, between 0 and 1, not {self.foreground}."
            )

    def mix(self, clip: Tensor, draws: Tensor, seen: Tensor) -> Tensor:
        share = draws[:, 0, None, None, None, None].to(clip)
        behind = share * (1 - moving_part(seen, self.foreground)[:, None, None])
        return torch.lerp(clip, self.picture(seen, draws).expand_as(clip), behind.expand_as(clip))


@dataclass(frozen=True)
class ExchangeScene(Appearance):
    """Replace the static scene of a clip by that of another clip.

    The static scene is the mean over time, m. A clip x becomes ``x + a (m' - m)``, where m' is the mean of
    another clip. With a = 1 a clip keeps only the difference of each frame from the mean: the motion, but no
    scene. This needs neither masks nor a still camera: what moves with the camera is not in the mean. The
    strength is a, at most 1.
    """

    def mix(self, clip: Tensor, draws: Tensor, seen: Tensor) -> Tensor:
        share = draws[:, 0, None, None, None, None].to(clip)
        scene = seen.mean(2, keepdim=True)
        other = scene[self.partners(draws)] if self.source == "batch" else self.picture(seen, draws)
        return (clip + share * (other - scene)).clamp(0, 1)


def other_partners(partners: Tensor, taken: Tensor) -> Tensor:
    """Change the draws of partners that lead to the same clip as other draws, such as those of another view.

    Such a draw becomes one of the remaining clips, all equally likely; it needs no further random number. In
    a batch of two, both have to be the same clip.

    Args:
        partners: (B,), a column of the draws of :meth:`Appearance.mix`.
        taken: (B,), the same of the other view; negative where that view takes no picture.
    """
    others = len(partners) - 1
    if others < 2:
        return partners
    step = _steps(partners, others)
    rest = partners * others - step  # in [0, 1), and not yet used
    moved = (step + 1 + _steps(rest, others - 1)) % others
    return torch.where(step == _steps(taken, others), (moved + 0.5) / others, partners)


def _steps(partners: Tensor, others: int) -> Tensor:
    """How many clips after the next one each draw leads, (B,): from 0 to ``others`` - 1."""
    return (partners * others).long().clamp(max=others - 1)


def moving_part(clip: Tensor, share: float) -> Tensor:
    """Confidence that each pixel moves: (B, H, W) in [0, 1], above 0.5 for ``share`` of them.

    If nothing moves, all values are 0.

    Args:
        clip: (B, C, T, H, W).
    """
    if clip.shape[2] < 2:
        return torch.zeros_like(clip[:, 0, 0])
    change = clip.diff(dim=2).abs().mean((1, 2))  # (B, H, W)
    side = max(min(clip.shape[-2:]) // 16 * 2 + 1, 3)
    smooth = change[:, None]
    for _ in range(2):  # two box filters approximate a Gaussian
        smooth = box_mean(smooth, side)
    flat = smooth.flatten(1)
    middle = flat.quantile(1 - share, dim=1, keepdim=True)
    # From 0 at half the quantile to 1 at 1.5 times it.
    return (flat / middle.clamp(min=1e-6) - 0.5).clamp(0, 1).reshape(change.shape)
