"""Settings of `dsm data preview`."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated

import tyro

from dsm.data.clip_settings import ClipConfig
from dsm.disturb.spatial_mix import SpatialMix
from dsm.disturb.temporal import TemporalMix
from dsm.errors import UserError, nearest
from dsm.evaluate.settings import LEAST_SIDE
from dsm.inputs import ListFile, RootFolder
from dsm.methods.settings import DsmConfig, SldOn
from dsm.pages.settings import PREVIEW_FORMATS
from dsm.views import NegativeLook

TEMPORAL = tuple(kind.name for kind in fields(TemporalMix))


@dataclass(frozen=True)
class PreviewConfig:
    """Settings of `dsm data preview`."""

    videos: tyro.conf.Positional[ListFile]
    """List of the videos."""
    out: Path
    """File to write: a picture (.png, .gif, .mp4), or a page with playing clips and the table (.html)."""
    root: Annotated[RootFolder | None, tyro.conf.arg(aliases=["--data.root"])] = None
    """Folder that relative paths start from; by default the list's own."""
    kinds: tuple[str, ...] = ()
    """Kinds of disturbance to show one by one, or `all`. By default: anchor, positive and negative as in
    training, but without `--augment`."""
    sld: SpatialMix = field(default_factory=lambda: DsmConfig().sld)
    """How the scene is broken: the weight of each kind. Mixed-in pictures are shown at full strength."""
    sld_on: SldOn = DsmConfig.sld_on
    """Whose scene is broken."""
    tld: TemporalMix = field(default_factory=lambda: DsmConfig().tld)
    """How the negative's motion is broken: the weight of each kind."""
    look: NegativeLook = DsmConfig.look
    """Whose crop, colours and SLD the negative copies; see `dsm pretrain --dsm.look`."""
    clip: ClipConfig = field(default_factory=ClipConfig)
    """Shape of a clip."""
    show: int = 3
    """Number of clips to show."""
    measure: int | None = None
    """Number of clips to average the changes over; by default those shown."""
    seed: int = 0
    """Decides which videos, clips and disturbances are drawn."""
    json: Path | None = None
    """File to write the numbers of every clip to."""
    overwrite: bool = False
    """Replace existing files."""

    def __post_init__(self) -> None:
        if self.out.suffix not in PREVIEW_FORMATS:
            raise UserError(f"{self.out}: --out must end in one of {', '.join(PREVIEW_FORMATS)}.")
        if self.show < 1 or self.seed < 0 or (self.measure or 1) < 1:
            raise UserError("show and measure must be at least 1, seed not below 0.")
        if self.clip.modality != "rgb":
            raise UserError("a preview shows frames and their flow: leave --clip.modality at rgb.")
        if self.clip.frames < 2 or self.clip.size < LEAST_SIDE:
            raise UserError(
                f"a preview measures clips of at least 2 frames and {LEAST_SIDE} pixels (--clip)."
            )
        known = (*self.sld.kind_names(), *TEMPORAL)
        for kind in self.kinds:
            if kind not in (*known, "all"):
                raise UserError(f"unknown kind '{kind}'{nearest(kind, known)}")
