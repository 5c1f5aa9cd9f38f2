"""``dsm data pack``: videos -> a pack at training size, and a list of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro

from dsm.cores import usable_cores
from dsm.datasets.classes import carry_classes
from dsm.datasets.lists import VideoList, needed, read_list, write_list
from dsm.engine.bad_videos import tell_damaged
from dsm.engine.progress import console, progress
from dsm.engine.runfolder import claim_by_settings, lasting
from dsm.engine.side_by_side import side_by_side
from dsm.errors import UserError
from dsm.notes import many
from dsm.video.frames import places_of
from dsm.video.pack import SHARD, damaged_in, find_member
from dsm.video.packing import write_shard
from dsm.video.segments import file_of
from dsm.video.source import VideoError

LIST = "list.txt"
MARKER = "pack.json"


@dataclass(frozen=True)
class PackConfig:
    """Settings of `dsm data pack`."""

    videos: tyro.conf.Positional[Path]
    """List of the videos."""
    out: Path
    """Folder for the shards and list.txt. A pack that was stopped goes on."""
    root: Path | None = None
    """Folder put before relative paths; left out, the list's own."""
    short_side: int = 128
    """Pixels of the shorter side: that at which it will be trained (--clip.resize)."""
    square: bool = False
    """Squeeze frames to a square, so that crops reach the sides of wide footage; shapes are squeezed too."""
    shard_videos: int = 100
    """Videos a shard."""
    workers: int = usable_cores()
    """Shards written side by side."""
    overwrite: bool = False
    """Replace a pack of other settings."""

    def __post_init__(self) -> None:
        if min(self.workers, self.shard_videos) < 1 or self.short_side < 16:
            raise UserError("workers and shard-videos must be at least 1, short-side at least 16.")


def pack(config: PackConfig) -> None:
    """Write what shards are missing, and the list; say what could not be read and what it takes."""
    videos = read_list(config.videos, config.root)
    _claim(config, videos)
    carry_classes(videos, config.out)
    names = [place.as_posix() for place in places_of(videos.paths)]
    # A video that is listed twice is packed once, and listed twice.
    first: dict[str, int] = {}
    for place, name in enumerate(names):
        first.setdefault(name, place)
    once = list(first.values())
    starts = range(0, len(once), config.shard_videos)
    shards = [config.out / f"shard-{number:05d}{SHARD}" for number in range(len(starts))]
    parts = [once[start : start + config.shard_videos] for start in starts]
    jobs = {
        shard: (shard, [(names[i], videos.file(i)) for i in part], config.short_side, config.square)
        for shard, part in zip(shards, parts, strict=True)
        if not shard.with_suffix(".json").exists()
    }
    done = len(once) - sum(len(members) for _, members, *_ in jobs.values())
    with progress("packing videos", len(once), start=done) as bar:
        for shard, written in side_by_side(write_shard, jobs, config.workers):
            for reason in written.result().values():
                console.print(f"left out: {reason}", style="yellow")
            done += len(jobs[shard][1])
            bar.update(done)
    tell_damaged({f"{shard}/{name}": told for shard in shards for name, told in damaged_in(shard).items()})
    shard_of = {names[i]: shard for shard, part in zip(shards, parts, strict=True) for i in part}
    _write_list(config, videos, [(shard_of[name], name) for name in names])


def _claim(config: PackConfig, videos: VideoList) -> None:
    """Take the folder: a pack of the same settings is gone on with."""
    settings = lasting(config)
    # By what is in the list: the shards of another would be taken for its own.
    settings["list"] = hashlib.sha256("\n".join(videos.paths).encode("utf-8", "replace")).hexdigest()
    claim_by_settings(
        config.out, MARKER, settings, what="a pack", overwrite=config.overwrite, needed=needed(videos)
    )


def _write_list(config: PackConfig, videos: VideoList, places: list[tuple[Path, str]]) -> None:
    kept, counts = [], []
    for index, (shard, name) in enumerate(places):
        try:
            counts.append(find_member(shard, name).frames)
        except VideoError:
            continue
        kept.append(index)
    if not kept:
        raise UserError(f"{videos.source}: not one of its videos could be read.")
    paths = [f"{places[index][0].name}/{places[index][1]}" for index in kept]
    part = replace(videos.part(np.array(kept), config.out), paths=paths, frames=np.array(counts))
    write_list(config.out / LIST, part)
    size = sum(file.stat().st_size for file in config.out.glob(f"*{SHARD}")) / 2**20
    files = {file_of(videos.file(index)) for index in kept}
    before = sum(file.stat().st_size for file in files if file.is_file()) / 2**20
    frames = many(sum(counts), "frame")
    times = f", {size / before:.1f} times the videos' own {before:.0f} MB" if before else ""
    console.print(f"{config.out / LIST}: {many(len(kept), 'video')}, {frames}, {size:.0f} MB{times}")
    if left := len(videos) - len(kept):
        console.print(f"left out {many(left, 'video')} that could not be read, or whose shard lacks it.")
