"""``dsm data pack``: videos -> a pack at training size, and a list of it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from dsm.data.classes import carry_classes
from dsm.data.lists import VideoList, needed, read_list, write_list
from dsm.errors import UserError
from dsm.runs.bad_videos import tell_damaged
from dsm.runs.claims import claim_by_settings
from dsm.runs.copies import checked_url, send_files
from dsm.runs.folder import lasting
from dsm.settings import takes_settings
from dsm.terminal import many, progress, warn
from dsm.verbs.result import ListResult
from dsm.verbs.settings.data import PackConfig
from dsm.video.pack import SHARD, damaged_in, find_member, is_packed
from dsm.video.segments import file_of
from dsm.video.source import VideoError
from dsm.video.write import folders_for, write_shard
from dsm.workers import side_by_side

LIST = "list.txt"
MARKER = "pack.json"


@takes_settings(PackConfig)
def pack(config: PackConfig) -> ListResult:
    """Pack videos at training size into a few large files, which read many times faster; write their list.

    Videos that cannot be read are named and left out. Shards that are already written are kept.
    """
    if config.copy_to:
        checked_url(config.copy_to)
    videos = read_list(config.videos, config.root)
    _claim(config, videos)
    carry_classes(videos, config.out)
    names = [place.as_posix() for place in folders_for(videos.paths)]
    # A video listed twice is packed once, and listed twice.
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
        if not is_packed(shard)
    }
    done = len(once) - sum(len(members) for _, members, *_ in jobs.values())
    with progress("packing videos", len(once), start=done) as bar:
        for shard, written in side_by_side(write_shard, jobs, config.workers):
            for reason in written.result().values():
                warn(f"left out: {reason}")
            done += len(jobs[shard][1])
            bar.update(done)
    tell_damaged(
        {f"{shard}/{name}": reason for shard in shards for name, reason in damaged_in(shard).items()}
    )
    shard_of = {names[i]: shard for shard, part in zip(shards, parts, strict=True) for i in part}
    result = _write_list(config, videos, [(shard_of[name], name) for name in names])
    if config.copy_to:
        send_files([config.out], config.out, config.copy_to)
    return result


def _claim(config: PackConfig, videos: VideoList) -> None:
    """Claim the output folder; a pack with the same settings is continued."""
    settings = lasting(config)
    # Compare the content of the list too: shards of another list must not be reused.
    settings["list"] = hashlib.sha256("\n".join(videos.paths).encode("utf-8", "replace")).hexdigest()
    claim_by_settings(
        config.out, MARKER, settings, what="a pack", overwrite=config.overwrite, needed=needed(videos)
    )


def _write_list(config: PackConfig, videos: VideoList, places: list[tuple[Path, str]]) -> ListResult:
    kept, counts = [], []
    for index, (shard, name) in enumerate(places):
        try:
            counts.append(find_member(shard, name).frames)
        except VideoError:
            continue
        kept.append(index)
    if not kept:
        raise UserError(f"{videos.source}: none of its videos can be read.")
    paths = [f"{places[index][0].name}/{places[index][1]}" for index in kept]
    part = replace(videos.part(np.array(kept), config.out), paths=paths, frames=np.array(counts))
    file = config.out / LIST
    written = write_list(file, part)
    shards = sorted(config.out.glob(f"*{SHARD}"))
    size = sum(shard.stat().st_size for shard in shards) / 2**20
    sources = {file_of(videos.file(index)) for index in kept}
    before = sum(source.stat().st_size for source in sources if source.is_file()) / 2**20
    times = f" ({size / before:.1f} times the {before:.0f} MB of the videos)" if before else ""
    lines = [f"{file}: {many(len(kept), 'video')}, {many(sum(counts), 'frame')}, {size:.0f} MB{times}"]
    if left_out := len(videos) - len(kept):
        lines.append(f"left out {many(left_out, 'video')} that could not be read, or that its shard lacks.")
    return ListResult(files=[file, *shards], lines=lines, lists=[written])
