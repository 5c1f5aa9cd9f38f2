"""``dsm data preview``: what the disturbances do to a list's videos, to check before a long training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.markup import escape
from rich.table import Table

from dsm.data.lists import read_list
from dsm.errors import UserError
from dsm.evaluate.preview import Previewer, Shown, Version, as_trained, each_kind
from dsm.files import write_text
from dsm.intervals import spread_of
from dsm.methods.settings import DsmConfig
from dsm.pages.preview import MeanChange, write_preview
from dsm.runs.claims import claim_files
from dsm.settings import takes_settings
from dsm.terminal import many, progress, warn
from dsm.verbs.result import Result
from dsm.verbs.settings.data import TLD_KINDS, PreviewConfig


@dataclass(frozen=True)
class Change:
    """How far one version of a clip differs from the version it is compared with."""

    path: str
    """The video."""
    version: str
    scene_change: float
    """0 for the same scene, about 1 for an unrelated one."""
    motion_change: float
    """0 for the same motion, 1 for none, 2 for the opposite."""


@dataclass(frozen=True)
class PreviewResult(Result):
    """How much each version of each clip changes the scene and the motion."""

    changes: Sequence[Change] = ()


@takes_settings(PreviewConfig)
def preview(config: PreviewConfig) -> PreviewResult:
    """Show what the disturbances do to clips of a list, and measure how much of scene and motion they change.

    Videos that cannot be read are named and left out.
    """
    claim_files(config.out, config.json, overwrite=config.overwrite)
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
        raise UserError(f"{videos.source}: none of its videos can be read.")
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
        dsm = DsmConfig(sld=config.sld, sld_on=config.sld_on, tld=config.tld, look=config.look)
        return as_trained(dsm)
    spatial = config.sld.kind_names()
    kinds = (*spatial, *TLD_KINDS) if "all" in config.kinds else config.kinds
    return each_kind(
        [kind for kind in kinds if kind in spatial],
        [kind for kind in kinds if kind in TLD_KINDS],
        config.sld,
    )


def _rows(versions: list[Version], changes: Sequence[Change]) -> list[MeanChange]:
    """One for each version but the first."""
    rows = []
    for place, version in enumerate(versions[1:]):
        own = changes[place :: len(versions) - 1]
        rows.append(
            MeanChange(
                version.name,
                versions[version.against].name,
                spread_of([one.scene_change for one in own]),
                spread_of([one.motion_change for one in own]),
            )
        )
    return rows


def _table(rows: Sequence[MeanChange], clips: int) -> Table:
    table = Table(title=f"change, mean of {clips} clips", title_justify="left")
    for name in ("", "compared with", "scene", "motion"):
        table.add_column(name, justify="right" if name in ("scene", "motion") else "left")
    for row in rows:
        table.add_row(*map(escape, (row.version, row.against, str(row.scene), str(row.motion))))
    return table
