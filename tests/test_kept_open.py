"""Videos kept open between reads give the file's current frames, in every process and thread."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from dsm.video import kept_open
from dsm.video.decode import read_frames
from dsm.video.kept_open import KEPT, close_kept
from dsm.video.source import MissingVideoError, VideoError
from dsm.video.write import write_video

CLIPS = [np.arange(start, start + 8) for start in (40, 3, 25, 0, 31, 12)]


def write_test_video(path: Path, seed: int = 0) -> Path:
    frames = np.random.default_rng(seed).integers(0, 255, (50, 8, 8, 3), np.uint8)
    write_video(path, frames.repeat(8, axis=1).repeat(8, axis=2))
    return path


def kept() -> int:
    return len(kept_open._shelf.videos)


def open_files(path: Path) -> int:
    links = Path("/proc/self/fd")
    if not links.exists():
        pytest.skip("there is no /proc here to count open files")
    return sum(os.path.realpath(link) == str(path.resolve()) for link in links.iterdir())


def test_the_last_few_videos_are_kept_open_and_older_ones_closed(tmp_path: Path) -> None:
    close_kept()
    files = [write_test_video(tmp_path / f"{i}.mp4", i) for i in range(KEPT + 2)]
    for file in files:
        read_frames(file, [3])
    assert kept() == KEPT
    assert [open_files(file) for file in files] == [0, 0] + [1] * KEPT
    read_frames(files[2], [0])  # now the most recent, so that another is closed
    read_frames(files[0], [0])
    assert [open_files(file) for file in files] == [1, 0, 1, 0, 1, 1]
    close_kept()
    assert kept() == sum(open_files(file) for file in files) == 0


def test_a_replaced_file_is_opened_again(tmp_path: Path) -> None:
    file = write_test_video(tmp_path / "a.mp4", 0)
    before = read_frames(file, [7])
    write_test_video(tmp_path / "b.mp4", 1).replace(file)
    after = read_frames(file, [7])
    close_kept()
    assert np.array_equal(after, read_frames(file, [7]))
    assert not np.array_equal(before, after)
    file.unlink()
    with pytest.raises(MissingVideoError):
        read_frames(file, [7])


def test_large_and_broken_videos_are_not_kept_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    close_kept()
    file = write_test_video(tmp_path / "a.mp4")
    monkeypatch.setattr(kept_open, "MAX_PIXELS", 64 * 64 - 1)
    read_frames(file, [3])
    assert kept() == 0
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(file.read_bytes()[:200])
    with pytest.raises(VideoError):
        read_frames(broken, [3])
    assert kept() == open_files(broken) == 0


def read_all(file: Path) -> list[np.ndarray]:
    return [read_frames(file, clip) for clip in CLIPS]


def test_forks_and_threads_do_not_share_a_file_position(tmp_path: Path) -> None:
    file = write_test_video(tmp_path / "a.mp4")
    read_frames(file, [9])  # open, before the fork
    with (
        ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as processes,
        ThreadPoolExecutor(2) as threads,
    ):
        found = [pool.submit(read_all, file) for pool in (processes, threads) * 4]
        expected = read_all(file)
        for future in found:
            assert all(map(np.array_equal, future.result(), expected))
    everything = read_frames(file, range(50))
    assert all(np.array_equal(one, everything[clip]) for one, clip in zip(expected, CLIPS, strict=True))


def bytes_in_use() -> int:
    """Bytes allocated from the C library's heap and not freed."""

    class Heap(ctypes.Structure):
        names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
        _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

    try:
        tell = ctypes.CDLL("libc.so.6").mallinfo2
    except (OSError, AttributeError):
        pytest.skip("only glibc reports memory in use")
    tell.restype = Heap
    heap = tell()
    return heap.uordblks + heap.hblkhd


def test_reads_do_not_leak_memory(tmp_path: Path) -> None:
    """PyAV leaks a packet of 140 bytes each time that a decode is abandoned without closing."""
    file = write_test_video(tmp_path / "a.mp4")
    memory = []
    for count in range(1501):
        read_frames(file, [2, 5])
        if count % 500 == 0:
            memory.append(bytes_in_use())
    assert memory[3] - memory[1] < 1000 * 40
