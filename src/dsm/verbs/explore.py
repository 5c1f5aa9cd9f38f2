"""``dsm explore``: one page about unlabelled footage."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dsm.data.lists import read_list
from dsm.data.settings import ClipChanges
from dsm.errors import UserError
from dsm.evaluate.embedding import LEAST, need_spread
from dsm.evaluate.explore import duplicate_groups, rarest, rarest_of_groups, same_camera
from dsm.evaluate.explore import explore as explore_features
from dsm.evaluate.feature_files import SUFFIXES, load_features
from dsm.evaluate.features import BELOW, Features, same_clips, same_encoder
from dsm.evaluate.footage import Footage, best_first, footage_of, names_in
from dsm.evaluate.novelty import novelty
from dsm.evaluate.search import how_made
from dsm.evaluate.suggest import labels_of, least_sure
from dsm.files import is_hidden, write_text
from dsm.models.settings import RANDOM
from dsm.pages.explore import Exploration, Part, ShownRow, Tile, place_and_time, write_explore_page
from dsm.pages.explore_tables import (
    CLUSTERS,
    alerts_csv,
    clusters_csv,
    duplicates_csv,
    labels_csv,
    names_clusters,
    rarest_csv,
    read_names,
    suggestions_csv,
)
from dsm.runs.bad_videos import tell_left_out_of
from dsm.runs.claims import claim_files
from dsm.runs.results import RESULTS, Row, row_of, rows_table, run_and_seed, write_results
from dsm.settings import takes_settings
from dsm.terminal import console, many, progress, warn
from dsm.verbs.extract import extract_once
from dsm.verbs.result import Result
from dsm.verbs.settings.evaluation import ExtractConfig
from dsm.verbs.settings.exploring import ExploreConfig
from dsm.video.segments import without_segment
from dsm.weights_names import MOTION

SUGGESTIONS, LABELS, ALERTS = "suggestions.csv", "labels.csv", "alerts.csv"
ALERTS_SHOWN = 24
FEATURES = "features.npz"
TABLES = (RESULTS, CLUSTERS, "rarest.csv", "duplicates.csv")
LONG = 30.0
"""Seconds; a single feature of a longer video hides what happens in it."""


@takes_settings(ExploreConfig)
def explore(config: ExploreConfig) -> Result:
    """Write a page about footage: a map, clusters, rare clips, near-duplicates, times and cameras."""
    folder = config.out.with_suffix("")
    _check_folder(folder, config)
    files = [folder / name for name in TABLES]
    extra = [folder / SUGGESTIONS] if config.labels else []
    extra += [folder / LABELS] if config.labels and names_clusters(config.labels) else []
    extra += [folder / ALERTS] if config.against else []
    claim_files(config.out, *files, *extra, overwrite=config.overwrite)
    if config.settings.tokens:
        raise UserError("--tokens is for the attentive probe; dsm explore needs features: remove it.")
    archive = load_features(config.against) if config.against else None
    if archive is not None:
        archive.need_pooled(str(config.against), "dsm explore")
    features = features_of(config, folder, archive)
    features.need_pooled(config.source, "dsm explore")
    _check_apart(folder, *(features.meta.get(name) for name in ("root", BELOW)))
    name = str(config.source)
    if len(features) < LEAST:
        raise UserError(
            f"{name}: {many(len(features), 'clip is', 'clips are')} too few to explore; {LEAST} are needed."
        )
    need_spread(features.features, name)
    with progress("files", len(features)) as bar:
        footage = footage_of(
            features, cameras=config.cameras, camera_regex=config.camera_regex, on_progress=bar.update
        )
    found = examine(config, footage)
    rows = numbers_of(found)
    if config.labels is not None:
        found = _suggest(config, found, folder)
    if archive is not None:
        found, share = _alert(config, archive, found, folder)
        rows.append(share)
    write_results(files[0], rows)
    write_text(files[1], clusters_csv(footage, found.explored))
    write_text(files[2], rarest_csv(footage, found))
    write_text(files[3], duplicates_csv(footage, found))
    with progress("page", 1) as bar:
        stored = write_explore_page(config.out, found, clips=config.clips)
        bar.update(1)
    if config.clips and not stored:
        warn("no clips play in the page: none of the videos can be read; set --root to where they are now.")
    lines = [
        f"{config.out}: {many(len(features), 'clip')}, {many(stored, 'of them plays', 'of them play')}, "
        f"{config.out.stat().st_size / 1e6:.1f} MB",
        f"{folder}: {', '.join(file.name for file in (*files, *extra))}",
    ]
    return Result(
        rows,
        [config.out, *files, *extra],
        [rows_table(rows)],
        lines,
    )


def _check_folder(folder: Path, config: ExploreConfig) -> None:
    """Raise UserError if tables would land in the footage, or among files of others."""
    _check_apart(folder, config.source, config.root)
    if not folder.is_dir():
        return
    within = {file.name for file in folder.iterdir() if not is_hidden(file.name)}
    own = {*TABLES, SUGGESTIONS, LABELS, ALERTS}
    if within and not any(name in own or name.startswith(FEATURES) for name in within):
        raise UserError(
            f"{folder}: holds other files, and the tables of {config.out.name} would land among them; choose "
            "another --out."
        )


def _check_apart(folder: Path, *footage: Any) -> None:
    for place in footage:
        if place and os.path.realpath(folder) == os.path.realpath(place):
            raise UserError(f"{folder} is the footage; choose another --out, so that no tables land in it.")


def features_of(config: ExploreConfig, folder: Path, archive: Features | None) -> Features:
    """The features to explore: those of the given file, or of the footage, extracted once.

    Raises:
        UserError: features cannot be read or extracted, or those of an earlier call are of other weights,
            videos or settings.
    """
    if config.source.suffix in SUFFIXES and config.source.is_file():
        file = config.source
    else:
        file = folder / FEATURES
        if archive is not None:
            how = _like(archive, config, file)
        else:
            how = ExtractConfig(
                config.weights or MOTION, config.source, file, root=config.root, loading=config.loading,
                clip=config.clip, settings=config.settings, overwrite=config.overwrite,
            )  # fmt: skip
        extract_once(how)
    features = load_features(file)
    if config.root is not None:
        features = features.rooted(config.root)
    tell_left_out_of(file)
    return features


def _like(archive: Features, config: ExploreConfig, file: Path) -> ExtractConfig:
    """Settings to extract footage like the archive: its weights, clips and windows.

    Raises:
        UserError: the archive does not name its weights.
    """
    made = how_made(archive, str(config.against), config.weights)
    clip = made.clip
    return ExtractConfig(
        made.weights, config.source, file, root=config.root,
        loading=replace(
            config.loading, backbone=made.backbone, pooling=made.pooling, seed=made.seed, init=made.init,
            partial=True,
        ),
        clip=ClipChanges(clip.frames, clip.stride, clip.resize, clip.size),
        settings=replace(
            config.settings, windows=made.windows, crops=made.crops, every=made.every,
            per_clip=archive.times is not None,
        ),
        overwrite=config.overwrite,
    )  # fmt: skip


def _suggest(config: ExploreConfig, found: Exploration, folder: Path) -> Exploration:
    """Add the clips to label next, and write their table."""
    assert config.labels is not None
    footage = found.footage
    if names_clusters(config.labels):
        listed = read_names(config.labels, footage)
        write_text(folder / LABELS, labels_csv(listed))
    else:
        listed = read_list(config.labels, config.root)
    labels = labels_of(footage, listed)
    suggested = least_sure(footage.features, labels, footage.videos, config.suggestions)
    write_text(folder / SUGGESTIONS, suggestions_csv(footage, suggested))
    tiles = [Tile(row, f"margin {margin:.0%}: {place_and_time(footage, row)}") for row, margin in suggested]
    given, kinds = int((labels >= 0).sum()), len(np.unique(labels[labels >= 0]))
    text = (
        f"{given} of {many(len(labels), 'clip')} {'has' if given == 1 else 'have'} one of {kinds} labels. A "
        "probe trained on them is least sure of these clips: its two most probable labels are nearly equal "
        "(the margin is the difference of their probabilities). Label them next."
    )
    if not tiles:
        text = f"All {many(given, 'clip')} have one of {kinds} labels: none is left to label."
    rows = [ShownRow("", tiles)] if tiles else []
    return replace(found, more=[*found.more, Part("Label next", text, rows)])


def _alert(
    config: ExploreConfig, archive: Features, found: Exploration, folder: Path
) -> tuple[Exploration, Row]:
    """Add the clips that are unlike the archive, and write ``alerts.csv``.

    Raises:
        UserError: the archive was made with other weights or clips, or is too small for the rate.
    """
    footage = found.footage
    features = footage.features
    names = str(config.against), str(config.source)
    same_encoder(archive, features, names)
    same_clips(archive, features, names, spread=True)
    # Segments of a file resemble each other as clips of a video do.
    apart = config.grouping.of(archive.paths, intervals=False)
    apart = apart or [without_segment(video) for video in archive.identities()]
    new = novelty(
        archive.features, apart, features.features, rate=config.false_alarms, seed=config.loading.seed
    )
    order = np.flatnonzero(new.alarms)
    order = order[np.argsort(-new.scores[order], kind="stable")]
    write_text(folder / ALERTS, alerts_csv(footage, new, names_in(archive), order.tolist()))
    tiles = [
        Tile(row, f"distance {new.scores[row]:.2f}: {place_and_time(footage, row)}")
        for row in order[:ALERTS_SHOWN].tolist()
    ]
    share = float(new.alarms.mean())
    text = (
        f"{len(order)} of {many(len(features), 'clip')} ({share:.1%}) are unlike anything in "
        f"{config.against}: their mean distance to its nearest clips is above {new.threshold:.2f}. This "
        f"threshold, set on {new.held} held-out videos of the archive, raises an alarm for at most "
        f"{config.false_alarms:.1%} of clips like the archive's, on average over archives. The rate holds "
        "for the same cameras in the same conditions: another camera, season or light is new too, and "
        "raises more alarms. If a clip raises an alarm, other clips of its video often do too. The test "
        "cannot tell whether a new clip matters, or how many new events are missed."
    )
    if share > 10 * config.false_alarms:
        text += " So many alarms mean that the footage as a whole differs, perhaps in its cameras or light."
    run, seed = run_and_seed(features.meta)
    row = Row(
        run, seed, str(features.meta.get("list", "footage")), "alarms", share, None, None, len(features)
    )
    part = Part("New here", text, [ShownRow("", tiles)] if tiles else [])
    return replace(found, more=[part, *found.more]), row


def examine(config: ExploreConfig, footage: Footage) -> Exploration:
    """Compute everything that the page shows."""
    features, videos = footage.features, footage.videos
    with progress("map and clusters", 1) as bar:
        explored = explore_features(
            features.features, videos, k=config.neighbours, least=config.least, seed=config.loading.seed
        )
        bar.update(1)
    duplicates = duplicate_groups(explored.across, config.duplicates)
    groups = [best_first(group, footage) for group in duplicates]
    notes = []
    long = len({video for video, one in zip(videos, footage.seconds.tolist(), strict=True) if one > LONG})
    if long and features.times is None:
        notes.append(
            f"{many(long, 'video is', 'videos are')} longer than {LONG:g} s, each shown as one dot; extract "
            "with --per-clip --every 5 to show each of their clips."
        )
    if footage.times_from == "doubtful":
        notes.append(
            "No times are shown: no file name has one, and few files have creation times, or they are too "
            "close together to be those of the recordings, as after a conversion."
        )
    weights = str(features.meta.get("weights"))
    if weights == RANDOM:
        notes.append("The weights are random: neighbours look alike, which says nothing about motion.")
    if weights == MOTION:
        notes.append(
            "These are the weights that come with dsm, trained on synthetic videos: for a first look. "
            "Weights trained on this footage find more of its motion."
        )
    for note in notes:
        console.print(note)
    folder = config.out.with_suffix("")
    return Exploration(
        name=_name(config.source.absolute()),
        footage=footage,
        explored=explored,
        same=same_camera(explored.across, footage.cameras, videos),
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


def _name(source: Path) -> str:
    """The name of the footage in the page's title; lists are often named alike, as `all.txt`."""
    if not source.is_file():
        return source.name
    return source.stem if source.suffix in SUFFIXES else f"{source.parent.name}/{source.name}"


def numbers_of(found: Exploration) -> list[Row]:
    """The numbers as rows of results.json."""
    features = found.footage.features
    run, seed = run_and_seed(features.meta)
    named = run, seed, str(features.meta.get("list", "footage"))
    count = len(features)
    rows = [
        Row(*named, "clusters", len(found.explored.typical), None, None, count),
        Row(*named, "in_clusters", found.clustered, None, None, count),
        Row(*named, "near_duplicates", found.spare / count, None, None, count),
    ]
    if found.same is not None:
        rows.append(row_of(*named, "same_camera", found.same.share, count))
        rows.append(Row(*named, "same_camera_chance", found.same.chance, None, None, count))
    return rows
