"""Ledgers of unreadable videos: those that a run replaced, and those left out of a list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dsm.data.lists import VideoList
from dsm.errors import UserError
from dsm.files import write_text
from dsm.terminal import many, note, warn
from dsm.video.ledger import Verdict, ledger_json, read_ledger
from dsm.video.source import BadVideo

if TYPE_CHECKING:
    from dsm.data.reading_state import ReadingState  # imports torch, which verbs on lists do not need

LEDGER = "ledger.json"
LEFT_OUT = ".bad.json"
"""File name suffix of a ledger of left-out videos."""
PASSING = ("missing", "timeout")
"""Verdicts that an unavailable or slow disk may cause; a resumed run tries such videos again."""
MAX_NAMED = 10
"""Most left-out videos that are named; all are counted."""


class BadVideos:
    """Collects bad videos, records each at once, and ends the run if there are too many."""

    def __init__(
        self, run: Path, videos: VideoList, most: float, state: ReadingState, *, write: bool = True
    ) -> None:
        """Start from the run's ledger.

        Args:
            most: share of the videos that may be bad.
            state: shared with the loading processes, which learn of each bad video through it.
            write: True in one process only; every process is given all bad videos.
        """
        self._file, self._videos, self._most, self._write = run / LEDGER, videos, most, write
        self._state = state
        entries = read_ledger(self._file) if self._file.exists() else []
        self._damaged = {entry.path: entry for entry in entries if entry.verdict == "damaged"}
        entries = [entry for entry in entries if entry.path not in self._damaged]
        self._bad = {entry.path: entry for entry in entries if entry.verdict not in PASSING}
        places = {path: place for place, path in enumerate(videos.paths)} if self._bad else {}
        state.tell(
            BadVideo(places[path], entry.verdict, entry.reason)
            for path, entry in self._bad.items()
            if path in places
        )

    def add(self, bad: Sequence[BadVideo]) -> None:
        """Record a batch's bad videos; damaged ones are reported but do not count as bad.

        Raises:
            UserError: more of the list's videos are bad than allowed.
        """
        self._add_damaged(video for video in bad if video.verdict == "damaged")
        bad = [video for video in bad if video.verdict != "damaged"]
        new = {self._videos.paths[video.index]: video for video in bad}
        new = {path: video for path, video in new.items() if path not in self._bad}
        if not new:
            return
        self._state.tell(new.values())
        for path, video in new.items():
            self._bad[path] = verdict_of(video, self._videos)
        self._save()
        if len(self._bad) > self._most * len(self._videos):
            counts = Counter(entry.verdict for entry in self._bad.values()).most_common()
            kinds = ", ".join(f"{count} {verdict}" for verdict, count in counts)
            first = next(iter(self._bad.values()))
            raise UserError(
                f"{self._videos.source}: {len(self._bad)} of {many(len(self._videos), 'video')} "
                "cannot be read "
                f"({kinds}), more than --data.max-bad {self._most:g} allows. The first is {first.path}: "
                f"{first.reason} {self._file} names all; `dsm data check` writes a list without them."
            )

    def _add_damaged(self, damaged: Iterable[BadVideo]) -> None:
        new = {self._videos.paths[video.index]: verdict_of(video, self._videos) for video in damaged}
        new = {path: entry for path, entry in new.items() if path not in self._damaged}
        if new:
            self._damaged |= new
            self._save()
            if self._write:
                tell_damaged({path: f"{path}: {entry.reason}" for path, entry in new.items()})

    def _save(self) -> None:
        if self._write:
            write_text(self._file, ledger_json([*self._bad.values(), *self._damaged.values()]))

    def note(self) -> str:
        """Numbers of bad and damaged videos for the progress bar; empty where there are none."""
        damaged = f"  {len(self._damaged)} damaged" if self._damaged else ""
        return (f"  {len(self._bad)} bad" if self._bad else "") + damaged


class LeftOut:
    """Collects the videos of a labelled list that are left out because they cannot be read."""

    def __init__(self, videos: VideoList, *, least: int = 1) -> None:
        """``least``: fewest readable videos per class."""
        self._videos, self._least = videos, least
        self._bad: dict[int, BadVideo] = {}

    def add(self, bad: BadVideo) -> None:
        """Record a video; it may be added more than once.

        Raises:
            UserError: its class has too few readable videos left.
        """
        if bad.index in self._bad:
            return
        self._bad[bad.index] = bad
        label = self._videos.labels[bad.index]
        out = self._videos.labels[list(self._bad)] == label
        left = int((self._videos.labels == label).sum() - out.sum())
        if left < self._least:
            raise UserError(
                f"{self._videos.source}: only {many(left, 'video')} of class {label} can be read, but at "
                f"least {self._least} are needed; remove the class, or repair its videos. The last failure: "
                f"{bad.reason} `dsm data check` names all bad videos."
            )

    def note(self) -> str:
        """The number of unreadable videos for the progress bar; empty where there are none."""
        return f"  {len(self._bad)} cannot be read" if self._bad else ""

    @property
    def verdicts(self) -> list[Verdict]:
        """The verdicts, in the order of the list."""
        return [verdict_of(self._bad[index], self._videos) for index in sorted(self._bad)]

    def save(self, file: Path) -> None:
        """Write the ledger, unless nothing was left out."""
        save_left_out(file, self.verdicts)


def save_left_out(file: Path, verdicts: Sequence[Verdict]) -> None:
    """Write a ledger of left-out videos; if there are none, remove the ledger of an earlier call."""
    file.unlink(missing_ok=True)
    if verdicts:
        write_text(file, ledger_json(verdicts))


def left_out_sentences(folder: Path) -> list[str]:
    """One sentence per ledger in a folder: how many videos were left out, the first of them, and why."""
    sentences = []
    for file in sorted(folder.rglob(f"*{LEFT_OUT}")):
        entries = read_ledger(file)
        first = "; ".join(f"{one.path}: {one.reason}" for one in entries[:MAX_NAMED])
        more = f"; and {len(entries) - MAX_NAMED} more" if len(entries) > MAX_NAMED else ""
        name = file.relative_to(folder).as_posix().removesuffix(LEFT_OUT)
        count = many(len(entries), "video")
        sentences.append(f"{name}: {count} cannot be read: {first}{more} (all: {file.name})")
    return sentences


def tell_left_out(out: Path, bad: Sequence[Verdict]) -> None:
    """Say which videos of an extraction could not be read."""
    for video in bad[:MAX_NAMED]:
        warn(f"left out: {video.path}: {video.reason}")
    if bad:
        warn(f"{out}{LEFT_OUT}: lists {many(len(bad), 'video')} that cannot be read")


def tell_left_out_of(features: Path) -> None:
    """Say how many videos were left out when a features file was written."""
    ledger = features.with_name(features.name + LEFT_OUT)
    if ledger.exists():
        warn(f"{features}: {many(len(read_ledger(ledger)), 'video')} could not be read; see {ledger}")


def tell_damaged(damaged: Mapping[str, str]) -> None:
    """Note which videos have lost frames (key -> sentence); their other frames are used."""
    for sentence in list(damaged.values())[:MAX_NAMED]:
        note(f"damaged: {sentence}; the frames that can be decoded are used")
    if len(damaged) > MAX_NAMED:
        note(f"… and {len(damaged) - MAX_NAMED} more damaged videos")


def verdict_of(video: BadVideo, videos: VideoList) -> Verdict:
    """A bad video as a line of a ledger, with its path as in the list."""
    reason = video.reason.removeprefix(f"{videos.file(video.index)}: ")
    return Verdict(videos.paths[video.index], video.verdict, reason=reason)
