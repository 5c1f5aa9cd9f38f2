"""The ledger: every video opened, decoded to its end, and judged.

A file may crash the decoder or keep it busy for ever, so each is decoded in a process of its own
kind that is killed when its time is over.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import av
from pebble import ProcessExpired, ProcessPool

from dsm.errors import UserError
from dsm.files import is_dir, is_file
from dsm.video.decode import probe, read_frames, segment_frames
from dsm.video.folder import frame_files, read_pictures
from dsm.video.pack import in_pack
from dsm.video.segments import file_of, segment_of
from dsm.video.source import (
    READING_TIME,
    Deadline,
    EmptyVideoError,
    NoVideoError,
    VerdictName,
    VideoError,
    open_video,
    said,
)

USABLE: tuple[VerdictName, ...] = ("ok", "short", "truncated")
"""Those of which frames can be had."""


@dataclass(frozen=True)
class Verdict:
    """What was found out about one video."""

    path: str
    verdict: VerdictName
    frames: int = 0
    """That can be decoded, counted from the first up to where the file breaks off."""
    header_frames: int = 0
    """That the header promises; 0 where it does not say."""
    width: int = 0
    height: int = 0
    fps: float = 0.0
    seconds: float = 0.0
    """That the look took."""
    reason: str = ""


def judge(path: str | Path, clip_frames: int = 1) -> Verdict:
    """Decode a video, or a folder of frames, to its end.

    Args:
        clip_frames: frames below which a video is short.
    """
    begun = time.monotonic()
    look = (
        _judge_segment
        if segment_of(path)
        else _judge_folder
        if is_dir(path)
        else _judge_packed
        if in_pack(path)
        else _judge_file
    )
    try:
        found = look(Path(path))
    except VideoError as error:
        found = Verdict("", error.verdict, reason=str(error).removeprefix(f"{path}: "))
    return _finished(found, str(path), clip_frames, time.monotonic() - begun)


def _finished(found: Verdict, path: str, clip_frames: int, seconds: float) -> Verdict:
    verdict, reason = found.verdict, found.reason
    if verdict == "ok" and found.frames < clip_frames:
        verdict, reason = "short", f"{found.frames} frames, a clip has {clip_frames}"
    facts = {**vars(found), "path": path, "verdict": verdict, "reason": reason, "seconds": round(seconds, 3)}
    return Verdict(**facts)


def _judge_file(path: Path) -> Verdict:
    broken = ""
    count = 0
    with open_video(path) as container:
        stream = container.streams.video[0]
        try:
            for _ in container.decode(video=0):
                count += 1
        except (av.FFmpegError, EOFError) as error:
            broken = f"breaks off after frame {count} ({said(error)})"
        promised = max(stream.frames, 0)
        width, height, fps = stream.width, stream.height, float(stream.average_rate or 0)
    if count == 0:
        raise VideoError(f"{path}: not one frame can be decoded.")
    verdict: VerdictName = "ok"
    if promised - count > 1:  # one too many is a common slip of the header
        verdict = "truncated"
        broken = broken or f"{promised - count} of the {promised} frames in its header are not there"
    elif broken:
        verdict = "truncated"
    elif promised != count and promised:
        broken = f"its header says {promised} frames"
    return Verdict("", verdict, count, promised, width, height, fps, reason=broken)


def _judge_folder(path: Path) -> Verdict:
    try:
        files = frame_files(path)
    except NoVideoError:
        if not any(path.iterdir()):
            raise EmptyVideoError(f"{path}: an empty folder.") from None
        raise
    sizes = set()
    for count, file in enumerate(files):
        try:
            sizes.add(read_pictures([file], None, Deadline(path, None))[0].shape)
        except VideoError as error:
            if not count:
                raise
            height, width = next(iter(sizes))[:2]
            return Verdict("", "truncated", count, len(files), width, height, reason=str(error))
    height, width = next(iter(sizes))[:2]
    reason = "its pictures differ in size" if len(sizes) > 1 else ""
    return Verdict("", "ok", len(files), len(files), width, height, reason=reason)


def _judge_segment(path: Path) -> Verdict:
    """Of a segment it is asked how far its file can be decoded, once for all segments of a file."""
    part = segment_of(path)
    assert part is not None
    whole = _judge_whole(part.file, part.file.stat().st_mtime_ns if is_file(part.file) else 0)
    if whole.verdict not in USABLE:
        return whole
    inside = segment_frames(part)
    count = min(max(whole.frames - inside.start, 0), len(inside))
    if not count:
        raise VideoError(f"{path}: its file can be decoded up to frame {whole.frames} only.")
    broken = count < len(inside)
    verdict: VerdictName = "truncated" if broken else "ok" if whole.verdict == "truncated" else whole.verdict
    reason = f"its file {whole.reason}" if whole.reason else ""
    return replace(whole, verdict=verdict, frames=count, header_frames=len(inside), reason=reason)


@lru_cache(maxsize=64)
def _judge_whole(file: Path, changed: int) -> Verdict:
    return judge(file)


def _judge_packed(path: Path) -> Verdict:
    info = probe(path)
    read_frames(path, range(info.frames))
    return Verdict("", "ok", info.frames, info.frames, info.width, info.height, info.fps)


BYTES_A_SECOND = 2_000_000
"""Of video a busy core decodes at least; an hour of 1080p takes minutes, and is no hang."""


def judge_all(
    paths: Sequence[str | Path],
    *,
    clip_frames: int = 1,
    seconds: float = READING_TIME,
    workers: int = 2,
    on_verdict: Callable[[Verdict], None] = lambda verdict: None,
) -> list[Verdict]:
    """Judge many videos, side by side; neither a crash nor a hang of the decoder does harm.

    Args:
        seconds: after which a decoder is killed, for each file; a second more for each 2 MB of a file.
        on_verdict: called with each, in their order, as soon as it is known.
    """
    verdicts: list[Verdict] = []
    # spawn: a fork of a process with threads may hang.
    pool = ProcessPool(max_workers=workers, context=multiprocessing.get_context("spawn"))
    try:
        limits = [seconds + _size(path) / BYTES_A_SECOND for path in paths]
        judged = [
            pool.schedule(judge, (path,), {"clip_frames": clip_frames}, timeout=limit)
            for path, limit in zip(paths, limits, strict=True)
        ]
        for path, limit, one in zip(paths, limits, judged, strict=True):
            try:
                verdicts.append(one.result())
            except FutureTimeoutError:
                reason = f"not decoded within {limit:.0f} s"
                verdicts.append(Verdict(str(path), "timeout", seconds=limit, reason=reason))
            except ProcessExpired as error:
                reason = f"crashes the decoder ({error})"
                verdicts.append(Verdict(str(path), "undecodable", reason=reason))
            except Exception as error:  # one file of a stranger must not cost the verdicts of the others
                reason = f"cannot be decoded ({type(error).__name__})"
                verdicts.append(Verdict(str(path), "undecodable", reason=reason))
            on_verdict(verdicts[-1])
    finally:  # also when stopped in the middle: what is left is not waited for
        pool.stop()  # type: ignore[no-untyped-call]
        pool.join()
    return verdicts


def _size(path: str | Path) -> int:
    """Bytes of a video file; 0 of what is none."""
    try:
        return file_of(Path(path)).stat().st_size
    except (OSError, ValueError):
        return 0


def ledger_json(verdicts: Iterable[Verdict]) -> str:
    """Verdicts as the text of a ledger file."""
    return json.dumps({"files": [vars(verdict) for verdict in verdicts]}, indent=1) + "\n"


def read_ledger(path: str | Path) -> list[Verdict]:
    """Read what :func:`ledger_json` wrote.

    Raises:
        UserError: it is no ledger.
    """
    try:
        return [Verdict(**entry) for entry in json.loads(Path(path).read_text(encoding="utf-8"))["files"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path}: is no ledger (`dsm data check --json` writes one).") from None
