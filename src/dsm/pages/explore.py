"""The page of `dsm explore`: a map, clusters, rare clips, duplicates, times and cameras, with playing clips.

The clips of all parts are stored once; the page's script shows them when they scroll into view. A clip that
is not stored is played from its file, by a link relative to the page.
"""

from __future__ import annotations

import hashlib
import math
import posixpath
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsm.data.cameras import clock
from dsm.evaluate.explore import NOISE, Explored, SameCamera
from dsm.evaluate.footage import Footage, link_of
from dsm.files import json_text
from dsm.pages.embedding import LOOKS
from dsm.pages.gallery import clips_of, row_text
from dsm.pages.tables import Cell
from dsm.pages.template import PAGE_BYTES, write_page
from dsm.pages.timeline import timelines
from dsm.terminal import many

DATA_BYTES = 18_000_000
"""Largest size of the data about clips; if there is more, fewer dots are shown."""
DOTS = 40_000
"""Most clips on the map; of more, this many are drawn at random."""
GLANCE = 6
TYPICAL, CLUSTERS, GROUPS, SHOWN_OF_GROUP, CAMERAS = 6, 24, 24, 6, 12
"""Most clips per cluster; most clusters that are open, groups of duplicates, clips per group, and cameras."""
TYPICAL_OF_SMALLER = 2
SOURCES = {
    "table": "from --cameras",
    "expression": "from --camera-regex",
    "name": "from names in the paths",
    "folder": "from folders, because no path names a camera; --cameras or --camera-regex defines them",
}

TIMES = {
    "name": "the times in the names",
    "file": "the creation times, in UTC, in the files",
}


@dataclass(frozen=True)
class Tile:
    """A clip in a row of clips."""

    row: int
    text: str = ""
    kept: bool = False


@dataclass(frozen=True)
class ShownRow:
    """A row of clips, with its heading."""

    title: str
    tiles: list[Tile]
    text: str = ""
    cluster: int = NOISE
    """The cluster that can be named in this row."""


@dataclass(frozen=True)
class Part:
    """An optional part of the page."""

    title: str
    text: str
    rows: list[ShownRow]


@dataclass(frozen=True)
class Exploration:
    """The content of the page."""

    name: str
    footage: Footage
    explored: Explored
    same: SameCamera | None
    rare: Sequence[int]
    rare_by_camera: dict[str, list[int]]
    groups: Sequence[Sequence[int]]
    """Groups of near-duplicates, the one to keep first."""
    files: Sequence[Path] = ()
    """The tables beside the page."""
    notes: Sequence[str] = ()
    """Further remarks for the reader, one sentence each."""
    weights: str = ""
    """The name of the weights."""
    more: Sequence[Part] = ()
    """Parts to show first."""

    @property
    def clustered(self) -> float:
        """The share of clips that are in a cluster."""
        return float((self.explored.clusters != NOISE).mean())

    @property
    def spare(self) -> int:
        """How many near-duplicates could be removed."""
        return sum(len(group) - 1 for group in self.groups)


def write_explore_page(path: Path, found: Exploration, *, clips: int) -> int:
    """Write the page.

    Args:
        clips: most clips to store in it; fewer if it would become too large.

    Returns:
        The number of clips stored.
    """
    footage, explored = found.footage, found.explored
    clusters, rare = _clusters(found), _rare(found)
    cameras, groups = _rare_of_cameras(found), _groups(found)
    clusters, smaller = clusters[:CLUSTERS], clusters[CLUSTERS:]
    parts: list[Iterable[ShownRow]] = [clusters, rare, *(part.rows for part in found.more), groups, cameras]
    parts.append(smaller)
    shown = [tile.row for rows in parts for row in rows for tile in row.tiles]
    dots = DOTS
    while True:
        placed = _placed(len(footage.features), shown, dots)
        data = _data(found, placed, path.absolute().parent)
        if len(json_text(data)) < DATA_BYTES or dots < 1000:
            break
        dots = min(dots, len(placed)) // 2  # very long paths
    content: dict[str, Any] = {
        "title": f"What is in {found.name}", "lede": _lede(found), "found": found, "tiles": _numbers(found),
        "count": len(placed), "total": len(footage.features), "smaller": smaller, "clusters": clusters,
        "rare": rare, "cameras": cameras, "groups": groups,
        "noise": int((explored.clusters == NOISE).sum()), "cluster_count": len(explored.typical),
        "group_count": len(found.groups), "lines": _camera_lines(found.same),
        "source": SOURCES[footage.cameras_from], "clock": TIMES.get(footage.times_from, ""),
        "glance": _glance(found, clusters, rare), "word": _word(footage),
        "timelines": timelines(footage, explored.clusters),
        "root": str(footage.features.meta.get("root", "")), "looks": LOOKS,
    }  # fmt: skip
    room = PAGE_BYTES - len(json_text(data)) - 150 * len(shown) - 2_000_000
    order = np.random.default_rng(0).permutation(placed)
    wanted = list(dict.fromkeys([*shown, *order.tolist()]))[:clips] if any(footage.files) else []
    stored = clips_of(footage.features, wanted, room=max(room, 0))
    data["clips"] = {str(np.searchsorted(placed, row)): uri for row, uri in stored.items()}
    number = {int(row): place for place, row in enumerate(placed.tolist())}
    write_page(path, "explore.html", data=data, number=number, **content)
    return len(stored)


def _placed(count: int, shown: Sequence[int], dots: int) -> NDArray[np.int64]:
    """The rows with data on the page, in order: those shown, and ``dots`` of all, drawn at random."""
    if count <= dots:
        return np.arange(count)
    drawn = np.random.default_rng(0).permutation(count)[:dots]
    return np.union1d(drawn, np.array(shown, np.int64))


def _data(found: Exploration, placed: NDArray[np.int64], folder: Path) -> dict[str, Any]:
    """The data about each clip for the script; numbers are rounded to keep the page small."""
    footage, explored = found.footage, found.explored
    names, cameras = np.unique(np.asarray(footage.cameras), return_inverse=True)
    lookup = np.full(len(footage.features) + 1, -1)
    lookup[placed] = np.arange(len(placed))
    near = lookup[explored.near.places[placed][:, :3]]
    files = [link_of(footage, int(row), folder) for row in placed]
    folders = [link.rpartition("/")[0] for link in files if link]
    shared = posixpath.commonpath(folders) if folders else ""
    base = f"{shared}/" if shared else ""
    ranks = np.empty(len(explored.oddness))
    ranks[np.argsort(explored.oddness)] = np.linspace(0, 100, len(ranks))
    times = footage.features.times
    data: dict[str, Any] = {
        "x": np.rint(9999 * explored.map[placed, 0]).astype(int).tolist(),
        "y": np.rint(9999 * explored.map[placed, 1]).astype(int).tolist(),
        "cluster": explored.clusters[placed].tolist(),
        "cameras": names.tolist(),
        "camera": cameras[placed].tolist(),
        "odd": np.rint(ranks[placed]).astype(int).tolist(),
        "near": near.tolist(),
        "paths": [footage.features.paths[row] for row in placed],
        "names": {
            str(place): name
            for place, row in enumerate(placed.tolist())
            if (name := footage.name(row)) != footage.features.paths[row]
        },
        "base": base,
        "links": [link and link[len(base) :] for link in files] if any(files) else [],
        "sizes": [len(own) for own in explored.typical],
        "id": _id(found, placed),
        "looks": LOOKS,
    }
    if np.isfinite(footage.times).any():
        data["time"] = [int(one) if math.isfinite(one) else None for one in footage.times[placed]]
    if np.isfinite(footage.seconds).any():
        data["seconds"] = [
            round(one, 1) if math.isfinite(one) else None for one in footage.seconds[placed].tolist()
        ]
    if times is not None:
        data["begin"] = [
            [round(float(a), 2), round(float(b), 2)] if math.isfinite(a) and math.isfinite(b) else None
            for a, b in times[placed]
        ]
    return data


def _id(found: Exploration, placed: NDArray[np.int64]) -> str:
    """Identifies the clips and clusters of a page: names kept in the browser are of their numbers."""
    sha = hashlib.sha256("\n".join(found.footage.features.identities()).encode())
    for numbers in (placed, found.explored.clusters):
        sha.update(np.ascontiguousarray(numbers).tobytes())
    return sha.hexdigest()[:16]


def _numbers(found: Exploration) -> list[tuple[str, str]]:
    """The numbers on the first screen, each with a description."""
    footage, explored = found.footage, found.explored
    videos, cameras = len(set(footage.videos)), len(set(footage.cameras))
    known = footage.times[np.isfinite(footage.times)]
    numbers = [(f"{len(footage.features):,}", f"clips of {many(videos, 'video')}")]
    source = _word(footage)
    numbers.append((f"{cameras:,}", source if cameras == 1 else f"{source}s"))
    if len(known):
        by = ", by the files' metadata" if footage.times_from == "file" else ""
        numbers.append((clock(known.min())[:10], f"to {clock(known.max())[:10]}{by}"))
    total = sum(
        {
            video: one
            for video, one in zip(footage.videos, footage.seconds.tolist(), strict=True)
            if one == one
        }.values()
    )
    if total:
        units = ((3600, "h", 1), (60, "min", 1), (1, "s", 0))
        size, unit, digits = next((one for one in units if total >= one[0]), units[-1])
        numbers.append((f"{total / size:.{digits}f} {unit}", "of video"))
    share = f", with {found.clustered:.0%} of the clips" if explored.typical else ""
    found_of = len(explored.typical)
    numbers.append((f"{found_of:,}", f"{'cluster' if found_of == 1 else 'clusters'}{share}"))
    copies = "near-duplicate" if found.spare == 1 else "near-duplicates"
    numbers.append((f"{found.spare:,}", f"{copies} of other clips"))
    return numbers


def _lede(found: Exploration) -> str:
    """A summary of the page in two sentences."""
    clips = many(len(found.explored.clusters), "clip")
    kinds, copies, below = f"{clips} form no clusters", "none is a near-duplicate of another", ""
    if count := len(found.explored.typical):
        kinds = f"{found.clustered:.0%} of {clips} fall into {many(count, 'cluster')} of similar clips"
        below = "frequent clips, "
    if found.spare:
        copies = f"{many(found.spare, 'is a near-duplicate', 'are near-duplicates')} of others"
    return f"{kinds}; {copies}. Below: {below}rare clips and a map of all clips."


def _word(footage: Footage) -> str:
    return "folder" if footage.cameras_from == "folder" else "camera"


def _glance(found: Exploration, clusters: Sequence[ShownRow], rare: Sequence[ShownRow]) -> list[ShownRow]:
    """The rows on the first screen: optional parts, frequent clips and rare clips."""
    asked = [ShownRow(part.title, part.rows[0].tiles[:GLANCE]) for part in found.more if part.rows]
    typical = [replace(row.tiles[0], text=f"{row.title}: {row.text}") for row in clusters[:GLANCE]]
    if typical:
        asked.append(ShownRow("Frequent", typical, "a typical clip of each of the largest clusters"))
    unlike = [replace(tile, text=place_and_time(found.footage, tile.row)) for tile in rare[0].tiles[:GLANCE]]
    asked.append(ShownRow("Rare", unlike, "the clips that are least like any other"))
    return asked


def place_and_time(footage: Footage, row: int) -> str:
    """The end of a row's path, its seconds and its time of day, as far as they are known."""
    text = row_text(footage.features, row, short=True)
    return f"{text}, {when}" if (when := clock(float(footage.times[row]))) else text


def _clusters(found: Exploration) -> list[ShownRow]:
    footage, explored = found.footage, found.explored
    rows = []
    for cluster, own in enumerate(explored.typical):
        most_shown = TYPICAL if cluster < CLUSTERS else TYPICAL_OF_SMALLER
        (camera, most), *_ = Counter(footage.cameras[row] for row in own).most_common(1)
        share = f"{many(len(own), 'clip')}, {len(own) / len(footage.features):.1%}"
        share += f"; {most / len(own):.0%} from {camera}" if found.same else ""
        seen: dict[str, int] = {}
        for row in own.tolist():
            seen.setdefault(footage.videos[row], row)
        tiles = [Tile(row, place_and_time(footage, row)) for row in list(seen.values())[:most_shown]]
        rows.append(ShownRow(f"Cluster {cluster + 1}", tiles, share, cluster))
    return rows


def _rare(found: Exploration) -> list[ShownRow]:
    footage, oddness = found.footage, found.explored.oddness
    tiles = [Tile(row, f"distance {oddness[row]:.2f}: {place_and_time(footage, row)}") for row in found.rare]
    return [ShownRow("Of all", tiles)]


def _rare_of_cameras(found: Exploration) -> list[ShownRow]:
    sizes = Counter(found.footage.cameras)
    order = sorted(found.rare_by_camera, key=lambda name: -sizes[name])[:CAMERAS]
    return [
        ShownRow(
            name,
            [Tile(row, place_and_time(found.footage, row)) for row in found.rare_by_camera[name]],
            many(sizes[name], "clip"),
        )
        for name in order
    ]


def _groups(found: Exploration) -> list[ShownRow]:
    footage, rows = found.footage, []
    for number, group in enumerate(found.groups[:GROUPS], start=1):
        tiles = []
        for place, row in enumerate(group[:SHOWN_OF_GROUP]):
            width, height = footage.pixels[row]
            size = f", {width} × {height} pixels" if width else ""
            tiles.append(Tile(row, f"{place_and_time(footage, row)}{size}", kept=place == 0))
        rows.append(ShownRow(f"Group {number}", tiles, many(len(group), "clip")))
    return rows


def _camera_lines(same: SameCamera | None) -> list[tuple[str, str, list[Cell | None]]]:
    if same is None:
        return []
    return [
        (name, many(count, "clip"), [Cell(f"{share:.0%}", "", False), Cell(f"{chance:.0%}", "", False)])
        for name, (count, share, chance) in list(same.by_camera.items())[:40]
    ]
