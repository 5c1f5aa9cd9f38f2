"""Settings of `dsm look`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, get_args

import tyro

from dsm.data.clip_settings import ClipChanges
from dsm.data.list_lines import ENDINGS
from dsm.errors import UserError
from dsm.evaluate.settings import PROBES, MapKind, MotionKind, ProbeName
from dsm.inputs import GroupsTable, RootFolder, Videos, Weights
from dsm.models.settings import LoadSettings
from dsm.pages.settings import FILM_FORMATS, Colours


@dataclass(frozen=True)
class LookConfig:
    """Settings of `dsm look`."""

    video: tyro.conf.Positional[Videos]
    """A video, or with --score a list of videos."""
    weights: Weights
    """A run folder of `dsm pretrain` or `dsm finetune`, a checkpoint, or `none` for random weights."""
    out: Path
    """Picture to write: .gif, .mp4, or a film strip as .png or .jpg; with --score, a folder."""
    score: bool = False
    """Score a list: the share of the map that lies where things move, compared with chance."""
    probe: tuple[Literal[ProbeName, "all"], ...] = ("clip",)
    """`clip`: unchanged; `frozen`: one frame repeated; `pasted`: a still actor added; `mixed`: a still frame
    blended in; or `all`."""
    target_class: str | None = None
    """For a classifier: the class to explain, by name or number; by default the predicted one."""
    target: Path | None = None
    """For an encoder: show what makes the clip similar to this video; by default, to itself."""
    map: MapKind = "cam"
    """`cam`: what each place adds to the score; `grad-cam`: channels weighted by their mean gradient."""
    layer: str | None = None
    """Module whose feature map is used; by default the last that has one."""
    head: Literal["features", "projection"] = "features"
    """Embedding of an encoder to compare: its pooled features, or the output of its projection head."""
    start: int | None = None
    """First frame of the clip; by default the clip is taken from the middle of the video."""
    other: Path | None = None
    """Video that supplies the still actor and the still frame; by default the start of the same video."""
    paste_at: tuple[float, float] | None = None
    """Where to paste the still actor, as shares of width and height; by default the calmest corner."""
    mix: float = 0.5
    """Weight of the still frame when it is blended in."""
    colours: Colours = "inferno"
    """Colour map; all are safe for colour-blind readers."""
    root: Annotated[RootFolder | None, tyro.conf.arg(aliases=["--data.root"])] = None
    """With --score: folder that relative paths start from; by default the list's own."""
    windows: int = 1
    """With --score: clips per video, evenly spaced."""
    motion: MotionKind = "difference"
    """With --score: find motion by frame `difference` or by optical `flow` (needs OpenCV)."""
    groups: GroupsTable | None = None
    """With --score: table with the group of each video; confidence intervals then resample whole groups."""
    group_regex: str = ""
    """Regular expression that finds the group in a path, instead of a table."""
    workers: int = 1
    """With --score: processes that decode videos."""
    loading: Annotated[LoadSettings, tyro.conf.arg(name="")] = field(default_factory=LoadSettings)
    clip: Annotated[ClipChanges, tyro.conf.arg(name="")] = field(default_factory=ClipChanges)
    overwrite: bool = False
    """Replace existing files."""

    def __post_init__(self) -> None:
        if self.windows < 1 or min(self.workers, self.start or 0) < 0:
            raise UserError("windows must be at least 1; workers and start must not be below 0.")
        if not 0 <= self.mix <= 1 or not all(0 <= share <= 1 for share in self.paste_at or ()):
            raise UserError("mix and paste-at must be shares, from 0 to 1.")
        if self.score:
            if self.out.suffix in FILM_FORMATS:
                raise UserError(f"{self.out}: with --score, --out is a folder, not a picture.")
            if len(self.probes) != 1 or self.probes == ("frozen",) or self.other or self.start is not None:
                raise UserError(
                    "--score takes one --probe in which something moves (clip, pasted or mixed), and neither "
                    "--other nor --start."
                )
        elif self.out.suffix not in FILM_FORMATS:
            raise UserError(f"{self.out}: --out must end in one of {', '.join(FILM_FORMATS)}.")
        elif self.video.suffix.lower() in ENDINGS:
            raise UserError(f"{self.video}: is a list; add --score to measure it, or give one of its videos.")

    @property
    def probes(self) -> tuple[ProbeName, ...]:
        if "all" in self.probe:
            return PROBES
        return tuple(name for name in get_args(ProbeName) if name in self.probe)
