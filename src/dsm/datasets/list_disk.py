"""What the disk says of the paths of a list whose form is not known yet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dsm.files import as_spelled
from dsm.video.decode import probe
from dsm.video.folder import is_folder
from dsm.video.pack import in_pack
from dsm.video.segments import segment_of
from dsm.video.source import EXTENSIONS, VideoError

ODD = frozenset(",;|\"'\\{[")
"""Characters for which a path may be taken for more than that."""
LOOKED_AT = 8
LOOKED_INTO = 4
NEAR = math.log(1.5)
"""How far a list's frames may be from a file's, as the logarithm of a ratio."""


def names_video(text: str) -> bool:
    """Whether a path is one of a video by its looks."""
    segment = segment_of(text)
    text = str(segment.file) if segment else text
    name = Path(text).name  # or that of a clip among others in one folder of frames
    return Path(name).suffix.lower() in EXTENSIONS or "*." in name or in_pack(text) is not None


@dataclass
class Disk:
    """What is known of a list's paths by looking."""

    folder: Path
    _frames: dict[str, int] = field(default_factory=dict)

    def has(self, path: str) -> bool:
        if not path or "\0" in path or len(path) > 4096:
            return False
        try:
            segment, packed = segment_of(self.folder / path), in_pack(self.folder / path)
            file = segment.file if segment else packed[0] if packed else self.folder / path
            return as_spelled(file).exists() or is_folder(file)
        except (OSError, ValueError):
            return False

    def known(self, path: str) -> int:
        """Frames of a file that was looked into; else 0."""
        return self._frames.get(path, 0)

    def places(self, count: int) -> list[int]:
        """Of so many paths those that may have been looked into."""
        return [*range(min(count, 200)), count - 1] if self._frames else []

    def frames(self, path: str) -> int:
        """0 where it cannot be read."""
        if path not in self._frames:
            try:
                self._frames[path] = probe(as_spelled(self.folder / path)).frames
            except VideoError:
                self._frames[path] = 0
        return self._frames[path]

    def distance(self, paths: Sequence[str], numbers: Sequence[str]) -> float | None:
        """How far numbers are from the frames of the files; None where no file can be read."""
        off = []
        for place in spread(len(paths), LOOKED_INTO):
            if self.has(paths[place]) and (frames := self.frames(paths[place])):
                number = int(numbers[place])
                off.append(abs(math.log(number / frames)) if number > 0 else math.inf)
        return sum(off) / len(off) if off else None


def spread(count: int, most: int) -> list[int]:
    """Some of so many places, evenly spread, the first and the last among them."""
    taken = min(count, most)
    return [place * (count - 1) // max(taken - 1, 1) for place in range(taken)]
