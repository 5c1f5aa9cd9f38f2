"""``dsm data check``: the ledger of a list or a folder."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dsm.cores import usable_cores
from dsm.datasets.catalog import find_videos
from dsm.datasets.classes import carry_classes
from dsm.datasets.lists import VideoList, listable, needed, read_list, write_list
from dsm.engine.progress import console, progress
from dsm.engine.runfolder import claim_by_settings, claim_file
from dsm.errors import UserError
from dsm.files import printable, write_text
from dsm.notes import many
from dsm.video.ledger import USABLE, Verdict, judge_all, ledger_json
from dsm.video.source import READING_TIME

SHOWN = 40
MEANING = {
    "ok": "decoded to the end",
    "short": "fewer frames than a clip; plays in a loop",
    "truncated": "fewer frames than its header says, or breaks off; usable up to there",
    "damaged": "pictures inside are lost, or shown with faults; the others are usable",
    "undecodable": "not one frame can be decoded",
    "no-video": "holds no moving pictures",
    "missing": "no such file",
    "empty": "nothing in it",
    "timeout": "the decoder was killed when its time was over",
}


@dataclass(frozen=True)
class CheckConfig:
    """Settings of `dsm data check`."""

    videos: tyro.conf.Positional[Path]
    """A list, or a folder, of which every file is looked at that could be a video."""
    root: Path | None = None
    """Folder put before relative paths of a list; left out, the list's own."""
    json: Path | None = None
    """Write all verdicts to this file."""
    clean: Path | None = None
    """Write a list of the usable videos, with the frames that can be decoded, to this file."""
    frames: int = 16
    """Frames of a clip: videos with fewer are `short`."""
    timeout: float = READING_TIME
    """Seconds for each video, and one more for each 2 MB of it, after which its decoder is killed."""
    workers: int = usable_cores()
    """Videos decoded side by side."""
    overwrite: bool = False
    """Replace existing files."""

    def __post_init__(self) -> None:
        if self.frames < 1 or self.workers < 1 or not self.timeout > 0:
            raise UserError("frames and workers must be at least 1, timeout above 0 seconds.")


def check(config: CheckConfig) -> None:
    """Judge every video, print the counts and what is wrong, write what is asked for."""
    for file in (config.json, config.clean):
        if file:
            claim_file(file, overwrite=config.overwrite)
    videos = _videos(config)
    if config.clean:
        carry_classes(videos, config.clean.parent)
    target = config.clean or config.json
    parts = target.with_name(f"{target.name}.parts") if target else None
    if parts:
        made_by = {"list": videos.digest(), "frames": config.frames}
        claim_by_settings(
            parts, "check.json", made_by, what="a check", overwrite=config.overwrite, needed=needed(videos)
        )
    try:
        verdicts = _judge(config, videos, parts / "verdicts.jsonl" if parts else None)
    except KeyboardInterrupt:
        if parts:
            console.print(f"{parts}: what is judged so far; the same command goes on.")
        raise
    if config.json:
        write_text(config.json, ledger_json(verdicts))
    _tell(verdicts)
    if config.json:
        console.print(f"{config.json}: all verdicts")
    try:
        if config.clean:
            _write_clean(config.clean, videos, verdicts)
    except UserError:  # not one is usable: mended files are to be looked at again
        if parts:
            shutil.rmtree(parts)
        raise
    if parts:
        shutil.rmtree(parts)


def _judge(config: CheckConfig, videos: VideoList, kept: Path | None) -> list[Verdict]:
    """Judge what was not judged before: ``kept`` has a line for each video that was."""
    found = _read_kept(kept) if kept else {}
    left = [place for place in range(len(videos)) if place not in found]
    if kept:  # anew, as its last line may be half a line
        write_text(kept, "".join(_line(place, one) for place, one in found.items()))
    waiting = iter(left)
    with (
        progress("decoding videos", len(videos), start=len(found)) as bar,
        kept.open("a", encoding="utf-8") if kept else nullcontext() as file,
    ):

        def keep(verdict: Verdict) -> None:
            place = next(waiting)
            # In the ledger a video is called what the list calls it.
            found[place] = replace(verdict, path=videos.paths[place])
            if file:
                file.write(_line(place, found[place]))
                file.flush()
            bar.update(len(found))

        judge_all(
            [videos.file(place) for place in left], clip_frames=config.frames, seconds=config.timeout,
            workers=config.workers, on_verdict=keep,
        )  # fmt: skip
    return [found[place] for place in range(len(videos))]


def _line(place: int, verdict: Verdict) -> str:
    return json.dumps([place, vars(verdict)]) + "\n"


def _read_kept(file: Path) -> dict[int, Verdict]:
    """Verdicts by their place in the list, but those that another look may change."""
    found = {}
    with suppress(OSError, ValueError, TypeError):  # half a line, after which there is none
        for line in file.read_text(encoding="utf-8").splitlines():
            place, entry = json.loads(line)
            verdict = Verdict(**entry)
            if verdict.verdict not in ("missing", "timeout"):
                found[int(place)] = verdict
    return found


def _videos(config: CheckConfig) -> VideoList:
    if not config.videos.is_dir():
        return read_list(config.videos, config.root)
    found = find_videos(config.videos, only_by_name=False)
    nobody = np.full(len(found), -1)
    names = [str(path.relative_to(config.videos)) for path in found]
    return VideoList(names, nobody, nobody, config.videos, str(config.videos))


def _tell(verdicts: list[Verdict]) -> None:
    out = Console(highlight=False, soft_wrap=True)
    wrong = [one for one in verdicts if one.verdict != "ok"]
    for one in wrong[:SHOWN]:
        usable = f", {many(one.frames, 'frame')} usable" if one.verdict in ("truncated", "damaged") else ""
        told = escape(printable(f"{one.path}: {one.reason}"))
        out.print(f"[yellow]{one.verdict:12}[/] {told}{usable}")
    if len(wrong) > SHOWN:
        out.print(f"… and {len(wrong) - SHOWN} more; --json names them all")
    table = Table(box=None, padding=(0, 2))
    table.add_column("verdict")
    table.add_column("videos", justify="right")
    table.add_column("")
    counts = Counter(str(one.verdict) for one in verdicts)
    for verdict, meaning in MEANING.items():
        if counts[verdict]:
            table.add_row(verdict, str(counts[verdict]), meaning)
    out.print(table)


def _write_clean(file: Path, videos: VideoList, verdicts: list[Verdict]) -> None:
    kept = []
    for index, one in enumerate(verdicts):
        if one.verdict in USABLE:
            try:
                listable(one.path)
            except UserError as error:
                console.print(f"left out: {error}", style="yellow", markup=False)
            else:
                kept.append(index)
    if not kept:
        raise UserError(f"{videos.source}: not one video is usable; {file} was not written.")
    # As many as there are numbers: else what comes after a lost picture would be cut off.
    counts = np.array([max(verdicts[place].frames, verdicts[place].numbers) for place in kept])
    clean = replace(videos.part(np.array(kept), file.parent), frames=counts)
    write_list(file, clean)
    console.print(f"{file}: {many(len(kept), 'usable video')} of {len(videos)}, with the frames")
