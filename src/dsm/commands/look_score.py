"""The number of ``dsm look --score``: a list's maps, and how much of them lies where things move."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dsm.analyse.look import Looker, in_colour
from dsm.analyse.motion_mass import MassMeter, Measured, moving_area
from dsm.analyse.probes import make_probe
from dsm.datasets.evaluation_clips import EvaluationClips
from dsm.datasets.groups import find_groups
from dsm.datasets.lists import needed, read_list
from dsm.datasets.loading import load_clips
from dsm.engine.extraction import digest
from dsm.engine.progress import console, progress
from dsm.engine.runfolder import claim_by_settings, git_revision, lasting
from dsm.errors import UserError
from dsm.evaluate.bootstrap import mean_interval
from dsm.evaluate.results import RESULTS, Row, print_rows, row_of, write_results
from dsm.files import csv_text, write_text
from dsm.notes import many

if TYPE_CHECKING:
    from dsm.commands.look import LookConfig


def score_list(config: LookConfig, looker: Looker, *, run: str, seed: int) -> list[Row]:
    """Measure every video of the list; write results.json and look.csv into ``config.out``.

    The still actor or still frame of a probe comes from the video before (of the first, from itself).

    Raises:
        UserError: the list or the groups are wrong, or not one video could be measured.
    """
    videos = read_list(config.video, config.root)
    groups = find_groups(videos.paths, file=config.groups, regex=config.group_regex)
    made_by = {"list_digest": videos.digest(rooted=False), "weights_digest": digest(looker.module)}
    settings = lasting(config) | made_by
    claim_by_settings(
        config.out, "look.json", settings, what="a look",
        overwrite=config.overwrite, needed=needed(videos, Path(config.weights), config.groups),
    )  # fmt: skip
    meter, shown = MassMeter(), looker.clip.frames
    probe = config.probes[0]
    before: NDArray[np.uint8] | None = None  # the clips of the last video that could be read
    in_list = EvaluationClips(videos, in_colour(looker.clip), config.windows, workers=config.workers)
    with progress(f"maps of {run}", len(videos)) as bar:
        for place, read in enumerate(load_clips(in_list, 1, workers=config.workers, past_bad=True)):
            path = videos.paths[place]
            if not read["bad"]:
                clips = read["clips"].numpy()
                others = clips if before is None else before
                frames = np.stack(
                    [
                        make_probe(probe, one, two, share=config.mix, at=config.paste_at)
                        for one, two in zip(clips, others, strict=True)
                    ]
                )
                areas = [moving_area(clip, config.motion)[:shown] for clip in frames]
                still = None
                if probe == "pasted":
                    put = (frames != clips).any(-1).any(1, keepdims=True)  # (clips, 1, S, S)
                    still = [one & ~area for one, area in zip(put, areas, strict=True)]
                meter.add(path, list(looker.look(frames).maps), areas, still)
                before = clips
            else:
                meter.leave_out(path, read["bad"][0].reason)
            if meter.found[-1].reason:
                console.print(f"left out: {path}: {meter.found[-1].reason}", style="yellow")
            bar.update(place + 1)
    found = meter.finish()
    rows = rows_of(found, groups, run=run, seed=seed, test=config.video.stem)
    write_results(config.out / RESULTS, rows, revision=git_revision())
    write_text(config.out / "look.csv", to_csv(found))
    print_rows(rows)
    left = sum(1 for one in found if one.reason)
    console.print(
        f"{config.out}: results.json and look.csv; {many(len(found) - left, 'video')}, {left} left out"
    )
    return rows


def rows_of(
    found: Sequence[Measured], groups: Sequence[str] | None, *, run: str, seed: int, test: str
) -> list[Row]:
    """The mass, both kinds of chance, and how much more it is than each, in pairs of the same videos.

    Raises:
        UserError: there is not one measured video.
    """
    kept = [place for place, one in enumerate(found) if not one.reason]
    if not kept:
        raise UserError(f"not one of the {len(found)} videos could be measured; the first: {found[0].reason}")
    mass, area, other = (
        np.array([getattr(found[place], name) for place in kept]) for name in ("mass", "area", "other")
    )
    values = {"map_mass_on_motion": mass, "motion_area": area, "map_mass_above_area": mass - area}
    if np.isfinite(other).any():
        values |= {"other_map_mass_on_motion": other, "map_mass_above_other_map": mass - other}
    prefers = np.array([found[place].prefers for place in kept])
    if np.isfinite(prefers).any():
        values["prefers_motion_to_still"] = prefers
    rows = []
    for metric, numbers in values.items():
        known = np.flatnonzero(np.isfinite(numbers))
        of = None if groups is None else [groups[kept[place]] for place in known]
        rows.append(row_of(run, seed, test, metric, mean_interval(numbers[known], groups=of), len(known)))
    return rows


def to_csv(found: Sequence[Measured]) -> str:
    """A line a video."""
    names = ("map_mass_on_motion", "motion_area", "other_map_mass_on_motion", "prefers_motion_to_still")
    lines = [["path", *names, "left_out"]]
    for one in found:
        values = one.mass, one.area, one.other, one.prefers
        numbers = ("" if np.isnan(value) else f"{value:.5f}" for value in values)
        lines.append([one.path, *numbers, one.reason])
    return csv_text(lines)
