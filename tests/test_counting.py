"""Frames of many videos, counted in parallel."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import av
import pytest
from conftest import numbered_frames
from test_decode import KINDS, encode, moving_frames

from dsm.verbs.index import IndexConfig, index
from dsm.video import counting
from dsm.video.counting import count_all, count_frames
from dsm.video.source import open_video, read_packets
from dsm.video.times import _listed_packets
from dsm.video.write import write_video


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Seven files of 3 to 8 frames, the fourth of them broken; enough for several processes."""
    monkeypatch.setattr(counting, "FEW", 2)
    paths = [tmp_path / "videos" / f"v{number}.mp4" for number in range(7)]
    for number, path in enumerate(paths):
        write_video(path, numbered_frames(3 + number if number < 6 else 3))
    paths[3].write_bytes(b"rubbish")
    return paths


def test_several_processes_give_the_results_of_one_in_the_same_order(many: list[Path]) -> None:
    done: list[int] = []
    found = count_all(many, workers=2, on_progress=done.append)
    assert found == [count_frames(path) for path in many]
    assert [found[place] for place in (0, 1, 2, 4, 5, 6)] == [3, 4, 5, 7, 8, 3]
    assert "v3.mp4: cannot be decoded" in str(found[3])
    assert done == sorted(done)
    assert done[-1] == len(many)


def packets_in(file: Path) -> int:
    with open_video(file) as container:
        return sum(not packet.is_discard for packet in read_packets(container, lambda error: None))


@pytest.mark.parametrize("kind", ["h264 gop 12", "h264 mkv", "mpeg4 avi with B-frames", "h264 ts", "vp9"])
def test_frames_are_counted_without_a_decoder(kind: str, tmp_path: Path) -> None:
    """Except where only decoding tells what a file holds, as in a transport stream."""
    name, codec, options = KINDS[kind]
    file = encode(tmp_path / name, codec, moving_frames(), **options)
    assert count_frames(file) == packets_in(file) == 50
    with open_video(file, counts=True) as counted, open_video(file) as opened:
        known = counted.streams.video[0].pix_fmt is not None
        assert opened.streams.video[0].pix_fmt is not None
    assert known == (kind == "h264 ts")


def test_frames_in_the_table_of_an_avi_are_those_in_the_file(tmp_path: Path) -> None:
    """If it is whole; the table of one that was cut off, or goes on after its first part, is not believed."""
    whole = encode(tmp_path / "a.avi", "mpeg4", moving_frames())
    with open_video(whole, counts=True) as container:
        assert _listed_packets(container) == 50
    content = whole.read_bytes()
    for name, changed in (("cut", content[: len(content) * 2 // 3]), ("goes on", content + content)):
        file = tmp_path / f"{name}.avi"
        file.write_bytes(changed)
        with open_video(file, counts=True) as container:
            assert _listed_packets(container) == 0
        assert count_frames(file) == packets_in(file)


def test_frames_in_the_table_of_an_mp4_are_those_in_the_file(tmp_path: Path) -> None:
    """Without fragments, which have tables of their own, and whole; a file that was cut off is read."""
    whole = tmp_path / "whole.mp4"
    write_video(whole, numbered_frames(30))
    files = [whole]
    for flags in ("faststart", "frag_keyframe", "frag_keyframe+empty_moov", "faststart+frag_every_frame"):
        files.append(tmp_path / f"{flags}.mp4")
        with av.open(str(whole)) as source, av.open(str(files[-1]), "w", options={"movflags": flags}) as copy:
            stream = copy.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    copy.mux(packet)
    files.append(tmp_path / "cut.mp4")
    content = (tmp_path / "faststart.mp4").read_bytes()
    files[-1].write_bytes(content[: len(content) * 2 // 3])
    for file in files:
        assert count_frames(file) == packets_in(file), file
    assert count_frames(files[-1]) != 30
    with open_video(whole) as container:
        assert _listed_packets(container) == 30


def test_a_file_that_crashes_or_hangs_its_process_affects_no_other(
    many: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, time, dsm.video.counting as counting\n"
        "look = counting.frame_count\n"
        "def frame_count(path):\n"
        "    if path.name == 'v1.mp4': os.abort()\n"
        "    if path.name == 'v5.mp4': time.sleep(600)\n"
        "    return look(path)\n"
        "counting.frame_count = frame_count\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr(counting, "_BATCHES", 1)  # batches of four
    found = count_all(many, workers=2, seconds=3.0)
    assert [found[place] for place in (0, 2, 4, 6)] == [3, 5, 7, 3]
    assert str(found[1]).startswith(f"{many[1]}: crashes the decoder")
    assert "rubbish" not in str(found[3])
    assert "cannot be decoded" in str(found[3])
    assert str(found[5]) == f"{many[5]}: not decoded within 3 s."


def test_an_index_by_several_processes_is_the_same_list(many: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "classes"
    for number, path in enumerate(many):
        (folder / f"c{number % 2}").mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / f"c{number % 2}" / path.name)
    for workers in (1, 2):
        index(IndexConfig(folder, tmp_path / f"o{workers}" / "list.txt", workers=workers))
    one, two = (Path(tmp_path / f"o{workers}" / "list.txt").read_text() for workers in (1, 2))
    assert one == two
    assert [line.split()[1:] for line in two.splitlines()] == [
        ["0", "3"], ["0", "5"], ["0", "7"], ["0", "3"], ["1", "4"], ["1", "8"],
    ]  # fmt: skip
