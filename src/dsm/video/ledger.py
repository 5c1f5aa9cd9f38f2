"""The ledger: every video is opened, decoded to its end, and judged.

A file may crash the decoder or make it hang, so files are decoded in separate processes, which are killed at
their time limit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TypedDict

from dsm.errors import UserError, first_line
from dsm.files import json_text
from dsm.limits import LEDGER_BYTES
from dsm.terminal import many
from dsm.untrusted import checked, read_json
from dsm.video.containers import bytes_missing
from dsm.video.damage import Damage
from dsm.video.decode import probe, read_frames
from dsm.video.frame_folder import BrokenPictureError, describe_broken, frame_files, is_folder, read_pictures
from dsm.video.guarded import Failed, Job, call_guarded, time_for
from dsm.video.in_order import every_frame
from dsm.video.pack import damaged_in, in_pack
from dsm.video.segments import segment_of
from dsm.video.settings import READING_TIME
from dsm.video.source import (
    Deadline,
    EmptyVideoError,
    NoVideoError,
    VerdictName,
    VideoError,
    open_video,
    video_stream,
)
from dsm.video.times import changed, segment_frames

USABLE: tuple[VerdictName, ...] = ("ok", "short", "truncated", "damaged")
"""Verdicts on videos that still give frames."""
_AT_ONCE = 256
"""Frames of a packed video that are read at a time."""


@dataclass(frozen=True)
class Verdict:
    """The result of decoding one video."""

    path: str
    verdict: VerdictName
    frames: int = 0
    """Frames that can be decoded."""
    header_frames: int = 0
    """Frames that the header promises; 0 if it does not say."""
    width: int = 0
    height: int = 0
    fps: float = 0.0
    seconds: float = 0.0
    """Time taken to judge it."""
    reason: str = ""
    numbers: int = 0
    """The last frame number plus one: more than ``frames`` if frames in between are lost; 0 if equal."""


def judge(path: str | Path, clip_frames: int = 1) -> Verdict:
    """Decode a video, or a folder of frames, to its end.

    Args:
        clip_frames: a video with fewer frames is short.
    """
    begun = time.monotonic()
    try:
        judged = _judge_segment(Path(path)) if segment_of(path) else _decode_all(Path(path))[0]
    except VideoError as error:
        judged = Verdict("", error.verdict, reason=str(error).removeprefix(f"{path}: "))
    return _finished(judged, str(path), clip_frames, time.monotonic() - begun)


def _finished(judged: Verdict, path: str, clip_frames: int, seconds: float) -> Verdict:
    verdict, reason = judged.verdict, judged.reason
    if verdict == "ok" and judged.frames < clip_frames:
        verdict, reason = "short", f"{many(judged.frames, 'frame')}, but a clip needs {clip_frames}"
    facts = {**vars(judged), "path": path, "verdict": verdict, "reason": reason, "seconds": round(seconds, 3)}
    return Verdict(**facts)


def _decode_all(path: Path) -> tuple[Verdict, Damage]:
    """Judge a video that is not a segment; also return its damage."""
    if is_folder(path) or in_pack(path):
        judged = _judge_folder(path) if is_folder(path) else _judge_packed(path)
        return judged, Damage(frames=judged.frames, count=judged.frames)
    damage = Damage()
    count = 0
    with open_video(path) as container:
        for count, _ in enumerate(every_frame(container, damage), start=1):  # noqa: B007
            pass
        stream = video_stream(container)
        header = max(stream.frames, 0)
        width, height, fps = stream.width, stream.height, float(stream.average_rate or 0)
    if count == 0:
        raise VideoError(f"{path}: no frame can be decoded.")
    # Frames hidden by an edit list are in the file but must not be shown.
    promised = max(header - damage.hidden, 0)
    reasons = [damage.text()] if damage.found else []
    missing = bytes_missing(path)
    short = promised - count > 1  # headers often count one too many
    if damage.breaks_off:
        why = f" ({damage.reason})" if damage.reason else ": its last picture is cut off"
        reasons.append(f"breaks off after frame {count}{why}")
    elif missing:
        reasons.append(f"breaks off after frame {count}: {missing / 1e6:,.3g} MB of it are missing")
    elif short:
        reasons.append(
            f"{promised - count} of the {many(promised, 'frame')} in its header "
            f"{'is' if promised - count == 1 else 'are'} missing"
        )
    verdict: VerdictName = "damaged" if damage.found else "truncated" if reasons else "ok"
    if not reasons and promised != count and promised:
        reasons.append(f"its header says {many(promised, 'frame')}")
    judged = Verdict(
        "", verdict, damage.frames, header, width, height, fps, reason="; ".join(reasons), numbers=count
    )
    return judged, damage


def _judge_segment(path: Path) -> Verdict:
    """Judge a segment by the part of its file that it covers."""
    part = segment_of(path)
    assert part is not None
    file, damage = _decode_once(part.file, changed(part.file))
    if file.verdict not in USABLE:
        return file
    inside = segment_frames(part)
    own = damage.inside(inside)
    if own.frames < 1:
        why = own.text() or f"its file can only be decoded up to frame {damage.count}"
        raise VideoError(f"{path}: no frame can be decoded: {why}.")
    reasons = [own.text()] if own.found else []
    if own.breaks_off or len(inside) - own.count > 1:
        reasons.append(f"its file breaks off after frame {damage.count}")
    verdict: VerdictName = "damaged" if own.found else "truncated" if reasons else "ok"
    return replace(
        file,
        verdict=verdict,
        frames=own.frames,
        header_frames=len(inside),
        reason="; ".join(reasons),
        numbers=own.count,
    )


@lru_cache(maxsize=64)
def _decode_once(file: Path, version: int | str) -> tuple[Verdict, Damage]:
    """As :func:`_decode_all`, once for all segments of a file; an unreadable file also gets a verdict."""
    try:
        return _decode_all(file)
    except VideoError as error:
        return Verdict("", error.verdict, reason=str(error).removeprefix(f"{file}: ")), Damage()


def _judge_folder(path: Path) -> Verdict:
    try:
        files = frame_files(path)
    except NoVideoError:
        if path.is_dir() and not any(path.iterdir()):
            raise EmptyVideoError(f"{path}: is an empty folder.") from None
        raise
    sizes: list[tuple[int, ...]] = []
    broken: dict[int, VideoError] = {}
    for place, file in enumerate(files):
        try:
            sizes.append(read_pictures([file], None, Deadline(path, None))[0].shape)
        except BrokenPictureError as error:
            broken[place] = error.kept()
    if not sizes:
        raise broken[0]
    height, width = sizes[0][:2]
    reasons = [describe_broken(files, broken)] if broken else []
    reasons += ["its pictures differ in size"] if len(set(sizes)) > 1 else []
    cut_off = bool(broken) and min(broken) == len(sizes)  # all broken pictures are at the end
    return Verdict(
        "",
        "truncated" if cut_off else "damaged" if broken else "ok",
        len(sizes),
        len(files),
        width,
        height,
        reason="; ".join(reasons),
        numbers=len(files) if broken and not cut_off else 0,
    )


def _judge_packed(path: Path) -> Verdict:
    info = probe(path)
    for first in range(0, info.frames, _AT_ONCE):  # a long video does not fit into memory
        read_frames(path, range(first, min(first + _AT_ONCE, info.frames)))
    # The pack has the frames that could be decoded, and records which videos are incomplete.
    packed = in_pack(path)
    reason = damaged_in(packed[0]).get(packed[1], "") if packed else ""
    verdict: VerdictName = "damaged" if reason else "ok"
    return Verdict("", verdict, info.frames, info.frames, info.width, info.height, info.fps, reason=reason)


def judge_all(
    paths: Sequence[str | Path],
    *,
    clip_frames: int = 1,
    seconds: float = READING_TIME,
    workers: int = 2,
    on_verdict: Callable[[Verdict], None] = lambda verdict: None,
) -> list[Verdict]:
    """Judge many videos in parallel; a crash or hang of the decoder does no harm.

    Args:
        seconds: time limit per file, plus one second for each 2 MB; then its decoder is killed.
        on_verdict: called with each verdict, in order, as soon as it is known.
    """
    limits = [time_for(path, seconds) for path in paths]
    jobs = [Job(judge, (path, clip_frames), limit) for path, limit in zip(paths, limits, strict=True)]
    verdicts: list[Verdict] = []
    outcomes = call_guarded(jobs, workers)
    for path, limit, outcome in zip(paths, limits, outcomes, strict=True):
        if not isinstance(outcome, Failed):
            verdicts.append(outcome)
        elif outcome.timeout:
            verdicts.append(Verdict(str(path), "timeout", seconds=limit, reason=outcome.reason))
        else:
            verdicts.append(Verdict(str(path), "undecodable", reason=outcome.reason))
        on_verdict(verdicts[-1])
    return verdicts


def ledger_json(verdicts: Iterable[Verdict]) -> str:
    """Verdicts as the text of a ledger file."""
    return json_text({"files": [vars(verdict) for verdict in verdicts]}, indent=1) + "\n"


class Ledger(TypedDict):
    """The content of a ledger file."""

    files: list[Verdict]


def read_ledger(path: str | Path) -> list[Verdict]:
    """Read what :func:`ledger_json` wrote.

    Raises:
        UserError: the file is not a ledger.
    """
    try:
        return checked(read_json(Path(path), most=LEDGER_BYTES), Ledger)["files"]
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is not a ledger written by `dsm data check --json` ({first_line(error)})."
        ) from None
