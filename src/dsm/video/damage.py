"""What is found to be damaged while a video is decoded, so that it can be told."""

from __future__ import annotations

from dataclasses import dataclass

from av.video.frame import VideoFrame

from dsm.video.kept_open import Facts, facts_of
from dsm.video.source import Source, said


@dataclass
class Damage:
    """What was found to be wrong while a video was decoded in order."""

    packets: int = 0
    """That hold something and are not hidden: frames, in files that keep the rules."""
    hidden: int = 0
    """That the file itself says are not to be shown, as an edit list does."""
    frames: int = 0
    """That were decoded."""
    faulty: int = 0
    """Of them, those that the decoder says are wrong in part, and after which a whole one came."""
    failed: int = 0
    """Packets that could not be decoded, before the last frame."""
    skipped: int = 0
    """Numbers before the last frame that no frame has."""
    numbered: bool = False
    """Whether frames have the numbers of their packets."""
    reason: str = ""
    """What FFmpeg said first."""
    _failed_since: int = 0
    _faulty_since: int = 0

    @property
    def lost(self) -> int:
        """Pictures lost before the last frame; 0 where nothing went wrong."""
        if self.numbered:
            return self.skipped if self.reason or self.corrupt else 0
        return self.failed

    @property
    def corrupt(self) -> int:
        """Frames that are wrong in part; the last one alone is but cut off where the file ends."""
        return self.faulty + (self._faulty_since if self._faulty_since > 1 else 0)

    @property
    def breaks_off(self) -> bool:
        """Whether packets at the end cannot be decoded, or read."""
        return self._failed_since > 0 or self._faulty_since == 1

    @property
    def found(self) -> bool:
        """Whether pictures are lost, or wrong, before the last one."""
        return self.lost > 0 or self.corrupt > 0

    def told(self, of: str = "") -> str:
        """In words; empty where there is none. ``of``: put before the number of pictures, as 'the first '."""
        total = self.frames + self.lost
        lost = f"{self.lost} of {of}{total} pictures lost" if self.lost else ""
        wrong = f"{self.corrupt} of {of}{total} shown with faults" if self.corrupt else ""
        why = f" ({self.reason})" if self.reason else ""
        return f"{', '.join(filter(None, (lost, wrong)))}{why}" if self.found else ""

    def broken(self, error: Exception) -> None:
        self.reason = self.reason or said(error)
        self._failed_since += 1

    def decoded(self, frame: VideoFrame, skipped: int, *, late: bool) -> None:
        """``late``: when all packets were through the decoder."""
        self.frames += 1
        self.skipped += skipped
        if frame.is_corrupt:
            self._faulty_since += 1
        else:
            self.faulty += self._faulty_since
            self._faulty_since = 0
        if not late:
            self.failed += self._failed_since
            self._failed_since = 0


_noted: dict[Facts, str] = {}
_MOST = 10_000


def note(source: Source, damage: Damage, of: str = "") -> None:
    """Keep what was found in a file, for this process; ``of`` as in :meth:`Damage.told`."""
    if damage.found and (facts := facts_of(source)) and len(_noted) < _MOST:
        _noted.setdefault(facts, damage.told(of))


def noted(source: Source) -> str | None:
    """What reads of this process have found in a file, in words; None where nothing was found."""
    if not _noted:
        return None
    facts = facts_of(source)
    return _noted.get(facts) if facts else None
