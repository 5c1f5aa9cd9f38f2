"""``dsm explore``: what is in footage, on one page, without a label."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from dsm.data.cameras import clock
from dsm.errors import UserError
from dsm.evaluate.embedding import LEAST, need_spread
from dsm.evaluate.explore import (
    NOISE,
    Explored,
    duplicate_groups,
    rarest,
    rarest_of_groups,
    same_camera,
)
from dsm.evaluate.explore import (
    explore as explore_features,
)
from dsm.evaluate.features import SUFFIXES, Features, load_features
from dsm.evaluate.footage import Footage, best_of, footage_of
from dsm.files import csv_text, write_text
from dsm.models.settings import RANDOM
from dsm.pages.explore import Exploration, write_explore_page
from dsm.runs.bad_videos import LEFT_OUT
from dsm.runs.folder import claim_file, git_revision
from dsm.runs.results import RESULTS, Row, row_of, rows_table, run_and_seed, write_results
from dsm.settings import takes_settings
from dsm.terminal import console, many, progress, warn
from dsm.verbs.extract import extract
from dsm.verbs.result import Result
from dsm.verbs.settings.evaluation import ExtractConfig
from dsm.verbs.settings.exploring import ExploreConfig
from dsm.video.ledger import read_ledger

TABLES = (RESULTS, "clusters.csv", "rarest.csv", "duplicates.csv")
LONG = 30.0
"""Seconds above which one feature for a whole video hides what happens in it."""


@takes_settings(ExploreConfig)
def explore(config: ExploreConfig) -> Result:
    """Put footage on a page: a map, clusters, rare clips, near-duplicates, times and cameras."""
    folder = config.out.with_suffix("")
    files = [folder / name for name in TABLES]
    for file in (config.out, *files):
        claim_file(file, overwrite=config.overwrite)
    features = features_of(config, folder)
    name = str(config.source)
    if len(features) < LEAST:
        raise UserError(
            f"{name}: {many(len(features), 'clip is', 'clips are')} too few to explore; give {LEAST}."
        )
    need_spread(features.features, name)
    with progress("files", len(features)) as bar:
        footage = footage_of(
            features, cameras=config.cameras, camera_regex=config.camera_regex, on_progress=bar.update
        )
    explored, found = examine(config, footage)
    rows = numbers_of(found)
    write_results(files[0], rows, revision=git_revision())
    write_text(files[1], clusters_csv(footage, explored))
    write_text(files[2], rarest_csv(footage, found))
    write_text(files[3], duplicates_csv(footage, found))
    with progress("page", 1) as bar:
        stored = write_explore_page(config.out, found, clips=config.clips)
        bar.update(1)
    if config.clips and not stored:
        warn("no clips in the page: none of the videos can be read any more; --root says where they are now.")
    lines = [
        f"{config.out}: {many(len(features), 'clip')}, {many(stored, 'of them plays', 'of them play')}, "
        f"{config.out.stat().st_size / 1e6:.1f} MB",
        f"{folder}: {', '.join(TABLES)}",
    ]
    return Result(rows, [config.out, *files], [rows_table([row for row in rows if row.value <= 1])], lines)


def features_of(config: ExploreConfig, folder: Path) -> Features:
    """The features to explore: the file given, or those of the footage, which are extracted once.

    Raises:
        UserError: footage without weights; or features cannot be read or extracted.
    """
    if config.source.suffix in SUFFIXES and config.source.is_file():
        file = config.source
    else:
        if config.weights is None:
            raise UserError(
                f"{config.source}: footage needs an encoder; give --weights with a run of `dsm pretrain` or "
                f"a checkpoint, or --weights {RANDOM} for random weights, which see little but the place."
            )
        file = folder / "features.npz"
        # An extraction of the same footage by the same weights is kept.
        if not file.exists() or config.overwrite:
            extract(
                ExtractConfig(
                    config.weights, config.source, file, root=config.root, loading=config.loading,
                    clip=config.clip, settings=config.settings, overwrite=config.overwrite,
                )
            )  # fmt: skip
    features = load_features(file)
    if config.root is not None:
        meta = features.meta | {"root": str(config.root.absolute())}
        features = replace(features, meta=meta, within=config.root)
    ledger = file.with_name(file.name + LEFT_OUT)
    if ledger.exists():
        warn(f"{file}: {many(len(read_ledger(ledger)), 'video')} could not be read; see {ledger}")
    return features


def examine(config: ExploreConfig, footage: Footage) -> tuple[Explored, Exploration]:
    """Compute everything that the page shows."""
    features, videos = footage.features, footage.videos
    with progress("map and clusters", 1) as bar:
        explored = explore_features(
            features.features, videos, k=config.neighbours, least=config.least, seed=config.loading.seed
        )
        bar.update(1)
    groups = []
    for group in duplicate_groups(explored.near, videos, config.duplicates):
        best = best_of(group, footage)
        groups.append([best, *(row for row in group if row != best)])
    notes = []
    long = len({video for video, one in zip(videos, footage.seconds.tolist(), strict=True) if one > LONG})
    if long and features.times is None:
        notes.append(
            f"{many(long, 'video is', 'videos are')} longer than {LONG:g} s, each one dot here; with "
            "--per-clip --every 5 each of their clips is one."
        )
    weights = str(features.meta.get("weights"))
    if weights == RANDOM:
        notes.append("The weights are random: what is near here looks alike, and says nothing about motion.")
    for note in notes:
        console.print(note)
    folder = config.out.with_suffix("")
    return explored, Exploration(
        name=config.source.stem if config.source.is_file() else config.source.absolute().name,
        footage=footage,
        explored=explored,
        same=same_camera(explored.near, footage.cameras, videos),
        rare=rarest(explored.oddness, videos, config.rarest),
        rare_by_camera=rarest_of_groups(
            features.features, footage.cameras, videos, max(config.rarest // 4, 1), k=config.neighbours
        )
        if len(set(footage.cameras)) > 1
        else {},
        groups=groups,
        files=[folder / name for name in TABLES],
        notes=notes,
        weights=run_and_seed(features.meta)[0],
    )


def numbers_of(found: Exploration) -> list[Row]:
    """The numbers as rows of results.json."""
    features, clusters = found.footage.features, found.explored.clusters
    run, seed = run_and_seed(features.meta)
    named = run, seed, str(features.meta.get("list", "footage"))
    count = len(features)
    held = float((clusters != NOISE).mean())
    spare = sum(len(group) - 1 for group in found.groups)
    rows = [
        Row(*named, "clusters", len(found.explored.typical), None, None, count),
        Row(*named, "in_clusters", held, None, None, count),
        Row(*named, "near_duplicates", spare / count, None, None, count),
    ]
    if found.same is not None:
        rows.append(row_of(*named, "same_camera", found.same.share, count))
        rows.append(Row(*named, "same_camera_chance", found.same.chance, None, None, count))
    return rows


def place_of(footage: Footage, row: int) -> list[str]:
    """A row's path, begin, end, camera and time, as cells of a table."""
    times = footage.features.times
    known = times is not None and np.isfinite(times[row]).all()
    begin, end = (f"{one:.2f}" for one in times[row]) if times is not None and known else ("", "")
    return [footage.features.paths[row], begin, end, footage.cameras[row], clock(float(footage.times[row]))]


PLACE = ("path", "begin", "end", "camera", "time")


def clusters_csv(footage: Footage, explored: Explored) -> str:
    """A line per clip: its cluster from 1 on (empty if none), and how rare it is."""
    lines = [[*PLACE, "cluster", "distance"]]
    for row, cluster in enumerate(explored.clusters.tolist()):
        name = "" if cluster == NOISE else str(cluster + 1)
        lines.append([*place_of(footage, row), name, f"{explored.oddness[row]:.4f}"])
    return csv_text(lines)


def rarest_csv(footage: Footage, found: Exploration) -> str:
    """The rarest clips, overall and of each camera."""
    lines = [["among", "rank", *PLACE, "distance"]]
    for among, rows in {"all": found.rare, **found.rare_by_camera}.items():
        for rank, row in enumerate(rows, start=1):
            lines.append([among, str(rank), *place_of(footage, row), f"{found.explored.oddness[row]:.4f}"])
    return csv_text(lines)


def duplicates_csv(footage: Footage, found: Exploration) -> str:
    """A line per clip of a group of near-duplicates, the one to keep first."""
    lines = [["group", "keep", *PLACE, "width", "height", "seconds"]]
    for number, group in enumerate(found.groups, start=1):
        for place, row in enumerate(group):
            width, height = (str(one) if one else "" for one in footage.pixels[row])
            seconds = f"{footage.seconds[row]:.2f}" if np.isfinite(footage.seconds[row]) else ""
            keep = "yes" if place == 0 else "no"
            lines.append([str(number), keep, *place_of(footage, row), width, height, seconds])
    return csv_text(lines)
