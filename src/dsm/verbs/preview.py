"""``dsm data preview``: what the disturbances make of a list's videos, before a week of training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated

import tyro
from rich.markup import escape
from rich.table import Table

from dsm.data.lists import read_list
from dsm.data.reading import ClipConfig
from dsm.disturb.spatial_mix import KINDS as SPATIAL
from dsm.disturb.spatial_mix import SpatialMix
from dsm.disturb.temporal import TemporalMix
from dsm.errors import UserError, nearest
from dsm.evaluate.preview import LEAST_SIDE, Previewer, Shown, Version, as_trained, each_kind
from dsm.files import write_text
from dsm.pages.preview import FORMATS, write_preview
from dsm.runs.folder import claim_file
from dsm.runs.results import mean_and_spread
from dsm.settings import takes_settings
from dsm.terminal import many, progress, warn
from dsm.verbs.result import Result

TEMPORAL = tuple(kind.name for kind in fields(TemporalMix))


@dataclass(frozen=True)
class PreviewConfig:
    """Settings of `dsm data preview`."""

    videos: tyro.conf.Positional[Path]
    """List of the videos."""
    out: Path
    """File to write: a picture (.png, .gif, .mp4), or a page with playing clips and the table (.html)."""
    root: Annotated[Path | None, tyro.conf.arg(aliases=["--data.root"])] = None
    """Folder that relative paths start from; by default the list's own."""
    kinds: tuple[str, ...] = ()
    """Kinds of disturbance to show one by one, or `all`. By default: positive, anchor and negative as in
    training, but without `--augment`."""
    sld: SpatialMix = field(default_factory=SpatialMix)
    """How the anchor's scene is disturbed: the weight of each kind."""
    tld: TemporalMix = field(default_factory=TemporalMix)
    """How the negative's motion is disturbed: the weight of each kind."""
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
        if self.out.suffix not in FORMATS:
            raise UserError(f"{self.out}: --out must end in one of {', '.join(FORMATS)}.")
        if self.show < 1 or self.seed < 0 or (self.measure or 1) < 1:
            raise UserError("show and measure must be at least 1, seed not below 0.")
        if self.clip.modality != "rgb":
            raise UserError("a preview shows frames and their flow: leave --clip.modality at rgb.")
        if self.clip.frames < 2 or self.clip.size < LEAST_SIDE:
            raise UserError(
                f"a preview measures clips of at least 2 frames and {LEAST_SIDE} pixels (--clip)."
            )
        for kind in self.kinds:
            if kind not in (*SPATIAL, *TEMPORAL, "all"):
                raise UserError(f"unknown kind '{kind}'{nearest(kind, (*SPATIAL, *TEMPORAL))}")


@dataclass(frozen=True)
class Change:
    """How far one version of a clip differs from the version it is compared with."""

    path: str
    """The video."""
    version: str
    scene_change: float
    """0 for the same scene, about 1 for one that has nothing in common."""
    motion_change: float
    """0 for the same motion, 1 for none, 2 for the opposite."""


@dataclass(frozen=True)
class PreviewResult(Result):
    """How much of scene and motion each version of each clip changes."""

    changes: Sequence[Change] = ()


@takes_settings(PreviewConfig)
def preview(config: PreviewConfig) -> PreviewResult:
    """Show what the disturbances do to clips of a list, and measure how much of scene and motion they change.

    Videos that cannot be read are named and left out.
    """
    for file in (config.out, config.json):
        if file:
            claim_file(file, overwrite=config.overwrite)
    videos = read_list(config.videos, config.root)
    versions = _versions(config)
    previewer = Previewer(videos, config.clip, versions, config.seed)
    count = max(config.show, config.measure or 0)
    pictures: list[list[Shown]] = []
    changes: list[Change] = []
    measured = 0
    with progress("clips", min(count, len(videos))) as bar:
        for path, shown in previewer.clips(count, on_bad=lambda error: warn(f"left out: {error}")):
            if measured < config.show:
                pictures.append(shown)
            changes += [Change(path, one.name, one.scene, one.motion) for one in shown[1:]]
            measured += 1
            bar.update(measured)
    if not measured:
        raise UserError(f"{videos.source}: not one of its videos could be read.")
    rows = _rows(versions, changes)
    write_preview(config.out, pictures, rows, measured=measured)
    if config.json:
        write_text(config.json, json.dumps({"clips": [asdict(one) for one in changes]}, indent=1) + "\n")
    return PreviewResult(
        files=[file for file in (config.out, config.json) if file],
        tables=[_table(rows, measured)],
        lines=[f"{config.out}: {many(len(pictures), 'clip')} shown, {measured} measured"],
        changes=changes,
    )


def _versions(config: PreviewConfig) -> list[Version]:
    if not config.kinds:
        return as_trained(config.sld, config.tld)
    kinds = (*SPATIAL, *TEMPORAL) if "all" in config.kinds else config.kinds
    return each_kind(
        [kind for kind in kinds if kind in SPATIAL],
        [kind for kind in kinds if kind in TEMPORAL],
        config.sld.strength,
    )


def _rows(versions: list[Version], changes: Sequence[Change]) -> list[tuple[str, str, str, str]]:
    """For each version but the first: its name, what it is compared with, change of scene and of motion."""
    rows = []
    for place, version in enumerate(versions[1:]):
        own = changes[place :: len(versions) - 1]
        rows.append(
            (
                version.name,
                versions[version.against].name,
                mean_and_spread([one.scene_change for one in own]),
                mean_and_spread([one.motion_change for one in own]),
            )
        )
    return rows


def _table(rows: Sequence[tuple[str, str, str, str]], clips: int) -> Table:
    table = Table(title=f"change, mean of {clips} clips", title_justify="left")
    for name in ("", "compared with", "scene", "motion"):
        table.add_column(name, justify="right" if name in ("scene", "motion") else "left")
    for row in rows:
        table.add_row(*map(escape, row))
    return table
