"""``dsm data check``: decode every video of a list or a folder and judge it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.table import Table
from rich.text import Text

from dsm.data.classes import carry_classes
from dsm.data.folders import find_videos
from dsm.data.lists import VideoList, listable, needed, read_list, unlabelled, write_list
from dsm.errors import UserError
from dsm.files import printable, remove, write_text
from dsm.runs.claims import claim_by_settings, claim_files
from dsm.settings import takes_settings
from dsm.terminal import console, many, progress, warn
from dsm.untrusted import checked, parse_json
from dsm.verbs.result import ListResult
from dsm.verbs.settings.data import CheckConfig
from dsm.video.ledger import USABLE, Verdict, judge_all, ledger_json

MAX_FAULTS_LISTED = 40
"""Most faulty videos that are listed one by one."""
MEANING = {
    "ok": "decoded to the end",
    "short": "fewer frames than a clip; plays in a loop",
    "truncated": "ends early; usable up to there",
    "damaged": "some frames are lost or faulty; the others are usable",
    "undecodable": "no frame can be decoded",
    "no-video": "contains no video",
    "missing": "no such file",
    "empty": "the file is empty",
    "timeout": "the decoder was killed at the time limit",
}


@dataclass(frozen=True)
class CheckResult(ListResult):
    """The verdict on every video; `videos` is the list of usable ones, if `clean` is set."""

    verdicts: Sequence[Verdict] = ()
    """One for each video, in the order of the list."""

    def counts(self) -> dict[str, int]:
        """How many videos got each verdict."""
        return dict(Counter(one.verdict for one in self.verdicts))


@takes_settings(CheckConfig)
def check(config: CheckConfig) -> CheckResult:
    """Decode every video to its end and judge it: ``ok``, ``truncated``, ``undecodable``, ...

    ``json`` writes the verdicts to a file, ``clean`` a list of the usable videos.
    """
    target = config.clean or config.json
    parts = target.with_name(f"{target.name}.parts") if target else None
    # With verdicts beside it, a file is from a check that was stopped, perhaps at its end.
    stopped = parts is not None and parts.is_dir()
    claim_files(config.json, config.clean, overwrite=config.overwrite or stopped, needed=[config.videos])
    videos = _videos(config)
    if config.clean:
        carry_classes(videos, config.clean.parent)
    if parts:
        verdicts_to = str(config.json.absolute()) if config.json else None
        made_by = {"list": videos.digest(), "frames": config.frames, "json": verdicts_to}
        claim_by_settings(
            parts, "check.json", made_by, what="a check", overwrite=config.overwrite, needed=needed(videos)
        )
    try:
        verdicts = _judge(config, videos, parts / "verdicts.jsonl" if parts else None)
    except KeyboardInterrupt:
        if parts:
            console.print(f"verdicts so far are in {parts}; run the same command to continue.")
        raise
    if config.json:
        write_text(config.json, ledger_json(verdicts))
    lines = [f"{config.json}: all verdicts"] if config.json else []
    lists = []
    try:
        if config.clean:
            clean = _usable(config.clean, videos, verdicts)
            lists.append(write_list(config.clean, clean))
            lines.append(
                f"{config.clean}: {many(len(clean), 'usable video')} of {len(videos)}, with frame counts"
            )
    except UserError:  # no video is usable: drop the verdicts, so that repaired files are checked again
        if parts:
            remove(parts)
        raise
    if parts:
        remove(parts)
    return CheckResult(
        exit_code=int(config.strict and any(one.verdict != "ok" for one in verdicts)),
        files=[file for file in (config.clean, config.json) if file],
        tables=[*_faults(verdicts), _counts_table(verdicts)],
        lines=lines,
        lists=lists,
        verdicts=verdicts,
    )


def _judge(config: CheckConfig, videos: VideoList, kept: Path | None) -> list[Verdict]:
    """Judge every video that has no verdict in ``kept`` yet, and add its verdict there."""
    verdicts = _read_kept(kept) if kept else {}
    left = [place for place in range(len(videos)) if place not in verdicts]
    if kept:  # write it again, since its last line may be incomplete
        write_text(kept, "".join(_line(place, one) for place, one in verdicts.items()))
    waiting = iter(left)
    with (
        progress("decoding videos", len(videos), start=len(verdicts)) as bar,
        kept.open("a", encoding="utf-8") if kept else nullcontext() as file,
    ):

        def keep(verdict: Verdict) -> None:
            place = next(waiting)
            # The ledger gives paths as the list does.
            verdicts[place] = replace(verdict, path=videos.paths[place])
            if file:
                file.write(_line(place, verdicts[place]))
                file.flush()
            bar.update(len(verdicts))

        judge_all(
            [videos.file(place) for place in left], clip_frames=config.frames, seconds=config.timeout,
            workers=config.workers, on_verdict=keep,
        )  # fmt: skip
    return [verdicts[place] for place in range(len(videos))]


def _line(place: int, verdict: Verdict) -> str:
    return json.dumps([place, vars(verdict)]) + "\n"


def _read_kept(file: Path) -> dict[int, Verdict]:
    """Verdicts by position in the list, except those that may change on another try."""
    verdicts = {}
    with suppress(OSError, ValueError, TypeError):  # no file yet, or an incomplete last line
        for line in file.read_text(encoding="utf-8").splitlines():
            place, entry = parse_json(line)
            verdict = checked(entry, Verdict)
            if verdict.verdict not in ("missing", "timeout"):
                verdicts[int(place)] = verdict
    return verdicts


def _videos(config: CheckConfig) -> VideoList:
    if not config.videos.is_dir():
        return read_list(config.videos, config.root)
    files = find_videos(config.videos, only_by_name=False)
    names = [str(path.relative_to(config.videos)) for path in files]
    return unlabelled(names, str(config.videos), config.videos)


def _faults(verdicts: Sequence[Verdict]) -> list[Text]:
    """One line for each video that is not ok, up to a limit."""
    faulty = [one for one in verdicts if one.verdict != "ok"]
    lines = []
    for one in faulty[:MAX_FAULTS_LISTED]:
        usable = f", {many(one.frames, 'frame')} usable" if one.verdict in ("truncated", "damaged") else ""
        reason = printable(f"{one.path}: {one.reason}")
        lines.append(Text.assemble((f"{one.verdict:12}", "yellow"), f" {reason}{usable}"))
    if len(faulty) > MAX_FAULTS_LISTED:
        lines.append(Text(f"… and {len(faulty) - MAX_FAULTS_LISTED} more; --json lists them all"))
    return lines


def _counts_table(verdicts: Sequence[Verdict]) -> Table:
    table = Table(box=None, padding=(0, 2))
    table.add_column("verdict")
    table.add_column("videos", justify="right")
    table.add_column("")
    counts = Counter(str(one.verdict) for one in verdicts)
    for verdict, meaning in MEANING.items():
        if counts[verdict]:
            table.add_row(verdict, str(counts[verdict]), meaning)
    return table


def _usable(file: Path, videos: VideoList, verdicts: Sequence[Verdict]) -> VideoList:
    """The usable videos with their frames, for a list at ``file``.

    Raises:
        UserError: no video is usable; the faults are printed as warnings.
    """
    kept = []
    for place, one in enumerate(verdicts):
        if one.verdict in USABLE:
            try:
                listable(one.path)
            except UserError as error:
                warn(f"left out: {error}")
            else:
                kept.append(place)
    if not kept:
        for line in _faults(verdicts):
            warn(line.plain)
        raise UserError(f"{videos.source}: none of the videos is usable; {file} was not written.")
    # Count the lost frames too: frames are addressed by number, and the end would be cut off otherwise.
    counts = np.array([max(verdicts[place].frames, verdicts[place].numbers) for place in kept])
    return replace(videos.part(np.array(kept), file.parent), frames=counts)
