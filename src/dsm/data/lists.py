"""Video lists: text files with one video per line: ``path label frames``, ``path label`` or ``path``.

Fields are read from the right, so paths may contain spaces; tabs also separate fields. A line
that begins with ``#`` is a comment; CRLF line ends and a BOM are accepted. Every line of a list
has the same fields. A path may be a segment, ``FILE#START-END`` in seconds. Lists in other formats are
recognised (``list_forms.py``).
"""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsm.data.classes import CLASSES, Named, read_classes
from dsm.data.list_columns import ODD, Disk, names_video
from dsm.data.list_format import MAX_NUMBER, UNKNOWN, UNLABELLED
from dsm.data.list_forms import MARK, find_form
from dsm.data.list_lines import Names, find_lines, last_integers
from dsm.data.list_lines import full as _full
from dsm.data.list_lines import labelled as _labelled
from dsm.data.list_rows import read_rows, slashed, tell_odd
from dsm.errors import UserError, has_control, is_utf8
from dsm.files import as_spelled, write_text
from dsm.inputs import LIST, ROOT
from dsm.limits import LIST_BYTES, LIST_LINES, MOST_CLASSES
from dsm.storage.objects import read_bytes
from dsm.terminal import many
from dsm.urls import absolute, joined, shown
from dsm.video.segments import file_of

_COLUMNS = {3: "path label frames", 2: "path label", 1: "path"}
_LONGEST = 8192
"""Maximum bytes per line: no path is longer, and each trailing space costs a pass over all lines."""
_CONTROLS = bytes({*range(32), 127} - set(b"\t\n"))


@dataclass(frozen=True)
class VideoList:
    """The videos of a list, in its order."""

    paths: Sequence[str]
    """Paths, as written in the list."""
    labels: NDArray[np.int64]
    """(n,), -1 for unlabelled videos."""
    frames: NDArray[np.int64]
    """(n,), frame counts; -1 if the list gives none."""
    root: Path
    """Folder, or URL, that relative paths start from."""
    source: str = ""
    """The file it was read from, for messages."""
    classes: tuple[str, ...] = ()
    """Class names by label, if the list has names instead of labels; otherwise see ``classes.txt``."""

    def __len__(self) -> int:
        return len(self.paths)

    def file(self, index: int) -> Path:
        return as_spelled(joined(self.root, self.paths[index]))

    def part(self, chosen: NDArray[np.int64], folder: Path) -> VideoList:
        """The chosen videos, for a list in ``folder``; paths become absolute unless it is the same folder."""
        same_folder = absolute(folder) == absolute(self.root)
        paths = [self.paths[place] if same_folder else absolute(self.file(place)) for place in chosen]
        return VideoList(paths, self.labels[chosen], self.frames[chosen], folder, classes=self.classes)

    def digest(self, *, rooted: bool = True) -> str:
        """A fingerprint of the paths, labels and frames and, if ``rooted``, of the root folder."""
        fingerprint = hashlib.sha256(absolute(self.root).encode() if rooted else b"")
        for line in zip(self.paths, self.labels.tolist(), self.frames.tolist(), strict=True):
            fingerprint.update(repr(line).encode())
        return fingerprint.hexdigest()

    @property
    def labelled(self) -> bool:
        return bool((self.labels != UNLABELLED).all())

    def need_classes(self, who: str) -> None:
        """Raise UserError, on behalf of ``who``, unless all videos have labels of at least two classes."""
        if not self.labelled or len(set(self.labels.tolist())) < 2:
            raise UserError(f"{self.source}: {who} needs labelled videos from at least two classes.")


def needed(*read: VideoList | Path | None) -> Iterator[Path]:
    """Input files that a command must not overwrite or delete: lists, their videos, and other files."""
    for item in read:
        if isinstance(item, VideoList):
            yield Path(item.source)
            yield from (file_of(item.file(place)) for place in range(len(item)))
        elif item is not None:
            yield item


def unlabelled(paths: Sequence[str], source: str, root: Path = Path()) -> VideoList:
    """A list of videos of which only the paths are known."""
    return VideoList(paths, np.full(len(paths), UNLABELLED), np.full(len(paths), UNKNOWN), root, source)


def _fields(line: str, columns: int, where: str, *, ours: bool = False) -> tuple[str, int, int]:
    """Path, label and frames of one line.

    Args:
        where: file and line, for errors.
        ours: whether the list is marked as dsm's own format, in which a path may end in a number.
    """
    full, labelled = _full(line), _labelled(line)
    # With fewer columns than fields, numbers would become part of the path.
    more = full if columns == 2 else full or labelled
    wrong = bool(not ours and columns < 3 and more and names_video(more[0]))
    if not ours and columns == 3 and full and (more := _labelled(full[0])):
        wrong = names_video(more[0])
    name, label, count = line, UNLABELLED, UNKNOWN
    if columns == 3 and full:
        name, label, count = full
    elif columns == 2 and labelled:
        name, label = labelled
    elif columns > 1:
        wrong = True
    if wrong:
        source = where.rpartition(", line ")[0]
        raise UserError(
            f"{where}: expected `{_COLUMNS[columns]}` as on the lines before, found `{line}`; if the columns "
            f"differ, name them: `dsm data convert {source} --columns path,label,start,end --out NEW.txt`."
        )
    if has_control(name):
        raise UserError(f"{where}: the path contains a control character: {name!r}.")
    _check(label, count, where)
    return name, label, count


def list_name(source: str | Path) -> str:
    """A list's name in tables: its file name, or its folder's if every list has one name, as in packs."""
    path = Path(source).absolute()
    if path.is_dir():
        return path.name
    return path.parent.name if path.stem == "list" else path.stem


def read_list(
    path: str | Path,
    root: str | Path | None = None,
    columns: Sequence[str] = (),
    names: Sequence[str] | None = None,
    like: Named | None = None,
) -> VideoList:
    """Read a list; its first line decides how many fields every line has.

    A list in another format is read if exactly one interpretation fits; a note says which.

    Args:
        path: the list file, or its URL.
        root: folder that relative paths start from; None for the list's own folder.
        columns: what each column means (``list_format.COLUMNS``); empty to detect it.
        names: class names, for a list with names instead of labels; None for ``classes.txt`` beside it.
        like: the classes of another list, or of a classifier, that this list is used with: if it has names
            instead of labels and no ``classes.txt`` beside it, they are numbered in the same way.

    Raises:
        UserError: the file is missing, names no video, has a malformed line (the message gives its number)
            or can be read in two ways.
    """
    path = Path(path)
    LIST.check(path)
    if root is not None:
        ROOT.check(root)
    text = _utf8(path)
    folder, source = Path(root) if root is not None else path.parent, shown(path)
    disk = Disk(folder)
    if names is None:
        names = read_classes(path.parent)
    known = Named(tuple(names), CLASSES) if names or like is None else like
    form = find_form(text, columns, disk, source)
    if form is None:
        paths, labels, frames = _read_lines(text, source)
        if not text.startswith(MARK.encode()):
            paths = slashed(paths, disk, source)
        videos = VideoList(paths, labels, frames, folder, source)
    else:
        rows = read_rows(text.decode(), form, disk, source, known)
        for label, count, number in zip(rows.labels, rows.frames, rows.numbers, strict=True):
            _check(int(label), int(count), f"{source}, line {number}")
        videos = VideoList(rows.paths, rows.labels, rows.frames, folder, source, tuple(rows.classes))
    tell_odd(videos, disk, len(names), form)
    return videos


def _utf8(path: Path) -> bytes:
    """A text file's content as UTF-8, without the BOM, which would become part of the first path."""
    try:
        text = read_bytes(path, LIST_BYTES).removeprefix(codecs.BOM_UTF8)
    except FileNotFoundError:
        raise UserError(f"{shown(path)}: {LIST.missing}") from None
    if text.count(b"\n") > LIST_LINES:
        raise UserError(f"{shown(path)}: has more than {LIST_LINES} lines; use several lists.")
    try:
        if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # PowerShell writes UTF-16
            decoded = text.decode("utf-16")
            if any(character.isascii() for character in decoded):
                return decoded.encode()
        if text.startswith(b"\0"):  # check before decoding, which doubles the memory
            raise ValueError
        text.decode()
    except ValueError:
        raise UserError(f"{path}: not a UTF-8 text file; a list is text with one video per line.") from None
    return text


def _check(label: int, count: int, where: str) -> None:
    if label < UNLABELLED:
        raise UserError(f"{where}: the label {label} is below 0 (-1 means unlabelled).")
    if label >= MOST_CLASSES or count > MAX_NUMBER:
        most = f"{MOST_CLASSES - 1} or the frame count above {MAX_NUMBER}"
        raise UserError(f"{where}: the label is above {most}.")
    if count < 1 and count != UNKNOWN:
        raise UserError(f"{where}: the video has {many(count, 'frame')}; remove the line.")


def _read_lines(text: bytes, source: str) -> tuple[Names, NDArray[np.int64], NDArray[np.int64]]:
    """Paths, labels and frames of all lines."""
    content = np.frombuffer(text, np.uint8)
    newlines = np.concatenate([[-1], np.flatnonzero(content == ord("\n")), [len(content)]])
    lengths = np.diff(newlines)
    if lengths.max() > _LONGEST:
        longest = int(lengths.argmax())
        raise UserError(
            f"{source}, line {longest + 1}: the line is longer than any path; write one video per line."
        )
    lines = find_lines(content)
    if not len(lines.numbers):
        raise UserError(f"{source}: the list names no video.")

    def line(place: int) -> str:
        return text[lines.starts[place] : lines.stops[place]].decode()

    columns = 3 if _full(line(0)) else 2 if _labelled(line(0)) else 1
    labels, frames = np.full((2, len(lines.numbers)), UNKNOWN)
    stops = lines.stops.copy()
    # Plain lines, with the right number of fields, are parsed all at once.
    field = last_integers(content, lines.starts, stops)
    plain = field.plain if columns > 1 else ~field.plain
    if columns == 3:
        frames, stops = field.values, field.before
        field = last_integers(content, lines.starts, stops)
        plain &= field.plain & (frames > 0) & (frames <= MAX_NUMBER)
    if columns > 1:
        labels, stops = field.values, field.before
        plain &= (labels >= UNLABELLED) & (labels < MOST_CLASSES)
    if columns > 1:
        plain &= ~last_integers(content, lines.starts, stops).plain
    plain &= not _holds_control(text)
    # The others, mostly errors, are parsed one by one.
    ours = text.startswith(MARK.encode())
    for place in np.flatnonzero(~plain).tolist():
        where = f"{source}, line {lines.numbers[place]}"
        name, labels[place], frames[place] = _fields(line(place), columns, where, ours=ours)
        stops[place] = lines.starts[place] + len(name.encode())
    return Names(content, lines.starts, stops), labels, frames


def _holds_control(text: bytes) -> bool:
    """:func:`has_control` for a whole list, but as fast as parsing it."""
    text = text.replace(b"\r\n", b"\n") if b"\r" in text else text
    if len(text.translate(None, _CONTROLS)) < len(text):
        return True
    return b"\xc2" in text and has_control(text.decode())


def listable(name: str) -> str:
    """A path as a list can store it.

    Raises:
        UserError: it contains a line end, another control character or bytes that are not UTF-8, or ends in a
            space.
    """
    if not is_utf8(name):
        raise UserError(f"{name!r}: a list cannot contain a name that is not UTF-8; rename the file.")
    if "\n" in name or has_control(name):
        raise UserError(
            f"{name!r}: a list cannot contain a name with a line end or another control character; "
            "rename the file."
        )
    if name.endswith((" ", "\t")):  # reading strips it, as it stands between a path and a label
        raise UserError(f"{name!r}: a list cannot contain a name that ends in a space; rename the file.")
    # A name that starts with # or a space must still be read as a file name.
    return f"./{name}" if name.startswith(("#", " ", "\t", "\ufeff")) else name


def _ends_in_number(name: str) -> bool:
    """Whether a path looks like a video followed by a label, e.g. `shard-00000.tar/clip 3`."""
    shorter = _labelled(name)
    return shorter is not None and names_video(shorter[0])


def write_list(path: str | Path, videos: VideoList) -> VideoList:
    """Write a list that :func:`read_list` reads back; unknown labels and frames are omitted.

    Returns:
        The videos, with the file as their source.
    """
    counted = bool((videos.frames != UNKNOWN).all())
    # A number at the end of a path would be read as a label; an explicit -1 prevents that.
    labelled = bool((videos.labels != UNLABELLED).any())
    say_label = labelled or counted or any(map(_labelled, videos.paths))
    # A list that could be mistaken for another format is marked as ours.
    odd = any(
        ODD & set(name) or _ends_in_number(name) or (not say_label and not names_video(name))
        for name in videos.paths
    )
    lines = [f"{MARK}\n"] if odd else []
    for name, label, count in zip(videos.paths, videos.labels, videos.frames, strict=True):
        fields = [listable(name)]
        if say_label:
            fields.append(str(label))
        if counted:
            fields.append(str(count))
        lines.append(" ".join(fields) + "\n")
    write_text(path, "".join(lines))
    return replace(videos, source=str(path))
