"""Damage found while decoding a video, kept so that it can be reported."""

from __future__ import annotations

from dataclasses import dataclass, field

from dsm.video.kept_open import FileKey, file_key
from dsm.video.source import Source, reason_of


@dataclass
class Damage:
    """Damage found while a video was decoded in order."""

    packets: int = 0
    """Packets that are neither empty nor hidden; in well-formed files, each is a frame."""
    hidden: int = 0
    """Packets that the file hides, for example with an edit list."""
    frames: int = 0
    """Frames decoded."""
    count: int = 0
    """The number of the last frame, plus one."""
    numbered: bool = False
    """Whether frames are numbered by their packets."""
    reason: str = ""
    """The first error message from FFmpeg."""
    incomplete: bool = False
    """Whether the container has marked a packet as incomplete."""
    _gaps: list[tuple[int, int]] = field(default_factory=list)
    """(frame number, pictures lost just before it): numbers skipped, or packets that could not be decoded."""
    _faulty: list[int] = field(default_factory=list)
    """Numbers of corrupt frames, according to the decoder, that are followed by an intact frame."""
    _failed_since: int = 0
    _faulty_since: list[int] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Pictures lost before the last frame; 0 if nothing went wrong."""
        wrong = not self.numbered or bool(self.reason or self.incomplete or self._corrupt)
        return sum(lost for _, lost in self._gaps) if wrong else 0

    @property
    def corrupt(self) -> int:
        """Corrupt frames, without a single one at the end, which the end of the file cuts off."""
        return len(self._corrupt)

    @property
    def _corrupt(self) -> list[int]:
        return self._faulty + (self._faulty_since if len(self._faulty_since) > 1 else [])

    @property
    def breaks_off(self) -> bool:
        """Whether packets at the end cannot be read or decoded."""
        return self._failed_since > 0 or len(self._faulty_since) == 1

    @property
    def found(self) -> bool:
        """Whether pictures before the last one are lost or corrupt."""
        return self.lost > 0 or self.corrupt > 0

    def text(self, of: str = "") -> str:
        """A description of the damage; empty if none. ``of``: put before the total, such as 'the first '."""
        total = self.frames + self.lost
        lost = f"{self.lost} of {of}{total} pictures lost" if self.lost else ""
        wrong = f"{self.corrupt} of {of}{total} shown with faults" if self.corrupt else ""
        why = f" ({self.reason})" if self.reason else ""
        return f"{', '.join(filter(None, (lost, wrong)))}{why}" if self.found else ""

    def inside(self, numbers: range) -> Damage:
        """The damage among the frames with these numbers, renumbered from 0."""
        begin, stop = numbers.start, numbers.stop
        own = Damage(count=max(min(self.count, stop) - begin, 0), numbered=self.numbered)
        own.incomplete = self.incomplete
        for number, lost in self._gaps if self.lost else []:
            skipped = len(range(max(number - lost, begin), min(number, stop)))
            if lost_inside := skipped if self.numbered else lost * (number in numbers):
                own._gaps.append((number - begin, lost_inside))
        own.frames = own.count - (sum(lost for _, lost in own._gaps) if self.numbered else 0)
        own._faulty = [number - begin for number in self._corrupt if number in numbers]
        if self.count < stop:
            own._failed_since = self._failed_since
        if len(self._faulty_since) == 1 and self._faulty_since[0] in numbers:
            own._faulty_since = [self._faulty_since[0] - begin]
        if own._gaps or own._failed_since:
            own.reason = self.reason
        return own

    def broken(self, error: Exception) -> None:
        """Record a packet that could not be read or decoded."""
        self.reason = self.reason or reason_of(error)
        self._failed_since += 1

    def forget(self) -> None:
        """Forget all damage, to start again."""
        vars(self).update(vars(Damage()))

    def decoded(self, number: int, *, late: bool, corrupt: bool) -> None:
        """Record a frame. ``number``: above all before. ``late``: it came after the last packet."""
        self.frames += 1
        failed = 0 if late else self._failed_since
        if lost := number - self.count if self.numbered else failed:
            self._gaps.append((number, lost))
        self.count = number + 1
        if corrupt:
            self._faulty_since.append(number)
        else:
            self._faulty += self._faulty_since
            self._faulty_since = []
        self._failed_since -= failed


_noted: dict[FileKey, str] = {}
_MAX_REMEMBERED = 10_000


def note(source: Source, damage: Damage, of: str = "") -> None:
    """Record the damage of a video in this process; ``of`` as in :meth:`Damage.text`."""
    if damage.found:
        note_text(source, damage.text(of))


def note_text(source: Source, text: str) -> None:
    """Record a description of a video's damage in this process."""
    if (key := file_key(source)) and len(_noted) < _MAX_REMEMBERED:
        _noted.setdefault(key, text)


def noted(source: Source) -> str | None:
    """A description of the damage that this process has found in a video; None if it found none."""
    if not _noted:
        return None
    key = file_key(source)
    return _noted.get(key) if key else None
