"""The ledger of a run: which videos could not be read and were replaced by others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from dsm.datasets.lists import VideoList
from dsm.datasets.watched import BadVideo
from dsm.errors import UserError
from dsm.files import write_text
from dsm.video.ledger import Verdict, ledger_json, read_ledger

LEDGER = "ledger.json"


class BadVideos:
    """Collects bad videos, writes them down as they come, and ends the run when they are too many."""

    def __init__(self, run: Path, videos: VideoList, most: float, *, write: bool = True) -> None:
        """``write``: of several processes, which all are told of all bad videos, one writes."""
        self._file, self._videos, self._most, self._write = run / LEDGER, videos, most, write
        self._found = {entry.path: entry for entry in read_ledger(self._file)} if self._file.exists() else {}

    def add(self, bad: Iterable[BadVideo]) -> None:
        """Note what came with a batch.

        Raises:
            UserError: more of the list's videos are bad than are allowed.
        """
        new = {self._videos.paths[video.index]: video for video in bad}
        new = {path: video for path, video in new.items() if path not in self._found}
        if not new:
            return
        for path, video in new.items():
            reason = video.reason.removeprefix(f"{self._videos.file(video.index)}: ")
            self._found[path] = Verdict(path, video.verdict, reason=reason)
        if self._write:
            write_text(self._file, ledger_json(self._found.values()))
        if len(self._found) > self._most * len(self._videos):
            counts = Counter(entry.verdict for entry in self._found.values()).most_common()
            kinds = ", ".join(f"{count} {verdict}" for verdict, count in counts)
            first = next(iter(self._found.values()))
            raise UserError(
                f"{self._videos.source}: {len(self._found)} of {len(self._videos)} videos cannot be read "
                f"({kinds}), more than --data.max-bad {self._most:g} allows. The first is {first.path}: "
                f"{first.reason} All are named in {self._file}; `dsm data check` writes a list without them."
            )

    def note(self) -> str:
        """For the progress bar: how many there are, once there are any."""
        return f"  {len(self._found)} bad" if self._found else ""
