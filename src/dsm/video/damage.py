"""What is found to be damaged while a video is decoded, so that it can be told."""

from __future__ import annotations

from dataclasses import dataclass, field

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
    count: int = 0
    """Numbers that frames have: one more than the last."""
    numbered: bool = False
    """Whether frames have the numbers of their packets."""
    reason: str = ""
    """What FFmpeg said first."""
    _gaps: list[tuple[int, int]] = field(default_factory=list)
    """(number, how many) of each frame before which numbers are left out, or packets could not be decoded."""
    _faulty: list[int] = field(default_factory=list)
    """Numbers of frames that the decoder says are wrong in part, and after which a whole one came."""
    _failed_since: int = 0
    _faulty_since: list[int] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Pictures lost before the last frame; 0 where nothing went wrong."""
        wrong = not self.numbered or bool(self.reason or self._corrupt)
        return sum(many for _, many in self._gaps) if wrong else 0

    @property
    def corrupt(self) -> int:
        """Frames that are wrong in part; the last one alone is but cut off where the file ends."""
        return len(self._corrupt)

    @property
    def _corrupt(self) -> list[int]:
        return self._faulty + (self._faulty_since if len(self._faulty_since) > 1 else [])

    @property
    def breaks_off(self) -> bool:
        """Whether packets at the end cannot be decoded, or read."""
        return self._failed_since > 0 or len(self._faulty_since) == 1

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

    def inside(self, numbers: range) -> Damage:
        """What of it is of the frames with these numbers, which count from 0 then."""
        begin, stop = numbers.start, numbers.stop
        own = Damage(count=max(min(self.count, stop) - begin, 0), numbered=self.numbered)
        for number, many in self._gaps if self.lost else []:
            left_out = len(range(max(number - many, begin), min(number, stop)))
            if many := left_out if self.numbered else many * (number in numbers):
                own._gaps.append((number - begin, many))
        own.frames = own.count - (sum(many for _, many in own._gaps) if self.numbered else 0)
        own._faulty = [number - begin for number in self._corrupt if number in numbers]
        if self.count < stop:
            own._failed_since = self._failed_since
        if len(self._faulty_since) == 1 and self._faulty_since[0] in numbers:
            own._faulty_since = [self._faulty_since[0] - begin]
        if own._gaps or own._failed_since:
            own.reason = self.reason
        return own

    def broken(self, error: Exception) -> None:
        self.reason = self.reason or said(error)
        self._failed_since += 1

    def decoded(self, frame: VideoFrame, number: int, *, late: bool) -> None:
        """``number``: above all before it. ``late``: when all packets were through the decoder."""
        self.frames += 1
        failed = 0 if late else self._failed_since
        if many := number - self.count if self.numbered else failed:
            self._gaps.append((number, many))
        self.count = number + 1
        if frame.is_corrupt:
            self._faulty_since.append(number)
        else:
            self._faulty += self._faulty_since
            self._faulty_since = []
        self._failed_since -= failed


_noted: dict[Facts, str] = {}
_MOST = 10_000


def note(source: Source, damage: Damage, of: str = "") -> None:
    """Keep what was found in a video, for this process; ``of`` as in :meth:`Damage.told`."""
    if damage.found:
        note_text(source, damage.told(of))


def note_text(source: Source, text: str) -> None:
    """Keep what was found in a video, in words, for this process."""
    if (facts := facts_of(source)) and len(_noted) < _MOST:
        _noted.setdefault(facts, text)


def noted(source: Source) -> str | None:
    """What reads of this process have found in a video, in words; None where nothing was found."""
    if not _noted:
        return None
    facts = facts_of(source)
    return _noted.get(facts) if facts else None
