"""``dsm embed``: a map of the videos by their features, and how well labels lie apart in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dsm.analyse.embedding import (
    NEIGHBOURS,
    Embedded,
    MapName,
    nearest_others,
    need_spread,
    numbers_of,
    plane,
)
from dsm.analyse.embedding_figure import RIGHT, WRONG, draw_embeddings
from dsm.analyse.embedding_page import clips_of, number_table, write_embedding_page
from dsm.datasets.classes import class_names
from dsm.datasets.groups import find_groups, read_groups
from dsm.engine.bad_videos import LEFT_OUT
from dsm.engine.progress import console, progress
from dsm.engine.runfolder import claim_file, git_revision
from dsm.errors import UserError
from dsm.evaluate.feature_files import load_features
from dsm.evaluate.features import Features, numbered_alike, same_dimensions
from dsm.evaluate.results import RESULTS, Row, run_and_seed, write_results
from dsm.evaluate.retrieval import retrieve
from dsm.notes import many
from dsm.video.ledger import read_ledger

FILES = (RESULTS, "embedding.html", "embedding.png")
SCENES = "scenes.tsv"
"""What MotionScenes writes beside its lists: each video's scene family."""


@dataclass(frozen=True)
class EmbedConfig:
    """Settings of `dsm embed`."""

    features: tyro.conf.Positional[tuple[Path, ...]]
    """One or more files of features, of the same labelled videos by different weights."""
    out: Path
    """Folder for embedding.html, embedding.png and results.json."""
    gallery: tuple[Path, ...] = ()
    """For each file, features (of the training videos, by the same weights) among which a video's nearest is
    looked for to call it right or wrong; left out, among the other videos."""
    colour: tuple[str, ...] = ()
    """More ways to colour, as NAME=TABLE (.tsv, .csv: a header, path first, the name last), such as
    `place=places.tsv`; MotionScenes' scenes are found by themselves."""
    map: tuple[MapName, ...] = ("tsne",)
    """`tsne`, `umap` (an extra: pip install 'dsm-video[umap]'), or both."""
    groups: Path | None = None
    """Table of which videos are alike: intervals draw whole groups."""
    group_regex: str = ""
    """The same by an expression that finds the group in a path."""
    most: Annotated[int, tyro.conf.arg(metavar="VIDEOS")] = 2000
    """Of more videos so many are drawn at random."""
    clips: int = 150
    """Videos whose clips are put into the page; of the others it shows the words."""
    seed: int = 0
    """Seeds the maps and what is drawn."""
    overwrite: bool = False
    """Replace the files in `out`."""

    def __post_init__(self) -> None:
        if not self.features:
            raise UserError("give one or more files of features; `dsm extract` makes them.")
        if self.gallery and len(self.gallery) != len(self.features):
            raise UserError(
                f"{len(self.gallery)} of --gallery for {len(self.features)} files; each needs its own."
            )
        if min(self.clips, self.seed) < 0 or self.most < 1 or not self.map:
            raise UserError("clips and seed must not be below 0; most at least 1; map names one at least.")


def embed(config: EmbedConfig) -> list[Row]:
    """Map, measure, draw; print the numbers."""
    files = [config.out / name for name in FILES]
    for file in files:
        claim_file(file, overwrite=config.overwrite)
    rows, embedded, features = examine(config)
    runs = [one.run for one in embedded]
    write_results(files[0], rows, revision=git_revision())
    with progress("clips", 1) as bar:
        clips = clips_of(features, config.clips, config.seed)
        bar.update(1)
    if config.clips and not clips:
        console.print("no clips in the page: the videos cannot be read where they were.", style="yellow")
    elif unread := min(config.clips, len(features)) - len(clips):
        console.print(f"{many(unread, 'video')} without a clip in the page: unreadable.", style="yellow")
    for file in config.features:
        ledger = file.with_name(file.name + LEFT_OUT)
        if ledger.exists():
            bad = len(read_ledger(ledger))
            console.print(
                f"{file}: {many(bad, 'video')} of its list could not be read; see {ledger}", style="yellow"
            )
    write_embedding_page(files[1], embedded, clips, rows)
    draw_embeddings(embedded, files[2], which=config.map[0])
    Console().print(_table(rows, runs))
    console.print(f"written: {', '.join(map(str, files))}")
    return rows


def examine(
    config: EmbedConfig, names: Sequence[str] | None = None
) -> tuple[list[Row], list[Embedded], Features]:
    """Map and measure, and write nothing.

    Args:
        names: what to call the files' weights; left out, as the features say.

    Returns:
        The numbers, the maps, and of the first file the videos that are on them.

    Raises:
        UserError: a file holds no features of labelled videos, or those of others than the first.
    """
    loaded = [_load(path) for path in config.features]
    kept = _some(loaded, config)
    features = [one.part(kept) for one in loaded]
    for path, one in zip(config.features, features, strict=True):
        need_spread(one.features, str(path))
    namings = _namings(config, features[0])
    groups = find_groups(features[0].paths, file=config.groups, regex=config.group_regex)
    runs = names or _run_names(config, features)
    rows: list[Row] = []
    embedded = []
    with progress("maps", len(features) * len(config.map)) as bar:
        for place, (run, one) in enumerate(zip(runs, features, strict=True)):
            named = run, run_and_seed(one.meta)[1], str(one.meta.get("list", "videos"))
            rows += numbers_of(one, namings, named=named, groups=groups)
            gallery = load_features(config.gallery[place]) if config.gallery else one
            gallery = numbered_alike(one, gallery, (run, "its gallery"))
            same_dimensions(one, gallery, ("the videos", "the gallery"))
            right = retrieve(gallery, one, 1).recall(1)
            ways = {**namings, "nearest": [RIGHT if hit else WRONG for hit in right]}
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
        cells = (line["cells"][run] for run in runs)
        table.add_row(line["metric"], *("  ".join(part for part in cell.values() if part) for cell in cells))
    return table


def _load(path: Path) -> Features:
    features = load_features(path)
    features.need_labels(str(path))
    if features.times is not None:
        raise UserError(f"{path}: holds features of clips; the map is of videos: extract without --per-clip.")
    return features


def _some(loaded: Sequence[Features], config: EmbedConfig) -> NDArray[np.int64]:
    """The rows that are shown.

    Raises:
        UserError: the files are not of the same videos.
    """
    for path, one in zip(config.features, loaded, strict=True):
        if one.paths != loaded[0].paths:
            raise UserError(
                f"{path}: is of other videos than {config.features[0]}; side by side must be the same."
            )
    count = len(loaded[0])
    if count <= config.most:
        return np.arange(count)
    console.print(f"{config.most} of {count} videos, drawn at random (--most)")
    return np.sort(np.random.default_rng(config.seed).permutation(count)[: config.most])


def _namings(config: EmbedConfig, features: Features) -> dict[str, list[str]]:
    """What each video is called: its label by name, its scene where it is known, what tables say."""
    said = features.meta.get("root")
    root = Path(str(said)) if said else None
    names = class_names(root, int(features.labels.max()) + 1)
    found = {"label": [names[label] for label in features.labels]}
    if root and (root / SCENES).is_file():
        found["scene"] = read_groups(root / SCENES, features.paths)
    for given in config.colour:
        name, mark, file = given.partition("=")
        if not mark or not name:
            raise UserError(f"--colour {given}: is not of the form NAME=TABLE, as in place=places.tsv.")
        if name in ("label", "nearest"):
            raise UserError(f"--colour {given}: there is a colouring {name} already; call it otherwise.")
        found[name] = read_groups(file, features.paths)
    return found


def _run_names(config: EmbedConfig, features: Sequence[Features]) -> list[str]:
    """Of the weights; where two are called the same, by their files."""
    runs = [run_and_seed(one.meta)[0] for one in features]
    if len(set(runs)) < len(runs):
        runs = [path.stem for path in config.features]
    if len(set(runs)) < len(runs):
        runs = [str(path) for path in config.features]
    return runs
