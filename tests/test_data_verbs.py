"""The commands that make and check lists."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import av
import pytest
from conftest import frame_numbers, judge_after, numbered_frames
from test_decode import encode, moving_frames
from warm_dsm import dsm

from dsm.cli import main
from dsm.data.clips import EvaluationClips
from dsm.data.folders import find_list
from dsm.data.lists import read_list
from dsm.data.loading import load_clips
from dsm.data.settings import ClipConfig
from dsm.errors import UserError
from dsm.files import PART, written_aside, written_aside_folder
from dsm.verbs.check import CheckConfig, check
from dsm.video.decode import read_frames
from dsm.video.write import place_of, write_video


def output_of(result: subprocess.CompletedProcess[str]) -> str:
    return result.stdout + result.stderr


def test_check_writes_a_ledger_and_a_clean_list(small_list: Path, tmp_path: Path) -> None:
    videos = read_list(small_list)
    videos.file(1).write_bytes(b"rubbish")
    videos.file(3).unlink()
    out = dsm("data", "check", small_list, "--json", tmp_path / "l.json", "--clean", tmp_path / "clean.txt")
    assert out.returncode == 0, output_of(out)
    assert "no such file" in out.stdout
    entries = json.loads((tmp_path / "l.json").read_text())["files"]
    assert [entry["verdict"] for entry in entries] == ["short", "undecodable", "short", "missing"]
    assert [entry["path"] for entry in entries] == list(videos.paths)
    clean = read_list(tmp_path / "clean.txt")
    assert [clean.file(0), clean.file(1)] == [videos.file(0), videos.file(2)]
    assert clean.labels.tolist() == [0, 1]
    assert clean.frames.tolist() == [12, 13]
    assert dsm("data", "check", small_list, "--strict").returncode == 1
    assert dsm("data", "check", tmp_path / "clean.txt", "--frames", 8, "--strict").returncode == 0


def test_a_stopped_check_continues_with_the_remaining_videos(small_list: Path, tmp_path: Path) -> None:
    videos, clean = read_list(small_list), tmp_path / "clean.txt"
    judge_after(tmp_path, f"if str(path) == {str(videos.file(2))!r}: time.sleep(600)")
    words = [sys.executable, "-m", "dsm", "data", "check", str(small_list), "--clean", str(clean)]
    process = subprocess.Popen(
        words, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(tmp_path)}
    )
    kept = tmp_path / "clean.txt.parts" / "verdicts.jsonl"
    while not kept.is_file() or len(kept.read_text().splitlines()) < 2:
        assert process.poll() is None, "finished before it could be stopped"
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, output = process.communicate()
    assert process.returncode == 130, output
    assert "run the same command to continue" in output
    assert "Traceback" not in output
    with kept.open("a") as file:
        file.write('[2, {"path": "half a li')
    videos.file(0).write_bytes(b"rubbish, and not looked at again")
    other = tmp_path / "other.json"
    other.write_text("of the user")
    refused = dsm("data", "check", small_list, "--clean", clean, "--json", other)
    assert refused.returncode == 2, "another output than that of the stopped check"
    assert other.read_text() == "of the user"
    again = dsm("data", "check", small_list, "--clean", clean)
    assert again.returncode == 0, again.stderr
    assert read_list(clean).frames.tolist() == [12, 12, 13, 13]
    assert not kept.parent.exists()


def test_repaired_files_are_checked_again(tmp_path: Path) -> None:
    """Even if none was usable before."""
    (tmp_path / "a.mp4").touch()
    (tmp_path / "list.txt").write_text("a.mp4\n")
    words = ["data", "check", str(tmp_path / "list.txt"), "--clean", str(tmp_path / "clean.txt")]
    with pytest.raises(UserError, match="none of the videos is usable"):
        main.run(words)
    write_video(tmp_path / "a.mp4", numbered_frames(8))
    main.run(words)
    assert read_list(tmp_path / "clean.txt").frames.tolist() == [8]


def test_check_of_a_folder_covers_every_possible_video(tmp_path: Path) -> None:
    folder = tmp_path / "footage"
    write_video(folder / "a" / "good.mp4", numbered_frames(20))
    (folder / "sound.bin").write_bytes(b"\1\2\3")
    (folder / "notes.txt").write_text("not a video")
    out = dsm("data", "check", folder, "--json", tmp_path / "l.json")
    assert out.returncode == 0, output_of(out)
    entries = json.loads((tmp_path / "l.json").read_text())["files"]
    assert {entry["path"]: entry["verdict"] for entry in entries} == {
        "a/good.mp4": "ok",
        "sound.bin": "undecodable",
    }


def test_frame_folders_read_like_their_videos(small_list: Path, tmp_path: Path) -> None:
    read_list(small_list).file(2).write_bytes(b"rubbish")
    for _ in range(2):  # the second call has nothing left to do
        out = dsm("data", "frames", small_list, "--out", tmp_path / "frames", "--workers", "1")
        assert out.returncode == 0, output_of(out)
        assert "left out" in out.stderr
    frames = read_list(tmp_path / "frames" / "list.txt")
    assert frames.labels.tolist() == [0, 0, 1]
    assert frames.frames.tolist() == [12, 12, 13]
    assert frame_numbers(read_frames(frames.file(0), [3, 11, 3, 14])) == [3, 11, 3, 2]
    assert not list((tmp_path / "frames").rglob(".*"))
    other = (
        "data", "frames", small_list, "--out", tmp_path / "frames", "--workers", "1", "--short-side", "24"
    )  # fmt: skip
    out = dsm(*other)
    assert out.returncode == 2, output_of(out)
    assert "holds a folder of frames with other settings" in out.stderr
    assert dsm(*other, "--overwrite").returncode == 0
    assert min(read_frames(frames.file(0), [0])[0].shape[:2]) == 24
    picture = next((tmp_path / "frames").rglob("*.jpg"))
    written = picture.stat().st_mtime_ns
    assert dsm(*other, "--overwrite").returncode == 0  # as after a stop: it continues
    assert picture.stat().st_mtime_ns == written


def test_frames_of_two_videos_do_not_mix(scenes: Path, tmp_path: Path) -> None:
    videos = read_list(scenes / "train.txt")
    for name, place in (("day1/cam2.mp4", 0), ("day1.mp4", 1)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(videos.file(place), tmp_path / name)
    (tmp_path / "list.txt").write_text("day1/cam2.mp4\nday1.mp4\n")
    out = dsm("data", "frames", tmp_path / "list.txt", "--out", tmp_path / "frames")
    assert out.returncode == 2, output_of(out)
    assert "the folder of the second; rename one of the videos" in out.stderr
    assert not (tmp_path / "frames").exists()


@pytest.mark.slow
def test_synth_replaces_only_its_own_files(tmp_path: Path) -> None:
    small = ("--train", "2", "--test", "2", "--frames", "4", "--size", "16", "--workers", "1")
    out = tmp_path / "scenes"
    assert dsm("data", "synth", out, *small).returncode == 0
    (out / "features.npz").touch()
    assert dsm("data", "synth", out, *small, "--overwrite").returncode == 0
    assert dsm("data", "synth", out, *small[:-1], "0", "--seed", "1", "--overwrite").returncode == 2
    assert (out / "features.npz").exists()
    assert "--overwrite" in dsm("data", "synth", out, *small, "--seed", "1").stderr
    assert dsm("data", "synth", out, *small, "--seed", "1", "--overwrite").returncode == 0
    assert not (out / "features.npz").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "motionscenes.json").write_text("{}")
    assert dsm("data", "synth", tmp_path / "mine", *small, "--overwrite").returncode == 2
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["motionscenes.json"]


@pytest.mark.parametrize("path", ["/abs/a b.mp4", "../../up.mp4", "x/../../../y.avi", "..", "/"])
def test_frames_stay_below_their_folder(path: str, tmp_path: Path) -> None:
    assert (tmp_path / place_of(path)).resolve().is_relative_to(tmp_path.resolve())
    assert place_of(path) != Path()


@pytest.mark.parametrize(
    "words",
    [("frames", "--out", "there"), ("pack", "--out", "there"), ("check", "--clean", "there/clean.txt")],
)
def test_lists_made_from_a_list_keep_its_class_names(
    words: tuple[str, ...], small_list: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (small_list.parent / "classes.txt").write_text("walk\nwave\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    verb, *options = words
    main.run(["data", verb, str(small_list), *options])
    assert Path("there/classes.txt").read_text(encoding="utf-8") == "walk\nwave\n"


def test_a_conflicting_classes_txt_is_reported_before_decoding(
    small_list: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for folder, names in ((small_list.parent, "walk\nwave\n"), (tmp_path / "there", "wave\nwalk\n")):
        folder.mkdir(exist_ok=True)
        (folder / "classes.txt").write_text(names, encoding="utf-8")
    with pytest.raises(UserError, match="has other class names"):
        check(CheckConfig(small_list, clean=tmp_path / "there" / "clean.txt"))
    assert "decoding" not in capfd.readouterr().err


def test_a_folder_with_pictures_and_videos_is_indexed_by_its_videos(tmp_path: Path) -> None:
    camera = tmp_path / "footage" / "100CANON"
    write_video(camera / "MVI_0003.mp4", numbered_frames(12))
    for number in (1, 2):
        (camera / f"IMG_000{number}.JPG").write_bytes(b"a picture")
    out = dsm("data", "index", tmp_path / "footage", "--unlabelled", "--out", tmp_path / "all.txt")
    assert out.returncode == 0, output_of(out)
    assert list(read_list(tmp_path / "all.txt").paths) == ["footage/100CANON/MVI_0003.mp4"]
    # A single picture at the top (a cover) does not make the archive a video.
    (tmp_path / "footage" / "cover1.jpg").write_bytes(b"a picture")
    assert len(find_list(tmp_path / "footage")) == 1
    assert find_list(tmp_path / "footage").paths[0].endswith("MVI_0003.mp4")


def test_folders_behind_links_are_found_and_loops_end(tmp_path: Path) -> None:
    write_video(tmp_path / "disk" / "a.mp4", numbered_frames(12))
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "walk").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "again").symlink_to(tmp_path / "videos")
    out = dsm("data", "index", tmp_path / "videos", "--out", tmp_path / "all.txt")
    assert out.returncode == 0, output_of(out)
    assert list(read_list(tmp_path / "all.txt").paths) == ["videos/walk/a.mp4"]


def test_a_rewritten_list_keeps_its_class_numbers(folder_of_videos: Path, tmp_path: Path) -> None:
    lists = tmp_path / "lists"
    assert dsm("data", "index", folder_of_videos, "--out", lists / "train.txt").returncode == 0
    names = (lists / "classes.txt").read_text().split()
    part = tmp_path / "part" / names[-1]
    part.parent.mkdir()
    part.symlink_to(folder_of_videos / names[-1])
    for more in ((), ("--overwrite",)):
        out = dsm("data", "index", part.parent, "--out", lists / "test.txt", *more)
        assert out.returncode == 0, output_of(out)
        assert set(read_list(lists / "test.txt").labels.tolist()) == {len(names) - 1}
    assert (lists / "classes.txt").read_text().split() == names


def test_check_continues_after_a_name_that_no_list_can_hold(tmp_path: Path) -> None:
    folder = tmp_path / "footage"
    write_video(folder / "good.mp4", numbered_frames(20))
    odd = os.fsencode(folder) + b"/caf\xe9.mp4"
    try:
        with open(odd, "wb") as file:  # noqa: PTH123
            file.write((folder / "good.mp4").read_bytes())
        with open(os.fsencode(folder) + b"/\xe9.mp4", "wb") as file:  # noqa: PTH123
            file.write(b"rubbish")
    except OSError:
        pytest.skip("this file system holds UTF-8 names only")
    out = dsm("data", "check", folder, "--json", tmp_path / "l.json", "--clean", tmp_path / "clean.txt")
    assert out.returncode == 0, output_of(out)
    assert len(json.loads((tmp_path / "l.json").read_text())["files"]) == 3
    clean = read_list(tmp_path / "clean.txt")
    assert [clean.file(place) for place in range(len(clean))] == [folder / "good.mp4"]


def test_a_full_disk_error_names_the_file(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with (
        pytest.raises(OSError, match="No space") as caught,
        written_aside(tmp_path / "list.txt"),
        Path("/dev/full").open("w") as full,
    ):
        full.write("more than fits")
    assert caught.value.filename == str(tmp_path / "list.txt")
    with pytest.raises(OSError, match="No space") as caught, written_aside_folder(tmp_path / "frames"):
        raise OSError(28, "No space left on device")
    assert caught.value.filename == str(tmp_path / "frames")
    with (
        pytest.raises(OSError, match="No space") as caught,
        written_aside_folder(tmp_path / "frames") as aside,
    ):
        raise OSError(28, "No space left on device", str(aside / "a.jpg"))
    assert caught.value.filename == str(tmp_path / "frames" / "a.jpg")


def test_a_folder_that_cannot_be_made_is_named_as_the_user_knows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        if path.name.endswith(PART):
            raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OSError, match="Read-only") as caught, written_aside_folder(tmp_path / "out"):
        pytest.fail("it was made")
    assert caught.value.filename == str(tmp_path / "out")


def test_frame_counts_written_by_check_agree_with_truncated_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An mp4 with its index in front still promises all frames."""
    encoded = encode(tmp_path / "whole.mp4", "libx264", moving_frames(90))
    with (
        av.open(str(encoded)) as source,
        av.open(str(tmp_path / "front.mp4"), "w", options={"movflags": "faststart"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    content = (tmp_path / "front.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 2])
    (tmp_path / "list.txt").write_text("cut.mp4\nwhole.mp4\n")
    check(CheckConfig(tmp_path / "list.txt", clean=tmp_path / "clean.txt", workers=1))
    videos = read_list(tmp_path / "clean.txt")
    assert 10 < videos.frames[0] < 80
    clips = EvaluationClips(videos, ClipConfig(frames=4, stride=1, resize=32, size=32), windows=3, workers=0)
    list(load_clips(clips, 1, workers=0))
    assert "a different number of frames" not in capsys.readouterr().err
    wrong = replace(videos, frames=videos.frames + 20)
    clips = EvaluationClips(wrong, ClipConfig(frames=4, stride=1, resize=32, size=32), windows=3, workers=0)
    list(load_clips(clips, 1, workers=0))
    assert "a different number of frames" in capsys.readouterr().err
