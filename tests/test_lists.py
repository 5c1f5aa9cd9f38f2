"""Lists are read from the right, and an error names the line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsm.data import lists
from dsm.data.lists import UNKNOWN, UNLABELLED, VideoList, list_name, read_list, write_list
from dsm.errors import UserError


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def test_reads_path_label_frames_with_spaces_tabs_crlf_bom_and_comments(tmp_path: Path) -> None:
    text = "\ufeff# a comment\r\na b/c d.mp4 3 40\r\n\r\ne.mp4\t0\t7\r\n"
    videos = read_list(write(tmp_path / "l.txt", text))
    assert videos.paths == ["a b/c d.mp4", "e.mp4"]
    assert videos.labels.tolist() == [3, 0]
    assert videos.frames.tolist() == [40, 7]
    assert videos.file(0) == tmp_path / "a b/c d.mp4"


def test_reads_labels_without_frames(tmp_path: Path) -> None:
    videos = read_list(write(tmp_path / "l.txt", "x 1.mp4 0\ny.mp4 1\n"))
    assert videos.paths == ["x 1.mp4", "y.mp4"]
    assert videos.frames.tolist() == [UNKNOWN, UNKNOWN]
    assert videos.labelled


def test_reads_paths_alone(tmp_path: Path) -> None:
    videos = read_list(write(tmp_path / "l.txt", "my video.mp4\nother.mp4\n"))
    assert videos.paths == ["my video.mp4", "other.mp4"]
    assert videos.labels.tolist() == [UNLABELLED, UNLABELLED]
    assert not videos.labelled


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a.mp4 0 10\nb.mp4 zero 10\n",
            r"line 2: expected `path label frames` as on the lines before, found `b.mp4 zero 10`",
        ),
        ("# head\na.mp4 0\nb.mp4\n", "line 3: expected `path label`"),
        ("a.mp4 0 0\n", "line 1: the video has 0 frames"),
        ("a.mp4 -2 5\n", "line 1: the label -2 is below 0"),
        ("# nothing\n\n", "names no video"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_list(write(tmp_path / "l.txt", text))


@pytest.mark.parametrize("text", ["a.mp4 1\nb.mp4 1 40\n", "a.mp4\nb.mp4 1\n", "a.mp4\nb.mp4 1 40\n"])
def test_a_line_with_more_fields_than_the_first_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match="line 2: expected"):
        read_list(write(tmp_path / "l.txt", text))


def test_numbers_out_of_range_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="line 1: the label is above 999999 or the frame count above"):
        read_list(write(tmp_path / "l.txt", f"a.mp4 {10**20} 5\n"))


def test_unlabelled_folders_that_end_in_numbers_are_read_back(tmp_path: Path) -> None:
    names = ["#walk 1", " run 2", "jump"]
    none = np.full(3, -1)
    write_list(tmp_path / "l.txt", VideoList(names, none, none, tmp_path))
    again = read_list(tmp_path / "l.txt")
    assert not again.labelled
    assert [again.file(i) for i in range(3)] == [tmp_path / name for name in names]


def test_a_missing_list_and_a_missing_root_have_different_messages(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such list file"):
        read_list(tmp_path / "none.txt")
    with pytest.raises(UserError, match="no such folder; the list's relative paths start from it"):
        read_list(write(tmp_path / "l.txt", "a.mp4\n"), tmp_path / "none")


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UserError, match="not a UTF-8 text file"):
        read_list(tmp_path / "l.txt")


# Anything but line ends and other control characters.
_PATHS = st.text(st.characters(exclude_categories=("Cs", "Cc")) | st.just("\t"), min_size=1).map(
    lambda text: f"v{text} x.mp4"
)


@given(st.lists(st.tuples(_PATHS, st.integers(0, 400), st.integers(1, 10**6)), min_size=1, max_size=8))
def test_a_written_list_is_read_back(tmp_path_factory: pytest.TempPathFactory, rows: list) -> None:
    folder = tmp_path_factory.mktemp("lists")
    paths, labels, frames = zip(*rows, strict=True)
    videos = VideoList(list(paths), np.array(labels), np.array(frames), folder)
    write_list(folder / "l.txt", videos)
    again = read_list(folder / "l.txt")
    assert again.paths == videos.paths
    assert again.labels.tolist() == list(labels)
    assert again.frames.tolist() == list(frames)


def test_real_lists_are_read(shared: Path) -> None:
    videos = read_list(shared / "data" / "surv_fight" / "train.txt")
    assert len(videos) == 186
    assert set(videos.labels.tolist()) == {0, 1}
    assert all(videos.file(index).is_file() for index in range(len(videos)))


FULL = re.compile(r"(.+?)[ \t]+(-?[0-9]+)[ \t]+([0-9]+)")
LABELLED = re.compile(r"(.+?)[ \t]+(-?[0-9]+)")


def one_by_one(text: str) -> list[tuple[str, int, int]]:
    """The slow, obvious reader."""
    rows, columns = [], 0
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.strip(" \t\r")
        if not line or line.startswith("#"):
            continue
        columns = columns or (3 if FULL.fullmatch(line) else 2 if LABELLED.fullmatch(line) else 1)
        for pattern, found in ((FULL, lists._full(line)), (LABELLED, lists._labelled(line))):
            match = pattern.fullmatch(line)
            assert found == (match and (match[1], *map(int, match.groups()[1:])))
        rows.append(lists._fields(line, columns, f"l, line {number}"))
    if not rows:
        raise UserError("l: the list names no video.")
    return rows


PIECES = [
    "a",
    "b.mp4",
    " ",
    "\t",
    "\r",
    "\n",
    "\n",
    "1",
    "-",
    "7",
    "0",
    "#",
    "é",
    " 3",
    " 12",
    "-1",
    "x y.mp4",
    "\0",
]


@settings(max_examples=1500, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
def test_reading_all_lines_at_once_equals_reading_line_by_line(text: str) -> None:
    def outcome(read: Callable[[], object]) -> object:
        try:
            return read()
        except UserError as error:
            return str(error)

    def at_once() -> object:
        names, labels, frames = lists._read_lines(text.encode(), "l")
        return list(zip(names, labels.tolist(), frames.tolist(), strict=True))

    assert outcome(at_once) == outcome(lambda: one_by_one(text))


def test_a_list_with_some_labels_keeps_them(tmp_path: Path) -> None:
    some = VideoList(["a.mp4", "b.mp4", "c.mp4"], np.array([2, -1, 0]), np.array([-1, -1, -1]), tmp_path)
    write_list(tmp_path / "some.txt", some)
    assert read_list(tmp_path / "some.txt").labels.tolist() == [2, -1, 0]


def test_a_packed_video_whose_name_ends_in_a_number_is_read_back(tmp_path: Path) -> None:
    """The number is not a label, although the text before it looks like a whole path."""
    names = ["shard-00000.tar/walk/clip 0", "shard-00000.tar/walk/clip 1"]
    write_list(tmp_path / "list.txt", VideoList(names, np.array([0, 1]), np.array([12, 13]), tmp_path))
    videos = read_list(tmp_path / "list.txt")
    assert list(videos.paths) == names
    assert videos.labels.tolist() == [0, 1]
    assert videos.frames.tolist() == [12, 13]


def test_a_name_that_ends_in_a_space_is_refused(tmp_path: Path) -> None:
    """It would be read back without the space."""
    with pytest.raises(UserError, match=r"'walk ': .* ends in a space; rename the file"):
        write_list(tmp_path / "l.txt", VideoList(["walk "], np.array([0]), np.array([3]), tmp_path))


def test_a_label_that_counts_from_1_cannot_be_0(tmp_path: Path) -> None:
    """It would become -1, which means unlabelled."""
    (tmp_path / "l.txt").write_text("a.mp4 1\nb.mp4 0\n")
    with pytest.raises(UserError, match=r"line 2: the label is 0, so labels do not count from 1"):
        read_list(tmp_path / "l.txt", columns=("path", "label1"))
    (tmp_path / "l.txt").write_text("a.mp4 1\nb.mp4 2\nc.mp4 -1\n")
    assert read_list(tmp_path / "l.txt", columns=("path", "label1")).labels.tolist() == [0, 1, -1]


def test_a_list_is_called_by_its_file_or_by_its_folder(tmp_path: Path) -> None:
    assert list_name("lists/test1.txt") == "test1"
    assert list_name("pack/test/list.txt") == "test"  # every pack's list has this name
    assert list_name(tmp_path) == tmp_path.name
