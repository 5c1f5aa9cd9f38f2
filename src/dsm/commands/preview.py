"""``dsm data preview``: what the disturbances make of a list's videos, before a week of training."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from dsm.analyse.change import LEAST_SIDE
from dsm.analyse.preview import Previewer, Shown, Version, as_trained, each_kind
from dsm.analyse.preview_pictures import FORMATS, write_preview
from dsm.datasets.lists import read_list
from dsm.datasets.reading import ClipConfig
from dsm.disturb.spatial_mix import KINDS as SPATIAL
from dsm.disturb.spatial_mix import SpatialMix
from dsm.disturb.temporal import TemporalMix
from dsm.engine.progress import console, progress
from dsm.engine.runfolder import claim_file
from dsm.errors import UserError, nearest
from dsm.evaluate.results import mean_and_spread
from dsm.files import write_text
from dsm.notes import many
from dsm.video.source import VideoError

TEMPORAL = tuple(kind.name for kind in fields(TemporalMix))


@dataclass(frozen=True)
class PreviewConfig:
    """Settings of `dsm data preview`."""

    videos: tyro.conf.Positional[Path]
    """List of the videos."""
    out: Path
    """Picture to write: .png, .gif, .mp4, or .html with playing clips and the table."""
    root: Annotated[Path | None, tyro.conf.arg(aliases=["--data.root"])] = None
    """Folder put before relative paths; left out, the list's own."""
    kinds: tuple[str, ...] = ()
    """Kinds to show one by one, or `all`; left out, positive, anchor and negative as they are trained on, but
    for what `--augment` does."""
    sld: SpatialMix = field(default_factory=SpatialMix)
    """How the anchor's scene is broken: the weight of each kind."""
    tld: TemporalMix = field(default_factory=TemporalMix)
    """How the negative's motion is broken: the weight of each kind."""
    clip: ClipConfig = field(default_factory=ClipConfig)
    """The shape of a clip."""
    show: int = 3
    """Clips in the picture."""
    measure: int | None = None
    """Clips over which the changes are averaged; left out, those shown."""
    seed: int = 0
    """Chooses videos, clips and disturbances."""
    json: Path | None = None
    """File for the numbers of every clip."""
    overwrite: bool = False
    """Replace existing files."""

    def __post_init__(self) -> None:
        if self.out.suffix not in FORMATS:
            raise UserError(f"{self.out}: --out must end in one of {', '.join(FORMATS)}.")
        if self.show < 1 or self.seed < 0 or (self.measure or 1) < 1:
            raise UserError("show and measure must be at least 1, seed not below 0.")
        if self.clip.modality != "rgb":
            raise UserError("a preview shows colours beside their flow: leave --clip.modality at rgb.")
        if self.clip.frames < 2 or self.clip.size < LEAST_SIDE:
            raise UserError(
                f"a preview measures clips of at least 2 frames and {LEAST_SIDE} pixels (--clip)."
            )
        for kind in self.kinds:
            if kind not in (*SPATIAL, *TEMPORAL, "all"):
                raise UserError(f"unknown kind '{kind}'{nearest(kind, (*SPATIAL, *TEMPORAL))}")


def preview(config: PreviewConfig) -> None:
    """Show and measure; videos that cannot be read are named and left out."""
    for file in (config.out, config.json):
        if file:
            claim_file(file, overwrite=config.overwrite)
    videos = read_list(config.videos, config.root)
    versions = _versions(config)
    previewer = Previewer(videos, config.clip, versions, config.seed)
    wanted = max(config.show, config.measure or 0)
    order = np.random.default_rng(config.seed).permutation(len(videos))
    found: list[tuple[str, list[Shown]]] = []
    pictures: list[list[Shown]] = []
    with progress("clips", min(wanted, len(videos))) as bar:
        for place, index in enumerate(order):
            try:
                shown = previewer.show(int(index), int(order[(place + 1) % len(order)]))
            except VideoError as error:
                console.print(f"left out: {error}", style="yellow")
                continue
            if len(pictures) < config.show:
                pictures.append(shown)
            found.append((videos.paths[index], shown))
            bar.update(len(found))
            if len(found) == wanted:
                break
    if not found:
        raise UserError(f"{videos.source}: not one of its videos could be read.")
    rows = _rows(versions, [shown for _, shown in found])
    write_preview(config.out, pictures, rows, measured=len(found))
    if config.json:
        clips = [
            {"path": path, "version": one.name, "scene_change": one.scene, "motion_change": one.motion}
            for path, shown in found
            for one in shown[1:]
        ]
        write_text(config.json, json.dumps({"clips": clips}, indent=1) + "\n")
    _print(rows, len(found))
    console.print(f"{config.out}: {many(len(pictures), 'clip')} shown, {len(found)} measured")


def _versions(config: PreviewConfig) -> list[Version]:
    if not config.kinds:
        return as_trained(config.sld, config.tld)
    wanted = (*SPATIAL, *TEMPORAL) if "all" in config.kinds else config.kinds
    return each_kind(
        [kind for kind in wanted if kind in SPATIAL],
        [kind for kind in wanted if kind in TEMPORAL],
        config.sld.strength,
    )


def _rows(versions: list[Version], found: list[list[Shown]]) -> list[tuple[str, str, str, str]]:
    """For each version but the first: its name, what it is compared with, change of scene and of motion."""
    return [
        (
            version.name,
            versions[version.against].name,
            mean_and_spread([shown[place].scene for shown in found]),
            mean_and_spread([shown[place].motion for shown in found]),
        )
        for place, version in enumerate(versions)
        if place
    ]


def _print(rows: list[tuple[str, str, str, str]], clips: int) -> None:
    table = Table(title=f"change, mean of {many(clips, 'clip')}", title_justify="left")
    for name in ("", "compared with", "scene", "motion"):
        table.add_column(name, justify="right" if name in ("scene", "motion") else "left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
