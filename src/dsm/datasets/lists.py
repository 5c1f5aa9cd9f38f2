"""Lists: text files that name videos, one a line: ``path label frames``, ``path label`` or ``path``.

Fields are read from the right, so paths may hold spaces; a tab separates too. A line
that begins with ``#`` is a comment; CRLF line ends and a BOM are accepted. Every line of a list
has the same fields.
"""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsm.datasets.columns import Names, find_lines, last_integers
from dsm.errors import UserError, has_control
from dsm.files import as_spelled, write_text
from dsm.video.source import EXTENSIONS

UNLABELLED = -1
UNKNOWN = -1
MOST = 2**31 - 1

_COLUMNS = {3: "path label frames", 2: "path label", 1: "path"}
_LONGEST = 8192
"""Bytes of a line: no path is longer, and blanks at its ends cost a look at all lines each."""
_CONTROLS = bytes({*range(32), 127} - set(b"\t\n"))
MOST_CLASSES = 1_000_000
"""Tables of classes are made by the largest label."""


@dataclass(frozen=True)
class VideoList:
    """The videos of a list, in its order."""

    paths: Sequence[str]
    """As the list writes them."""
    labels: NDArray[np.int64]
    """(n,), -1 where the list is unlabelled."""
    frames: NDArray[np.int64]
    """(n,), how many frames each has, -1 where the list does not say."""
    root: Path
    """Put before relative paths."""
    source: str = ""
    """The file it was read from, for messages."""

    def __len__(self) -> int:
        return len(self.paths)

    def file(self, index: int) -> Path:
        return as_spelled(self.root / self.paths[index])

    def part(self, chosen: NDArray[np.int64], folder: Path) -> VideoList:
        """Some of the videos, for a list in ``folder``: there, paths mean what they mean here."""
        same_place = folder.absolute() == self.root.absolute()
        paths = [self.paths[place] if same_place else str(self.file(place).absolute()) for place in chosen]
        return VideoList(paths, self.labels[chosen], self.frames[chosen], folder)

    def digest(self, *, rooted: bool = True) -> str:
        """A fingerprint: of its folder, unless not ``rooted``, its paths, labels and frames."""
        found = hashlib.sha256(str(self.root.absolute()).encode() if rooted else b"")
        for line in zip(self.paths, self.labels.tolist(), self.frames.tolist(), strict=True):
            found.update(repr(line).encode())
        return found.hexdigest()

    @property
    def labelled(self) -> bool:
        return bool((self.labels != UNLABELLED).all())

    def need_classes(self, who: str) -> None:
        """Raise UserError, which names ``who`` wants it, unless all have labels, and not all the same."""
        if not self.labelled or len(set(self.labels.tolist())) < 2:
            raise UserError(f"{self.source}: {who} wants labelled videos, of two classes at least.")


def needed(*read: VideoList | Path | None) -> Iterator[Path]:
    """Lists and their videos, and other files: what must not go while it is worked on."""
    for one in read:
        if isinstance(one, VideoList):
            yield Path(one.source)
            yield from map(one.file, range(len(one)))
        elif one is not None:
            yield one


def only_video(path: Path) -> VideoList:
    """A list of one video, whatever its name ends in."""
    return VideoList([str(path)], np.array([UNLABELLED]), np.array([UNKNOWN]), Path(), source=str(path))


def _last_number(text: str, *, signed: bool) -> tuple[str, int] | None:
    """A text that ends in a field that is a whole number: what stands before it, and the number."""
    before = text.rstrip("0123456789")
    digits = text[len(before) :]
    minus = "-" if signed and before.endswith("-") else ""
    field = before.removesuffix(minus) if minus else before
    name = field.rstrip(" \t")
    if not digits or not name or name == field:
        return None
    return name, int(minus + digits) if len(digits) < 20 else MOST + 1


def _full(line: str) -> tuple[str, int, int] | None:
    """`path label frames`, where a line is that."""
    if (last := _last_number(line, signed=False)) and (label := _last_number(last[0], signed=True)):
        return (*label, last[1])
    return None


def _labelled(line: str) -> tuple[str, int] | None:
    """`path label`, where a line is that; or more."""
    return _last_number(line, signed=True)


def _fields(line: str, columns: int, where: str) -> tuple[str, int, int]:
    """Path, label and frames of one line; ``where`` it stands is told when it is wrong."""
    full, labelled = _full(line), _labelled(line)
    # Read with so few columns, numbers would become part of the path.
    more = full if columns == 2 else full or labelled
    wrong = bool(columns < 3 and more and _names_video(more[0]))
    name, label, count = line, UNLABELLED, UNKNOWN
    if columns == 3 and full:
        name, label, count = full
    elif columns == 2 and labelled:
        name, label = labelled
    elif columns > 1:
        wrong = True
    if wrong:
        raise UserError(f"{where}: expected `{_COLUMNS[columns]}`, like the lines before, found `{line}`.")
    if has_control(name):
        raise UserError(f"{where}: the path holds a control character: {name!r}.")
    if label < UNLABELLED:
        raise UserError(f"{where}: the label {label} is below 0 (-1 means unlabelled).")
    if label >= MOST_CLASSES or count > MOST:
        raise UserError(f"{where}: a label is above {MOST_CLASSES - 1}, or a frame count above {MOST}.")
    if columns == 3 and count < 1:
        raise UserError(f"{where}: the video has {count} frames; remove the line.")
    return name, label, count


def _names_video(text: str) -> bool:
    return Path(text).suffix.lower() in EXTENSIONS


def read_list(path: str | Path, root: str | Path | None = None) -> VideoList:
    """Read a list; its first line decides how many fields every line has.

    Args:
        path: the list file.
        root: folder put before relative paths; None for the list's own folder.

    Raises:
        UserError: no such file, not one video in it, or a line that does not fit, by number.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such list file. `dsm data index FOLDER --out LIST` makes one.")
    if root is not None and not Path(root).is_dir():
        raise UserError(f"{root}: no such folder, to put before the list's relative paths.")
    # A BOM would be part of the first path.
    text = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    try:
        text.decode()
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not a UTF-8 text file; a list names one video a line.") from None
    names, labels, frames = _read_lines(text, str(path))
    folder = Path(root) if root is not None else path.parent
    return VideoList(names, labels, frames, folder, source=str(path))


def _read_lines(text: bytes, source: str) -> tuple[Names, NDArray[np.int64], NDArray[np.int64]]:
    """Paths, labels and frames of all lines."""
    content = np.frombuffer(text, np.uint8)
    newlines = np.concatenate([[-1], np.flatnonzero(content == ord("\n")), [len(content)]])
    lengths = np.diff(newlines)
    if lengths.max() > _LONGEST:
        longest = int(lengths.argmax())
        raise UserError(
            f"{source}, line {longest + 1}: is longer than any path; a list names one video a line."
        )
    lines = find_lines(content)
    if not len(lines.numbers):
        raise UserError(f"{source}: the list names no video.")

    def line(place: int) -> str:
        return text[lines.starts[place] : lines.stops[place]].decode()

    columns = 3 if _full(line(0)) else 2 if _labelled(line(0)) else 1
    labels, frames = np.full((2, len(lines.numbers)), UNKNOWN)
    stops = lines.stops.copy()
    # The plain lines are read all at once; one with a field more or less than it should have is not plain.
    field = last_integers(content, lines.starts, stops)
    plain = field.plain if columns > 1 else ~field.plain
    if columns == 3:
        frames, stops = field.values, field.before
        field = last_integers(content, lines.starts, stops)
        plain &= field.plain & (frames > 0) & (frames <= MOST)
    if columns > 1:
        labels, stops = field.values, field.before
        plain &= (labels >= UNLABELLED) & (labels < MOST_CLASSES)
    if columns == 2:
        plain &= ~last_integers(content, lines.starts, stops).plain
    plain &= not _holds_control(text)
    # The others are looked at one by one; most of them are wrong.
    for place in np.flatnonzero(~plain).tolist():
        where = f"{source}, line {lines.numbers[place]}"
        name, labels[place], frames[place] = _fields(line(place), columns, where)
        stops[place] = lines.starts[place] + len(name.encode())
    return Names(content, lines.starts, stops), labels, frames


def _holds_control(text: bytes) -> bool:
    """:func:`has_control` of whole lists, at the speed at which they are read."""
    text = text.replace(b"\r\n", b"\n") if b"\r" in text else text
    if len(text.translate(None, _CONTROLS)) < len(text):
        return True
    return b"\xc2" in text and has_control(text.decode())


def listable(name: str) -> str:
    """A path as a list can hold it.

    Raises:
        UserError: it holds a line end or another control character, or bytes that are no UTF-8.
    """
    if "\n" in name or has_control(name):
        raise UserError(
            f"{name!r}: a list cannot hold a name with a line end or another control character; "
            "rename the file."
        )
    if name.encode("utf-8", "ignore").decode("utf-8") != name:
        raise UserError(f"{name!r}: a list cannot hold a name that is no UTF-8; rename the file.")
    # What would look like a comment or an indent is a file here all the same.
    return f"./{name}" if name.startswith(("#", " ", "\t", "\ufeff")) else name


def write_list(path: str | Path, videos: VideoList) -> None:
    """Write a list that :func:`read_list` reads back: no label and no frames where unknown."""
    counted = bool((videos.frames != UNKNOWN).all())
    # A path that ends in a number would be read as a label; said outright, there is none.
    labelled = bool((videos.labels != UNLABELLED).any())
    say_label = labelled or counted or any(map(_labelled, videos.paths))
    lines = []
    for name, label, count in zip(videos.paths, videos.labels, videos.frames, strict=True):
        fields = [listable(name)]
        if say_label:
            fields.append(str(label))
        if counted:
            fields.append(str(count))
        lines.append(" ".join(fields) + "\n")
    write_text(path, "".join(lines))
