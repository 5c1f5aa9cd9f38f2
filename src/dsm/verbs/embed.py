"""``dsm embed``: a map of the videos by their features, and how well the features separate labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.markup import escape
from rich.table import Table

from dsm.data.cameras import cameras_of
from dsm.data.groups import read_groups
from dsm.errors import UserError
from dsm.evaluate.embedding import NEIGHBOURS, Embedded, nearest_others, need_spread, numbers_of, plane
from dsm.evaluate.feature_files import load_features
from dsm.evaluate.features import Features, label_names, numbered_alike, same_encoder
from dsm.evaluate.retrieval import retrieve
from dsm.evaluate.settings import MapName
from dsm.pages.embedding import RIGHT, WRONG, draw_embeddings, number_table, write_embedding_page
from dsm.pages.gallery import clips_of
from dsm.runs.bad_videos import tell_left_out_of
from dsm.runs.claims import claim_files
from dsm.runs.results import RESULTS, Row, run_and_seed, write_results
from dsm.settings import takes_settings
from dsm.terminal import console, many, progress, warn
from dsm.verbs.result import Result
from dsm.verbs.settings.evaluation import EmbedConfig

FILES = (RESULTS, "embedding.html", "embedding.png")
SCENES = "scenes.tsv"
"""Table that MotionScenes writes beside its lists: the scene family of each video."""


@takes_settings(EmbedConfig)
def embed(config: EmbedConfig) -> Result:
    """Map videos to the plane by their features, and measure how well the features separate labels."""
    files = [config.out / name for name in FILES]
    claim_files(*files, overwrite=config.overwrite)
    rows, embedded, features = examine(config)
    runs = [one.run for one in embedded]
    write_results(files[0], rows)
    with progress("clips", 1) as bar:
        drawn = np.random.default_rng(config.seed).permutation(len(features))[: config.clips]
        clips = clips_of(features, sorted(drawn.tolist()))
        bar.update(1)
    if config.clips and not clips:
        warn("no clips play in the page: none of the videos can be read any more.")
    elif unread := min(config.clips, len(features)) - len(clips):
        warn(f"{many(unread, 'video')} cannot be read and will not play in the page.")
    for file in config.features:
        tell_left_out_of(file)
    write_embedding_page(files[1], embedded, clips, rows)
    draw_embeddings(embedded, files[2], which=config.map[0])
    lines = [f"written: {', '.join(map(str, files))}"]
    if not features.labelled:
        lines.append(
            "not every video has a label, so label separation and correct nearest neighbours are left out; "
            "the map is coloured by camera or folder instead"
        )
    return Result(rows, files, [_table(rows, runs)], lines)


def examine(
    config: EmbedConfig, names: Sequence[str] | None = None
) -> tuple[list[Row], list[Embedded], Features]:
    """Map and measure without writing anything.

    Args:
        names: names for the models; by default those recorded with the features.

    Returns:
        The numbers, the maps, and the first file's features of the videos on the maps.

    Raises:
        UserError: a file holds features of clips, or of different videos than the first.
    """
    loaded = [load_features(path) for path in config.features]
    for path, one in zip(config.features, loaded, strict=True):
        one.need_videos(path, "a map shows videos")
    kept = _some(loaded, config)
    features = [one.part(kept) for one in loaded]
    for path, one in zip(config.features, features, strict=True):
        need_spread(one.features, str(path))
    namings = _namings(config, features[0])
    groups = config.grouping.of(features[0].paths)
    runs = names or _run_names(config, features)
    rows: list[Row] = []
    embedded = []
    with progress("maps", len(features) * len(config.map)) as bar:
        for place, (run, one) in enumerate(zip(runs, features, strict=True)):
            named = run, run_and_seed(one.meta)[1], str(one.meta.get("list", "videos"))
            # A single camera or folder separates nothing.
            several = {name: of for name, of in namings.items() if name == "label" or len(set(of)) > 1}
            rows += numbers_of(one, several, named=named, groups=groups)
            gallery = load_features(config.gallery[place]) if config.gallery else one
            gallery = numbered_alike(one, gallery, (run, "its gallery"))
            same_encoder(one, gallery, ("the videos", "the gallery"))
            ways = dict(namings)
            if one.labelled and gallery.labelled:
                right = retrieve(gallery, one, 1).recall(1)
                ways["nearest"] = [RIGHT if hit else WRONG for hit in right]
            maps: dict[MapName, NDArray[np.float32]] = {}
            for name in config.map:
                maps[name] = plane(np.array(one.features), name, seed=config.seed)
                bar.update(place * len(config.map) + len(maps), f"{run}, {name}")
            embedded.append(Embedded(run, maps, ways, nearest_others(one.features, NEIGHBOURS), one.paths))
    return rows, embedded, features[0]


def _table(rows: Sequence[Row], runs: Sequence[str]) -> Table:
    table = Table()
    for name in ("", *map(escape, runs)):
        table.add_column(name, justify="right")
    for line in number_table(rows):
        cells = (line.cells[run] for run in runs)
        table.add_row(line.title, *(f"{cell.value}  {cell.spread}".rstrip() for cell in cells))
    return table


def _some(loaded: Sequence[Features], config: EmbedConfig) -> NDArray[np.int64]:
    """The rows to show.

    Raises:
        UserError: the files do not hold the same videos.
    """
    for path, one in zip(config.features, loaded, strict=True):
        if one.paths != loaded[0].paths:
            raise UserError(
                f"{path}: holds different videos than {config.features[0]}; maps side by side need the same."
            )
    count = len(loaded[0])
    if count <= config.most:
        return np.arange(count)
    console.print(f"{config.most} of {count} videos, drawn at random (--most)")
    return np.sort(np.random.default_rng(config.seed).permutation(count)[: config.most])


def _namings(config: EmbedConfig, features: Features) -> dict[str, list[str]]:
    """Names for each video by colouring: its label, its scene if known, and the names from tables."""
    recorded = features.meta.get("root")
    root = Path(str(recorded)) if recorded else None
    namings: dict[str, list[str]] = {}
    if features.labelled:
        classes = label_names(features)
        namings["label"] = [classes[label] for label in features.labels]
    else:
        cameras, source = cameras_of(features.paths, file=None, regex="")
        namings["folder" if source == "folder" else "camera"] = cameras
    if root and (root / SCENES).is_file():
        namings["scene"] = read_groups(root / SCENES, features.paths)
    for given in config.colour:
        name, mark, file = given.partition("=")
        if not mark or not name:
            raise UserError(f"--colour {given}: must have the form NAME=TABLE, such as place=places.tsv.")
        if name in ("label", "nearest"):
            raise UserError(f"--colour {given}: the colouring {name} already exists; choose another name.")
        namings[name] = read_groups(file, features.paths)
    return namings


def _run_names(config: EmbedConfig, features: Sequence[Features]) -> list[str]:
    """Names of the models; file names if two models have the same name."""
    runs = [run_and_seed(one.meta)[0] for one in features]
    if len(set(runs)) < len(runs):
        runs = [path.stem for path in config.features]
    if len(set(runs)) < len(runs):
        runs = [str(path) for path in config.features]
    return runs
