"""The mix of the kinds of SLD: their weights, which are also settings, and the drawing by weight.

Functions import torch and the kinds when they need them, as ``--help`` reads the settings without torch.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dsm.disturb.draws import Draw, Padding, Seed, Source
from dsm.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from dsm.disturb.appearance import Appearance
    from dsm.disturb.spatial import Disturbance, Warp


@dataclass(frozen=True)
class SpatialMix:
    """Weights of the kinds of SLD; they need not sum to one. Each sample gets one kind, drawn by weight, or
    with ``together`` one kind that bends the picture and one that mixes another picture in."""

    smooth: float = 1.0
    """Weight of a smooth random warp."""
    local: float = 0.0
    """Weight of the local warp of the paper's code, around one to three points."""
    tps: float = 0.0
    """Weight of a random thin-plate spline warp."""
    affine: float = 0.0
    """Weight of a random scaling, rotation, shear and shift."""
    background: float = 0.0
    """Weight of mixing one frame into all frames."""
    replace: float = 0.0
    """Weight of putting one frame behind the moving foreground."""
    exchange: float = 0.0
    """Weight of replacing the static scene (the mean over time) by that of another clip."""
    strength: float = 1.0
    """Strength of the kinds that bend the picture: 0 changes nothing, 1 is the normal strength of a kind."""
    mixing_strength: float = 1.0
    """Strength of `background`, `replace` and `exchange`, which mix a picture in; on the same scale."""
    together: bool = False
    """Give each sample both a kind that bends the picture and a kind that mixes a picture in."""
    ramp: float = 0.0
    """Share of the training over which the strength of mixed-in pictures rises from 0. An encoder first
    learns to distinguish videos by their scenes; 0 breaks the scene from the first step."""
    source: Source = "batch"
    """Where mixed-in pictures come from: the clip itself, or another clip of the batch."""
    padding: Padding = "reflection"
    """What fills the area beyond the border of a warped picture."""

    def __post_init__(self) -> None:
        weights = self.weights().values()
        if min(weights) < 0 or not 0 < sum(weights) < float("inf"):
            raise UserError("the weights of sld must be 0 or more, and at least one above 0.")
        for strength in (self.strength, self.mixing_strength):
            if not 0 <= strength < float("inf"):
                raise UserError(f"the strength of sld must be 0 or more, not {strength}.")
        if not 0 <= self.ramp <= 1:
            raise UserError(f"the ramp of sld is a share of the training, from 0 to 1, not {self.ramp}.")

    @classmethod
    def only(cls, kind: str, strength: float = 1.0) -> SpatialMix:
        """A mix of this kind alone."""
        return cls(strength=strength, mixing_strength=strength).alone(kind)

    def alone(self, kind: str) -> SpatialMix:
        """This kind alone, with this mix's strengths and other settings."""
        weights: dict[str, Any] = {name: float(name == kind) for name in self.kind_names()}
        return replace(self, **weights)

    @classmethod
    def kind_names(cls) -> list[str]:
        """The fields that are weights of kinds. A subclass may add kinds, and fields that are not kinds."""
        every = [one.name for one in fields(cls)]
        own = every[: every.index("strength")]
        added = every[len(fields(SpatialMix)) :]
        if added:
            from dsm.disturb.spatial_kinds import KINDS

            added = [name for name in added if name in KINDS]
        return own + added

    def weights(self) -> dict[str, float]:
        """The weight of each kind."""
        return {name: getattr(self, name) for name in self.kind_names()}

    def kinds(self) -> dict[str, Disturbance]:
        """The kinds with a weight above 0, by name."""
        return dict(self._kinds)

    @cached_property  # every sample needs them
    def _kinds(self) -> dict[str, Disturbance]:
        warps, appearances = self._by_effect
        every: dict[str, Disturbance] = {**warps, **appearances}
        return {name: every[name] for name in self.weights() if name in every}

    @cached_property
    def _by_effect(self) -> tuple[dict[str, Warp], dict[str, Appearance]]:
        """The kinds with a weight above 0 that warp the picture, and those that mix a picture in."""
        from dsm.disturb.appearance import Appearance
        from dsm.disturb.spatial import Warp
        from dsm.disturb.spatial_kinds import KINDS

        warps: dict[str, Warp] = {}
        appearances: dict[str, Appearance] = {}
        for name, weight in self.weights().items():
            if weight and issubclass(KINDS[name], Appearance):
                appearances[name] = KINDS[name](strength=self.mixing_strength, source=self.source)
            elif weight and issubclass(KINDS[name], Warp):
                warps[name] = KINDS[name](strength=self.strength)
            elif weight:
                raise TypeError(f"the kind {name!r} must derive from Warp or Appearance; others do nothing.")
        return warps, appearances

    def draw(self, rng: np.random.Generator) -> dict[str, Draw]:
        """One sample's draws for each kind with a weight: zeros, except for the kinds that were chosen."""
        chosen = [
            names[int(rng.choice(len(names), p=shares))] if len(names) > 1 else names[0]
            for names, shares in self._groups
        ]
        draws = {name: kind.draw(rng) for name, kind in self._kinds.items()}
        return {name: draw if name in chosen else np.zeros_like(draw) for name, draw in draws.items()}

    @cached_property
    def _groups(self) -> list[tuple[list[str], NDArray[np.float64]]]:
        """The names among which one is drawn, and their probabilities: all, or by ``together`` two groups."""
        groups = [list(some) for some in self._by_effect] if self.together else [list(self._kinds)]
        weights = [np.array([getattr(self, name) for name in group]) for group in groups]
        return [(group, some / some.sum()) for group, some in zip(groups, weights, strict=True) if group]

    def draw_batch(self, count: int, seed: Seed, like: Tensor) -> dict[str, Tensor]:
        """Draws of ``count`` samples, stacked, on the device of ``like``."""
        import torch

        rng = np.random.default_rng(seed)
        rows = [self.draw(rng) for _ in range(count)]
        return {
            name: torch.from_numpy(np.stack([row[name] for row in rows])).to(like.device) for name in rows[0]
        }

    @property
    def lends(self) -> bool:
        """Whether clips get pictures of other clips of the batch."""
        return bool(self.mixes) and self.source == "batch" and self.mixing_strength > 0

    def partner(self, draws: dict[str, Draw]) -> float:
        """The draw, of one sample's, that says which other clip it gets a picture of; -1 if of none."""
        drawn = [draws[name] for name in self.mixes if draws[name][0] > 0] if self.lends else []
        return float(drawn[0][2]) if drawn else -1.0

    @property
    def mixes(self) -> list[str]:
        """The kinds with a weight that change the content of clips and do not just warp it."""
        _, appearances = self._by_effect
        return list(appearances)

    def bending(self) -> SpatialMix:
        """The mix without those kinds; unchanged if nothing would be left."""
        off: dict[str, Any] = dict.fromkeys(self.mixes, 0.0)
        return replace(self, **off) if len(off) < len(self.kinds()) else self

    def mix(
        self,
        clip: Tensor,
        draws: dict[str, Tensor],
        seen: Tensor | None = None,
        progress: float = 1.0,
        taken: Tensor | None = None,
    ) -> Tensor:
        """Apply the kinds that change the content of clips (B, C, T, H, W) in [0, 1].

        Args:
            seen: see :meth:`dsm.disturb.appearance.Appearance.mix`; by default, the clips themselves.
            progress: from 0 to 1 over the training; during the ``ramp``, less is mixed in.
            taken: (B,), the :meth:`partner` of another view of each sample; this one takes another clip's
                picture, where the batch has three or more.
        """
        seen = clip if seen is None else seen
        grown = min(progress / self.ramp, 1.0) if self.ramp else 1.0
        _, appearances = self._by_effect
        for name, kind in appearances.items():
            if name in draws:
                clip = kind.mix(clip, kind.adapted(draws[name], grown, taken), seen)
        return clip

    def field(self, draws: dict[str, Tensor], grid: Tensor) -> Tensor:
        """Apply the kinds that warp to a grid (1 or B, H, W, 2); returns (B, H, W, 2)."""
        height, width = grid.shape[1:3]
        warps, _ = self._by_effect
        for name, kind in warps.items():
            if name in draws:
                grid = grid + kind.field(draws[name], height, width).to(grid)
        return grid

    def __call__(self, clip: Tensor, seed: Seed = None) -> Tensor:
        """Disturb clips (B, C, T, H, W), each in its own way; of the same shape, type and range."""
        from dsm.disturb.grid import from_unit, identity_grid, to_unit, warp

        if len(clip) == 0 or not any(kind.strength for kind in self.kinds().values()):
            return clip
        draws = self.draw_batch(len(clip), seed, clip)
        x = self.mix(to_unit(clip), draws)
        x = warp(x, self.field(draws, identity_grid(clip.shape[-2], clip.shape[-1], clip)), self.padding)
        return from_unit(x, clip)
