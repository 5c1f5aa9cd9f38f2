"""Ledgers: which videos of a run could not be read and were replaced, which of a list were left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dsm.data.lists import VideoList
from dsm.errors import UserError
from dsm.files import write_text
from dsm.terminal import many, note
from dsm.video.ledger import Verdict, ledger_json, read_ledger
from dsm.video.source import BadVideo

if TYPE_CHECKING:
    from dsm.data.reading_state import ReadingState  # needs torch, which verbs on lists do without

LEDGER = "ledger.json"
LEFT_OUT = ".bad.json"
"""What the name of a ledger of left out videos ends in."""
PASSING = ("missing", "timeout")
"""Verdicts of a disk that was away, or slow: a resumed run tries such videos anew."""
SHOWN = 10
"""Left out videos that are named where all are counted."""


class BadVideos:
    """Collects bad videos, writes them down as they come, and ends the run when they are too many."""

    def __init__(
        self, run: Path, videos: VideoList, most: float, state: ReadingState, *, write: bool = True
    ) -> None:
        """Begin with what the run's ledger has.

        Args:
            most: share of the videos that may be bad.
            state: of those who load; it is told of each.
            write: of several processes, which all are told of all bad videos, one writes.
        """
        self._file, self._videos, self._most, self._write = run / LEDGER, videos, most, write
        self._state = state
        found = read_ledger(self._file) if self._file.exists() else []
        self._damaged = {entry.path: entry for entry in found if entry.verdict == "damaged"}
        found = [entry for entry in found if entry.path not in self._damaged]
        self._found = {entry.path: entry for entry in found if entry.verdict not in PASSING}
        places = {path: place for place, path in enumerate(videos.paths)} if self._found else {}
        state.tell(
            BadVideo(places[path], entry.verdict, entry.reason)
            for path, entry in self._found.items()
            if path in places
        )

    def add(self, bad: Sequence[BadVideo]) -> None:
        """Note what came with a batch; a video that is merely damaged is told, and is none that is bad.

        Raises:
            UserError: more of the list's videos are bad than are allowed.
        """
        self._add_damaged(video for video in bad if video.verdict == "damaged")
        bad = [video for video in bad if video.verdict != "damaged"]
        new = {self._videos.paths[video.index]: video for video in bad}
        new = {path: video for path, video in new.items() if path not in self._found}
        if not new:
            return
        self._state.tell(new.values())
        for path, video in new.items():
            self._found[path] = verdict_of(video, self._videos)
        self._save()
        if len(self._found) > self._most * len(self._videos):
            counts = Counter(entry.verdict for entry in self._found.values()).most_common()
            kinds = ", ".join(f"{count} {verdict}" for verdict, count in counts)
            first = next(iter(self._found.values()))
            raise UserError(
                f"{self._videos.source}: {len(self._found)} of {many(len(self._videos), 'video')} "
                "cannot be read "
                f"({kinds}), more than --data.max-bad {self._most:g} allows. The first is {first.path}: "
                f"{first.reason} All are named in {self._file}; `dsm data check` writes a list without them."
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
            write_text(self._file, ledger_json([*self._found.values(), *self._damaged.values()]))

    def note(self) -> str:
        """For the progress bar: how many there are, once there are any."""
        damaged = f"  {len(self._damaged)} damaged" if self._damaged else ""
        return (f"  {len(self._found)} bad" if self._found else "") + damaged


class LeftOut:
    """Collects the videos of a labelled list that cannot be read and are left out."""

    def __init__(self, videos: VideoList, *, least: int = 1) -> None:
        """``least``: videos that must be left of each class."""
        self._videos, self._least = videos, least
        self._found: dict[int, BadVideo] = {}

    def add(self, bad: BadVideo) -> None:
        """Note one; it may come again.

        Raises:
            UserError: too few are left of its class.
        """
        if bad.index in self._found:
            return
        self._found[bad.index] = bad
        label = self._videos.labels[bad.index]
        out = self._videos.labels[list(self._found)] == label
        left = int((self._videos.labels == label).sum() - out.sum())
        if left < self._least:
            raise UserError(
                f"{self._videos.source}: of class {label} only {left} can be read, "
                f"{self._least} are needed; the last is {bad.reason} `dsm data check` names all such."
            )

    def note(self) -> str:
        """For the progress bar: how many there are, once there are any."""
        return f"  {len(self._found)} cannot be read" if self._found else ""

    @property
    def verdicts(self) -> list[Verdict]:
        """In the order of the list."""
        return [verdict_of(self._found[index], self._videos) for index in sorted(self._found)]

    def save(self, file: Path) -> None:
        """Write the ledger; where nothing was left out, there is none."""
        save_left_out(file, self.verdicts)


def save_left_out(file: Path, verdicts: Sequence[Verdict]) -> None:
    """Write a ledger of left out videos, and remove that of earlier work where there are none."""
    file.unlink(missing_ok=True)
    if verdicts:
        write_text(file, ledger_json(verdicts))


def told_of_left_out(folder: Path) -> list[str]:
    """A sentence for every ledger of left out videos in a folder: how many, the first of them, and why."""
    told = []
    for file in sorted(folder.rglob(f"*{LEFT_OUT}")):
        found = read_ledger(file)
        first = "; ".join(f"{one.path}: {one.reason}" for one in found[:SHOWN])
        more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        name = file.relative_to(folder).as_posix().removesuffix(LEFT_OUT)
        told.append(f"{name}: {len(found)} cannot be read: {first}{more} (all: {file.name})")
    return told


def tell_damaged(found: Mapping[str, str]) -> None:
    """Say of which videos pictures are lost, and that all others of theirs are used: key -> sentence."""
    for told in list(found.values())[:SHOWN]:
        note(f"damaged: {told}; what can be decoded is used")
    if len(found) > SHOWN:
        note(f"… and {len(found) - SHOWN} more that are damaged")


def verdict_of(video: BadVideo, videos: VideoList) -> Verdict:
    """A line of a ledger, by the path that the list has."""
    reason = video.reason.removeprefix(f"{videos.file(video.index)}: ")
    return Verdict(videos.paths[video.index], video.verdict, reason=reason)
